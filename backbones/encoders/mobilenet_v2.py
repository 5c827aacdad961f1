"""MobileNetV2: inverted residual units with linear bottlenecks, for few multiply-adds.

A unit expands its thin input, filters each channel alone, and projects to a thin output:

    e = relu6(N(W1 x))             1x1, C to t C channels; left out if t = 1
    d = relu6(N(D e))              3x3, depthwise, stride s
    y = N(W2 d)                    1x1, t C to C' channels; linear
    out = x + y                    if s = 1 and C = C', else y

N is a normalisation. The projection is linear because a ReLU loses much of the information in maps with few channels. With stride 1
a unit takes H W t C (C + 9 + C') multiply-adds.

The network is a 3x3 convolution, the groups of units below and a 1x1 convolution (table 2 of the paper):

    | t | channels | units | stride | map of an image of 64 pixels |
    |---|---|---|---|---|
    | first convolution | 32 | 1 | `stem` | 64 |
    | 1 | 16 | 1 | 1 | 64 |
    | 6 | 24 | 2 | 2 | 32 |
    | 6 | 32 | 3 | 2 | 16 |
    | 6 | 64 | 4 | 2 | 8 |
    | 6 | 96 | 3 | 1 | 8 |
    | 6 | 160 | 3 | 2 | 4 |
    | 6 | 320 | 1 | 1 | 4 |
    | last convolution | 1280 | 1 | 1 | 4 |

Sandler et al., 2018, https://arxiv.org/abs/1801.04381, sections 3 and 6.4 (ablations)

Differences from the paper: `stem` is 1 and not 2, so that frames of 64 pixels end in 4x4 maps and not in 2x2 maps; all other strides
are kept. Group normalisation is the default, because an agent does not act on the batches that it learns from
(`stem=2,norm=bn` is the paper's network). The dropout before the classifier is not part of the encoder. The paper does not spell out
the shortcut between expansions; here it bypasses the depthwise convolution, in the units that would have the shortcut between bottlenecks.
"""

from functools import partial
from math import isfinite
from typing import Literal

import torch
from torch import Tensor, nn

from rlbench.architecture import rounded
from rlbench.backbones.encoders._base import Kind, at_least_one
from rlbench.backbones.layers.convolution import Norm, normed_convolution
from rlbench.backbones.layers.pooling import LEVELS, Head, make_head
from rlbench.backbones.layers.stages import Stages
from rlbench.errors import UserError

Bottleneck = Literal["linear", "relu6"]
"""What follows the projection: nothing, or the ReLU6 that the paper argues against (figure 6a)."""
Shortcut = Literal["bottleneck", "expansion", "none"]
"""What a shortcut connects: bottlenecks, expansions, or nothing (figure 6b)."""
FIRST, LAST = 32, 1280
"""Channels of the first and the last convolution."""
GROUPS = (
    (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
    (6, 320, 1, 1),
)  # fmt: skip
"""Expansion t, channels c, units n and stride s of the first unit (paper: table 2)."""


_normed = partial(normed_convolution, activation=nn.ReLU6)


class InvertedResidual(nn.Module):
    """One unit, [B, C, H, W] to [B, C', H / stride, W / stride], rounded up."""

    def __init__(
        self, channels: int, out: int, stride: int, expansion: int, norm: Norm,
        bottleneck: Bottleneck = "linear", shortcut: Shortcut = "bottleneck",
    ) -> None:  # fmt: skip
        """Reads `channels` channels and returns `out`; in between there are `expansion` times `channels`."""
        super().__init__()
        wide = expansion * channels
        self.expand = nn.Identity() if expansion == 1 else _normed(channels, wide, 1, norm)
        self.filter = _normed(wide, wide, 3, norm, stride, depthwise=True)
        after = nn.ReLU6 if bottleneck == "relu6" else None
        self.project = normed_convolution(wide, out, 1, norm, activation=after)
        self.shortcut: Shortcut = shortcut if stride == 1 and channels == out else "none"

    def forward(self, x: Tensor) -> Tensor:
        """See the equations of the module."""
        expanded = self.expand(x)
        filtered = self.filter(expanded)
        if self.shortcut == "expansion":
            filtered = expanded + filtered
        out: Tensor = self.project(filtered)
        return x + out if self.shortcut == "bottleneck" else out


def mobilenet_v2_layers(
    channels: int,
    width: float = 1.0,
    stem: int = 1,
    bottleneck: Bottleneck = "linear",
    shortcut: Shortcut = "bottleneck",
    norm: Norm = "gn",
    head: Head = "gap",
    levels: str = LEVELS,
) -> Stages:
    """The network.

    Args:
        channels: Channels of an image.
        width: Multiplier of all numbers of channels; below 1 it leaves the last one unchanged.
        stem: Stride of the first convolution.
        bottleneck: See `Bottleneck`.
        shortcut: See `Shortcut`.
        norm: See `Norm`.
        head: From the last map to the features; see `layers/pooling.py`.
        levels: See `make_head`.

    Raises:
        UserError: The value of an option is not allowed.
    """
    at_least_one("mobilenet-v2", stem=stem)
    if not (isfinite(width) and width > 0):
        raise UserError(f"width of mobilenet-v2 is {width}; give a number above 0")
    size = rounded(FIRST * width)
    first = _normed(channels, size, 3, norm, stem)
    layers: list[tuple[int, nn.Module]] = []
    for expansion, group, units, group_stride in GROUPS:
        for i in range(units):
            stride, out = group_stride if i == 0 else 1, rounded(group * width)
            unit = InvertedResidual(size, out, stride, expansion, norm, bottleneck, shortcut)
            layers.append((stride, unit))
            size = out
    layers.append((1, _normed(size, rounded(LAST * max(1.0, width)), 1, norm)))
    return Stages(first, stem, layers, make_head(head, levels))


MOBILENET_V2 = Kind(mobilenet_v2_layers, "images", scale=1 / 255, memory_format=torch.channels_last)
