"""A small VGG network: blocks of two 3x3 convolutions with ReLUs, with pooling between the blocks.

    x_1 = image - MEAN,    y_i = relu(conv(relu(conv(x_i)))),    x_{i+1} = pool(y_i)         block i has i times `width` channels

The maps y_i are the encoder's pyramid. The defaults are for style transfer, for which random weights are enough: average pooling, which
Gatys et al. found to give slightly better pictures, and mirrored borders, because zeros around a picture would look like a frame.
Biases begin at 0, as in the paper, and the mean is subtracted, so that Gram matrices of untrained networks are not dominated by the brightness.

Simonyan & Zisserman, 2015, https://arxiv.org/abs/1409.1556; He et al., 2016, https://arxiv.org/abs/1606.04801, and Ustyuzhaninov et al., 2016,
https://arxiv.org/abs/1606.00021, for random weights

Differences from VGG: two convolutions in all blocks instead of up to four, fewer channels, and a head in place of three linear layers.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rlbench.backbones.encoders._base import Kind, at_least_one
from rlbench.backbones.layers.convolution import Norm, convolution, normalisation
from rlbench.backbones.layers.pooling import LEVELS, Head, make_head

MEAN = 0.449
"""Mean value of ImageNet's pixels, the average over the colours, where black is 0 and white is 1."""


class VGG(nn.Module):
    """The blocks, then the head."""

    def __init__(
        self, channels: int, width: int, blocks: int, pool: str, norm: Norm, head: nn.Module
    ) -> None:
        """See `vgg_layers`."""
        super().__init__()
        widths = [width * (block + 1) for block in range(blocks)]
        pairs = zip([channels, *widths], widths, strict=False)
        self.blocks = nn.ModuleList(_block(size, out, norm) for size, out in pairs)
        self.pool = F.avg_pool2d if pool == "average" else F.max_pool2d
        self.head = head
        self.strides = tuple(2**block for block in range(blocks))

    def maps(self, x: Tensor) -> list[Tensor]:
        """Output of each block, [B, C, H, W] with strides 1, 2, 4."""
        found = [self.blocks[0](x - MEAN)]
        for block in list(self.blocks)[1:]:
            found.append(block(self.pool(found[-1], 2)))
        return found

    def forward(self, x: Tensor) -> Tensor:
        """Features, [B, size]."""
        features: Tensor = self.head(self.maps(x)[-1])
        return features


def _block(channels: int, out: int, norm: Norm) -> nn.Sequential:
    """Two convolutions, each with its normalisation and a ReLU."""
    layers: list[nn.Module] = []
    for size in (channels, out):
        layer = convolution(size, out, 3, norm)
        layer.padding = (0, 0)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
        layers += [nn.ReflectionPad2d(1), layer, normalisation(norm, out), nn.ReLU()]
    return nn.Sequential(*layers)


def vgg_layers(
    channels: int,
    width: int = 32,
    blocks: int = 3,
    pool: Literal["average", "max"] = "average",
    norm: Norm = "none",
    head: Head = "gap",
    levels: str = LEVELS,
) -> VGG:
    """The network.

    Args:
        channels: Channels of an image.
        width: Channels of the first block (paper: 64).
        blocks: Number of blocks (paper: 5).
        pool: Pooling of 2x2 between blocks (paper: max).
        norm: After every convolution.
        head: From the last map to the features; see `layers/pooling.py`.
        levels: See `make_head`.

    Raises:
        UserError: The value of an option is not allowed.
    """
    at_least_one("vgg", width=width, blocks=blocks)
    return VGG(channels, width, blocks, pool, norm, make_head(head, levels))


VGG_KIND = Kind(vgg_layers, "images", scale=1 / 255, memory_format=torch.channels_last)
