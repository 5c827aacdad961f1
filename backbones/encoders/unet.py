"""U-Net: convolutions that downsample to a small map and upsample again, with shortcuts from the way down to the way up.

    down:  x_i = pool(z_{i-1}),   z_i = C(C(x_i))         the width doubles with each pooling
    up:    y_i = C(C([z_i, up(y_{i+1})]))                 up: transposed conv2x2 with stride 2, halves the width

with C = relu(N(conv3x3)). The maps y_i are the encoder's pyramid.

Ronneberger et al., 2015, https://arxiv.org/abs/1505.04597

Differences from the paper: convolutions are padded, so that maps keep their size; C has a normalisation, by default group
normalisation; the head reads the last map, where the paper has a 1x1 convolution to classes.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rlbench.backbones.encoders._base import Kind, at_least_one
from rlbench.backbones.layers.convolution import Norm, convolution, normalisation
from rlbench.backbones.layers.pooling import LEVELS, Head, make_head


class UNet(nn.Module):
    """Blocks on the way down and up, then the head."""

    def __init__(self, channels: int, width: int, pools: int, norm: Norm, head: nn.Module) -> None:
        """See `unet_layers`."""
        super().__init__()
        widths = [width * 2**i for i in range(pools + 1)]
        sizes = [channels, *widths]
        self.down = nn.ModuleList(
            _block(size, out, norm) for size, out in zip(sizes, widths, strict=False)
        )
        self.enlarge, self.up = nn.ModuleList(), nn.ModuleList()
        for out in reversed(widths[:-1]):
            self.enlarge.append(nn.ConvTranspose2d(2 * out, out, 2, stride=2))
            self.up.append(_block(2 * out, out, norm))
        self.head = head
        self.strides = tuple(2**i for i in reversed(range(pools + 1)))

    def maps(self, x: Tensor) -> list[Tensor]:
        """The smallest map and the maps on the way up, [B, C, H, W]."""
        kept = [self.down[0](x)]
        for block in list(self.down)[1:]:
            kept.append(block(F.max_pool2d(kept[-1], 2)))
        found = [kept.pop()]
        for enlarge, block in zip(self.enlarge, self.up, strict=True):
            skipped = kept.pop()
            large = enlarge(found[-1])
            # A row or column is missing where the pooling dropped one.
            missing = [skipped.shape[i] - large.shape[i] for i in (2, 3)]
            large = F.pad(large, (0, missing[1], 0, missing[0]))
            found.append(block(torch.cat([skipped, large], dim=1)))
        return found

    def forward(self, x: Tensor) -> Tensor:
        """Features, [B, size]."""
        features: Tensor = self.head(self.maps(x)[-1])
        return features


def _block(channels: int, out: int, norm: Norm) -> nn.Sequential:
    """Two 3x3 convolutions, each with normalisation and ReLU."""
    layers: list[nn.Module] = []
    for size in (channels, out):
        layers += [convolution(size, out, 3, norm), normalisation(norm, out), nn.ReLU()]
    return nn.Sequential(*layers)


def unet_layers(
    channels: int,
    width: int = 16,
    pools: int = 3,
    norm: Norm = "gn",
    head: Head = "gap",
    levels: str = LEVELS,
) -> UNet:
    """The network.

    Args:
        channels: Channels of an image.
        width: Number of maps of the first block (paper: 64).
        pools: Number of poolings (paper: 4).
        norm: See `Norm`.
        head: From the last map to the features; see `layers/pooling.py`.
        levels: See `make_head`.

    Raises:
        UserError: The value of an option is not allowed.
    """
    at_least_one("unet", width=width, pools=pools)
    return UNet(channels, width, pools, norm, make_head(head, levels))


UNET = Kind(unet_layers, "images", scale=1 / 255, memory_format=torch.channels_last)
