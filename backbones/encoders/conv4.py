"""Four convolutions, each followed by batch normalisation, a ReLU and max-pooling: the usual encoder of few-shot learning.

Vinyals et al., 2016, https://arxiv.org/abs/1606.04080, section 3.1; Snell et al., 2017, https://arxiv.org/abs/1703.05175,
section 3.1
"""

import torch
from torch import Tensor, nn

from rlbench.backbones.encoders._base import Kind, at_least_one
from rlbench.backbones.layers.convolution import Norm, normed_convolution
from rlbench.backbones.layers.pooling import LEVELS, Head, make_head


def conv4_layers(
    channels: int,
    width: int = 64,
    layers: int = 4,
    norm: Norm = "bn",
    head: Head = "flatten",
    levels: str = LEVELS,
) -> "Conv4":
    """Convolutions of 3x3 that keep the size, each followed by `norm`, a ReLU and max-pooling of 2x2.

    Args:
        channels: Channels of an image.
        width: Channels of every convolution.
        layers: Number of convolutions; each halves rows and columns, rounded down.
        norm: After every convolution.
        head: See `layers/pooling.py`; `flatten` in the papers.
        levels: See `make_head`.

    Raises:
        UserError: `width` or `layers` is below 1.
    """
    at_least_one("conv4", width=width, layers=layers)
    return Conv4(channels, width, layers, norm, make_head(head, levels))


class Conv4(nn.Sequential):
    """Convolution, normalisation, ReLU and max-pooling, `layers` times; then a head."""

    def __init__(self, channels: int, width: int, layers: int, norm: Norm, head: nn.Module) -> None:
        """See `conv4_layers`."""
        stages = [
            normed_convolution(width if layer else channels, width, 3, norm).append(nn.MaxPool2d(2))
            for layer in range(layers)
        ]
        super().__init__(*stages, head)
        self.strides = tuple(2 ** (layer + 1) for layer in range(layers))

    def maps(self, x: Tensor) -> list[Tensor]:
        """Output of each stage, [B, C, H, W] with strides 2, 4, 8, 16."""
        found = []
        for stage in [*self][:-1]:
            x = stage(x)
            found.append(x)
        return found


CONV4 = Kind(conv4_layers, "images", scale=1 / 255, memory_format=torch.channels_last)
