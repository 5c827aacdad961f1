"""Heat maps of key points: a convolutional part detector, and a spatial model that passes messages between the maps.

Tompson et al., 2014, https://arxiv.org/abs/1406.2984, sections 3.1 and 3.2; `models/pose_mrf.py` has the equations.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FLOOR = 1e-6
"""Added to everything whose logarithm is taken."""
SHARPNESS = 5.0
"""beta of the SoftPlus."""
LEAST, START = 1e-3, 1e-2
"""Smallest kernel value at the start, as a share of the largest one, and the first value of the biases b."""


class PartDetector(nn.Module):
    """Unnormalised log-probabilities of the places of key points, from branches for several resolutions of the image.

    Branch n reads the image at 1 / 2^n of its resolution: an encoder, and a convolution of its coarsest map, enlarged to the size of the
    first branch. The branches are added, and two 1x1 convolutions follow.
    """

    def __init__(
        self,
        encoders: Sequence[nn.Module],
        shape: tuple[int, int, int],
        width: int,
        kernel: int,
        points: int,
    ) -> None:
        """Adds the head to the encoders of the branches.

        Args:
            encoders: An encoder with a pyramid of maps for each branch.
            shape: Channels, rows and columns of an image.
            width: Channels of the head.
            kernel: Odd side of its first convolutions.
            points: Number of key points (K).
        """
        super().__init__()
        self.encoders = nn.ModuleList(encoders)
        found = self.maps(torch.zeros(1, *shape))
        self.size = (found[0].shape[2], found[0].shape[3])
        """Rows and columns of the heat maps."""
        self.wide = nn.ModuleList(
            nn.Conv2d(x.shape[1], width, kernel, padding=kernel // 2) for x in found
        )
        self.mix = nn.Conv2d(width, width, 1)
        self.out = nn.Conv2d(width, points, 1)

    def maps(self, images: Tensor) -> list[Tensor]:
        """The coarsest map of each branch."""
        found = []
        for n, encoder in enumerate(self.encoders):
            smaller = images if n == 0 else F.avg_pool2d(images, 2**n)
            maps = encoder.pyramid(smaller)  # type: ignore[operator]
            found.append(maps[max(maps)])
        return found

    def forward(self, images: Tensor) -> Tensor:
        """Maps [B, K, h, w] of raw images [B, channels, H, W]."""
        both = zip(self.maps(images.float()), self.wide, strict=True)
        added: Tensor = sum(
            F.interpolate(wide(x), self.size, mode="bilinear", align_corners=False)
            for x, wide in both
        )  # type: ignore[assignment]
        out: Tensor = self.out(F.relu(self.mix(F.relu(added))))
        return out


def soft_plus(x: Tensor) -> Tensor:
    """SoftPlus(x) = log(1 + exp(beta x)) / beta."""
    return F.softplus(x, beta=SHARPNESS)


def inverse_soft_plus(y: Tensor) -> Tensor:
    """The x of a y = SoftPlus(x) above 0."""
    return y + torch.log(-torch.expm1(-SHARPNESS * y)) / SHARPNESS


def convolve(kernels: Tensor, maps: Tensor) -> Tensor:
    """Convolutions of maps with kernels that cover all displacements: out_{A,v}(x) = sum_y kernel_{A,v}(x - y) map_v(y), [B, A, K, h, w].

    Computed by fast Fourier transforms of 2h x 2w, in which displacements from -(h - 1) to h - 1 do not wrap around.

    Args:
        kernels: [A, K, 2h - 1, 2w - 1]; the displacement 0 is in the middle.
        maps: [B, K, h, w].
    """
    h, w = maps.shape[2:]
    if torch.onnx.is_in_onnx_export():  # ONNX's operators do not take complex numbers.
        points = len(kernels)
        flipped = kernels.transpose(0, 1).flip(2, 3).flatten(0, 1)[:, None]
        direct = F.conv2d(maps, flipped, padding=(h - 1, w - 1), groups=kernels.shape[1])
        by_pair: Tensor = direct.unflatten(1, (-1, points)).transpose(1, 2)
        return by_pair
    size = (2 * h, 2 * w)
    centred = F.pad(kernels, (0, 1, 0, 1)).roll((1 - h, 1 - w), (2, 3))
    product = torch.fft.rfft2(centred) * torch.fft.rfft2(maps, s=size)[:, None]
    found: Tensor = torch.fft.irfft2(product, s=size)[..., :h, :w]
    return found


class SpatialModel(nn.Module):
    """One round of messages between all key points, with a kernel of all displacements for each pair."""

    eye: Tensor

    def __init__(self, points: int, size: tuple[int, int]) -> None:
        """Kernels are uniform at first: all displacements are equally likely.

        Args:
            points: Number of key points (K).
            size: Rows and columns of the heat maps.
        """
        super().__init__()
        h, w = size
        one, first = (inverse_soft_plus(torch.tensor(x)) for x in (1.0, START))
        self.kernels = nn.Parameter(one.repeat(points, points, 2 * h - 1, 2 * w - 1))
        self.biases = nn.Parameter(first.repeat(points, points, h, w))
        self.register_buffer("eye", torch.eye(points), persistent=False)

    @torch.no_grad()
    def start(self, counts: Tensor) -> None:
        """Sets the kernels to a histogram of displacements, [K, K, 2h - 1, 2w - 1]; without counts a kernel stays uniform."""
        largest = counts.amax((2, 3), keepdim=True)
        share = torch.where(largest > 0, counts / largest.clamp(min=1), 1.0)
        self.kernels.copy_(inverse_soft_plus(share.clamp(min=LEAST)))

    def forward(self, heat: Tensor) -> Tensor:
        """Unnormalised log-probabilities log e_A, [B, K, h, w], from probabilities p_v of the same shape."""
        messages = convolve(soft_plus(self.kernels), heat).clamp(min=0)
        factors = (messages + soft_plus(self.biases) + FLOOR).log()
        others = (1 - self.eye)[..., None, None]
        return (heat + FLOOR).log() + (factors * others).sum(2)


class PoseNetwork(nn.Module):
    """A part detector and a spatial model."""

    def __init__(
        self,
        encoders: Sequence[nn.Module],
        shape: tuple[int, int, int],
        width: int,
        kernel: int,
        points: int,
    ) -> None:
        """See `PartDetector`."""
        super().__init__()
        self.detector = PartDetector(encoders, shape, width, kernel, points)
        self.spatial = SpatialModel(points, self.detector.size)

    def forward(self, images: Tensor, *, spatial: bool = True) -> Tensor:
        """Unnormalised log-probabilities of places, [B, K, h, w], of the spatial model or of the detector alone.

        Args:
            images: Raw values, [B, channels, H, W].
            spatial: Whether the spatial model is used.
        """
        logits: Tensor = self.detector(images)
        return self.spatial(probabilities(logits)) if spatial else logits


def probabilities(logits: Tensor) -> Tensor:
    """The softmax over the places of each map [..., h, w]."""
    return logits.flatten(-2).softmax(-1).view(logits.shape)


def channels_first(obs: Tensor, channels: int) -> Tensor:
    """Images [B, channels, H, W] of images with their channels first or last."""
    return obs if obs.shape[1] == channels else obs.movedim(-1, 1)
