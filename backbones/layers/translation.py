"""Networks that translate pictures into pictures, the discriminators that judge them, and their losses.

The generator G is a convolution of 7x7, strided convolutions, residual blocks and transposed convolutions. A discriminator D judges patches; several of
them see the input at several scales. With scores D(x) for each patch and maps D_l(x) of the layers before them, summed over discriminators,

    L_D  = (mean (D(real) - 1)^2 + mean D(fake)^2) / 2
    L_G  = mean (D(fake) - 1)^2
    L_FM = sum over l of 4 / (N D) |D_l(real) - D_l(fake)|_1        N = 4 layers, D discriminators
    L_P  = sum over k of w_k |phi_k(real) - phi_k(fake)|_1          phi: maps of a network that does not learn; w = ..., 1/8, 1/4, 1

with means in place of norms. Pictures have values from -1 to 1.

Wang et al., 2018 (pix2pixHD), https://arxiv.org/abs/1711.11585, sections 3.2 and 3.3; Mao et al., 2017 (LSGAN), https://arxiv.org/abs/1611.04076
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Judged = list[list[Tensor]]
"""Maps of each layer of each discriminator, fine scale first; the last ones are the scores."""
LAYERS = 4
WEIGHTS = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1)
"""Weights of maps in the perceptual loss, from fine to coarse; of fewer maps, the last ones."""


class Residual(nn.Module):
    """Two convolutions with instance normalisation, and a shortcut."""

    def __init__(self, width: int) -> None:
        """Maps keep their size and their `width` channels."""
        super().__init__()
        self.layers = nn.Sequential(
            nn.ReflectionPad2d(1), nn.Conv2d(width, width, 3), nn.InstanceNorm2d(width), nn.ReLU(),
            nn.ReflectionPad2d(1), nn.Conv2d(width, width, 3), nn.InstanceNorm2d(width),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to the same shape."""
        return x + self.layers(x)  # type: ignore[no-any-return]


def make_generator(
    channels: int, out: int, width: int, halvings: int, blocks: int
) -> nn.Sequential:
    """A network from [B, channels, H, W] to [B, out, H, W], values from -1 to 1.

    Args:
        channels: Channels of the input.
        out: Channels of the output.
        width: Channels at the size of the picture, doubled with each halving.
        halvings: Number of strided convolutions; rows and columns are multiples of 2 to this power.
        blocks: Number of residual blocks.
    """
    widths = [width * 2**i for i in range(halvings + 1)]
    layers: list[nn.Module] = [nn.ReflectionPad2d(3), nn.Conv2d(channels, width, 7)]
    layers += [nn.InstanceNorm2d(width), nn.ReLU()]
    for fine, coarse in pairwise(widths):
        layers += [nn.Conv2d(fine, coarse, 3, 2, 1), nn.InstanceNorm2d(coarse), nn.ReLU()]
    layers += [Residual(widths[-1]) for _ in range(blocks)]
    for fine, coarse in reversed(list(pairwise(widths))):
        layers += [nn.ConvTranspose2d(coarse, fine, 3, 2, 1, 1), nn.InstanceNorm2d(fine), nn.ReLU()]
    return nn.Sequential(*layers, nn.ReflectionPad2d(3), nn.Conv2d(width, out, 7), nn.Tanh())


class Patches(nn.Module):
    """A discriminator of patches, with four convolutions of 4x4."""

    def __init__(self, channels: int, width: int) -> None:
        """Reads pictures with `channels` channels; the first layer has `width`."""
        super().__init__()
        sizes = [channels, width, 2 * width, 4 * width, 1]
        self.layers = nn.ModuleList()
        for number, (size, out) in enumerate(pairwise(sizes)):
            first, last = number == 0, number == LAYERS - 1
            parts: list[nn.Module] = [nn.Conv2d(size, out, 4, 2 if number < 2 else 1, 2)]
            parts += [] if first or last else [nn.InstanceNorm2d(out)]
            parts += [] if last else [nn.LeakyReLU(0.2)]
            self.layers.append(nn.Sequential(*parts))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Maps of all layers; the last one is the score of each patch, [B, 1, H', W']."""
        found = []
        for layer in self.layers:
            x = layer(x)
            found.append(x)
        return found


class MultiScale(nn.Module):
    """Discriminators of the picture and of the picture at half, a quarter, ... of its size."""

    def __init__(self, channels: int, width: int, scales: int) -> None:
        """See `Patches`."""
        super().__init__()
        self.scales = nn.ModuleList(Patches(channels, width) for _ in range(scales))

    def forward(self, x: Tensor) -> Judged:
        """See `Judged`; x is [B, C, H, W]."""
        found = []
        for number, scale in enumerate(self.scales):
            if number:
                x = F.avg_pool2d(x, 3, 2, 1, count_include_pad=False)
            found.append(scale(x))
        return found


def judgement(judged: Judged, wanted: float) -> Tensor:
    """Mean squared distance of the scores from `wanted`, summed over discriminators."""
    return torch.stack([(each[-1] - wanted).square().mean() for each in judged]).sum()


def discriminator_loss(real: Judged, fake: Judged) -> Tensor:
    """L_D of the module."""
    return (judgement(real, 1.0) + judgement(fake, 0.0)) / 2


def feature_matching(real: Judged, fake: Judged) -> Tensor:
    """L_FM of the module; no gradients reach `real`."""
    pairs = [
        (x.detach(), y) for one, other in zip(real, fake, strict=True) for x, y in zip(one[:-1], other[:-1], strict=True)
    ]  # fmt: skip
    return torch.stack([(x - y).abs().mean() for x, y in pairs]).sum() * 4 / (LAYERS * len(real))


def perceptual_loss(real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
    """L_P of the module, of maps from fine to coarse; no gradients reach `real`."""
    weights = WEIGHTS[-len(real) :]
    parts = [w * (x.detach() - y).abs().mean() for w, x, y in zip(weights, real, fake, strict=True)]
    return torch.stack(parts).sum()
