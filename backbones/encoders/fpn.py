"""Feature pyramid network: the maps of another encoder, each combined with all coarser ones.

    M_l = conv1x1(C_l) + up2(M_{l+1})       C_l: the maps of the other encoder, from the coarsest to the finest
    P_l = conv3x3(M_l)                      up2: each value is repeated in two rows and columns

All P_l have the same number of channels, and none of these convolutions is followed by a nonlinearity. They are the encoder's
pyramid; its features are the spatial means of all maps.

Lin et al., 2017, https://arxiv.org/abs/1612.03144, section 3; weights begin as in the authors' code (Xavier).

Differences from the paper: 32 channels instead of 256, and any encoder with maps instead of a ResNet; no subsampled map is added
above the coarsest one.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rlbench.backbones.encoders import kind_of
from rlbench.backbones.encoders._base import Kind, Maps, at_least_one
from rlbench.backbones.options import inner_name
from rlbench.errors import UserError

Paths = Literal["both", "lateral", "top-down"]
TRIAL = 64
"""Rows and columns of the image with which the channels of maps are found."""


class FPN(nn.Module):
    """Another encoder's layers, and the top-down path from its coarsest map to its finest."""

    def __init__(
        self, bottom_up: nn.Module, channels: int, width: int, paths: Paths, only: int
    ) -> None:
        """See `fpn_layers`.

        Args:
            bottom_up: Layers with maps.
            channels: Channels of an image.
            width: Channels of every map.
            paths: See `fpn_layers`.
            only: See `fpn_layers`.
        """
        super().__init__()
        assert isinstance(bottom_up, Maps)
        self.bottom_up, self.paths = bottom_up, paths
        bottom_up.eval()  # A trial pass must change no statistics of batches.
        with torch.no_grad():
            maps = self._maps(torch.zeros(1, channels, TRIAL, TRIAL))
        bottom_up.train()
        strides = sorted(maps)
        if only and only not in maps:
            raise UserError(
                f"only of fpn is {only}, but its encoder has maps with strides {strides}; give one of these, or 0 for all"
            )
        self.strides = (only,) if only else tuple(strides)
        read = (
            strides[-1:] if paths == "top-down" else [x for x in strides if x >= min(self.strides)]
        )
        self.lateral = nn.ModuleDict({str(x): nn.Conv2d(maps[x].shape[1], width, 1) for x in read})
        self.out = nn.ModuleDict(
            {str(x): nn.Conv2d(width, width, 3, padding=1) for x in self.strides}
        )
        for layer in (*self.lateral.values(), *self.out.values()):
            assert isinstance(layer, nn.Conv2d)
            assert layer.bias is not None
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def _maps(self, x: Tensor) -> dict[int, Tensor]:
        """The other encoder's maps by stride."""
        found: dict[int, Tensor] = dict(
            zip(self.bottom_up.strides, self.bottom_up.maps(x), strict=True)
        )
        return found

    def maps(self, x: Tensor) -> list[Tensor]:
        """A map [B, width, H, W] for each of `strides`."""
        given = self._maps(x)
        merged: dict[int, Tensor] = {}
        above: Tensor | None = None
        for stride in sorted(given, reverse=True):
            if stride < min(self.strides):
                break
            here = self.lateral[str(stride)](given[stride]) if str(stride) in self.lateral else None
            if above is not None and self.paths != "lateral":
                above = F.interpolate(above, size=given[stride].shape[2:], mode="nearest")
                here = above if here is None else here + above
            assert here is not None
            merged[stride] = above = here
        return [self.out[str(stride)](merged[stride]) for stride in self.strides]

    def forward(self, x: Tensor) -> Tensor:
        """Spatial means of all maps, [B, width * maps]."""
        return torch.cat([found.mean((2, 3)) for found in self.maps(x)], dim=1)


def fpn_layers(
    channels: int,
    of: str = "conv4/layers=3/width=32/norm=gn",
    width: int = 32,
    paths: Paths = "both",
    only: int = 0,
) -> FPN:
    """The network.

    Args:
        channels: Channels of an image.
        of: The encoder whose maps are read (C_l), with its options after slashes, as in `resnet/units=1`.
        width: Channels of every map (paper: d, 256).
        paths: both; lateral, without the top-down path; top-down, without the lateral connections to the finer maps of the other encoder.
        only: Stride of the only map that is returned; 0: all.

    Raises:
        UserError: `of` has no maps, or the value of an option is not allowed.
    """
    at_least_one("fpn", width=width)
    name = inner_name(of)
    kind, options = kind_of(name)
    if kind.takes != "images":
        raise UserError(
            f"the encoder {name} of fpn takes {kind.takes}; give one for images, such as conv4"
        )
    layers = kind.layers(channels, **options)
    if not isinstance(layers, Maps):
        raise UserError(
            f"the encoder {name} of fpn has no pyramid of maps; give conv4, resnet, impala, mobilenet-v2 or mnasnet-a1"
        )
    return FPN(layers, channels, width, paths, only)


FPN_KIND = Kind(fpn_layers, "images", scale=1 / 255, memory_format=torch.channels_last)
