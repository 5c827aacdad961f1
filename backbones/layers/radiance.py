"""Fields of colour and density, and the pictures that cameras take of them."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rlbench.backbones.layers.se3 import moved

CAMERA = 15
"""Numbers of a camera: position [3], rotation [9], focal length in pixels, smallest and largest depth."""
SKIP = 4
"""The layer, counted from 0, that reads the network's input again."""
SMALL = 1e-4
"""Largest absolute weight of the warp's last layer at the start."""


@dataclass(frozen=True)
class Rays:
    """Rays of pixels; a point is origin + depth * direction, so that depths are distances along the camera's axis."""

    origin: Tensor
    """[R, 3]."""
    direction: Tensor
    """[R, 3]; not of length 1."""
    near: Tensor
    """Smallest depth, [R, 1]."""
    far: Tensor
    """Largest depth, [R, 1]."""


def rays_of(camera: Tensor, row: Tensor, column: Tensor, size: tuple[int, int]) -> Rays:
    """The rays of the middles of pixels; the camera looks against its third axis, as in OpenGL and MuJoCo.

    Args:
        camera: Numbers of the camera of each ray, [R, 15]; see `CAMERA`.
        row: Row of each pixel, [R].
        column: Column of each pixel, [R].
        size: Rows and columns of the pictures.
    """
    origin, rotation, focal, bounds = camera.split([3, 9, 1, 2], dim=1)
    across, down = column + 0.5 - size[1] / 2, row + 0.5 - size[0] / 2
    plane = torch.stack([across, -down], dim=1) / focal
    local = torch.cat([plane, -torch.ones_like(focal)], dim=1)
    direction = (rotation.view(-1, 3, 3) @ local[..., None]).squeeze(-1)
    near, far = bounds.split(1, dim=1)
    return Rays(origin, direction, near, far)


def spread_depths(rays: Rays, samples: int, noise: Tensor | None = None) -> Tensor:
    """Depths in equal intervals from near to far, one in each, [R, S].

    Args:
        rays: The rays.
        samples: S.
        noise: Place in each interval, [R, S] from 0 to 1; None: the middle.
    """
    first = torch.arange(samples, device=rays.near.device)
    share = (first + (0.5 if noise is None else noise)) / samples
    return rays.near + (rays.far - rays.near) * share


def refined_depths(depth: Tensor, weight: Tensor, places: Tensor) -> Tensor:
    """The given depths, and further ones where the weights are large, in order, [R, S + N].

    The further ones are drawn from the density that is constant between the middles of neighbouring depths and has there the weight of the depth
    in between.

    Args:
        depth: Depths in order, [R, S], S >= 3.
        weight: Their weights, [R, S].
        places: Values of the distribution function, [R, N] from 0 to 1.
    """
    edges = (depth[:, 1:] + depth[:, :-1]) / 2
    inner = weight[:, 1:-1].detach() + 1e-5
    cumulative = F.pad((inner / inner.sum(1, keepdim=True)).cumsum(1), (1, 0))
    right = torch.searchsorted(cumulative, places.contiguous(), right=True)
    right = right.clamp(1, edges.shape[1] - 1)
    low, high = (cumulative.gather(1, i) for i in (right - 1, right))
    start, end = (edges.gather(1, i) for i in (right - 1, right))
    share = ((places - low) / (high - low).clamp(min=1e-5)).clamp(0, 1)
    return torch.cat([depth, start + share * (end - start)], dim=1).sort(dim=1).values


def rendering_weights(density: Tensor, depth: Tensor, length: Tensor) -> Tensor:
    """The share of each sample in the colour of its ray, [R, S].

        w_i = T_i (1 - exp(-sigma_i d_i)),   T_i = exp(-sum_{j<i} sigma_j d_j)

    The last sample also stands for everything behind it.

    Args:
        density: sigma, [R, S].
        depth: Depths in order, [R, S].
        length: Length of the directions, [R, 1].
    """
    optical = density[:, :-1] * depth.diff(dim=1) * length
    passed = F.pad(-optical.cumsum(1), (1, 0)).exp()
    return torch.cat([passed[:, :-1] - passed[:, 1:], passed[:, -1:]], dim=1)


def window(bands: int, alpha: float) -> Tensor:
    """Weights of frequency bands that are added one after the other as alpha grows from 0 to their number, [bands].

    >>> window(3, 1.5)
    tensor([1.0000, 0.5000, 0.0000])
    """
    place = (alpha - torch.arange(bands)).clamp(0, 1)
    return (1 - (math.pi * place).cos()) / 2


def encoded(x: Tensor, bands: int, weight: Tensor | None = None) -> Tensor:
    """x, and the sines and cosines of 2^j x for j = 0, ..., bands - 1, [..., D + 2 bands D].

    Args:
        x: [..., D].
        bands: Number of frequencies.
        weight: Weight of each frequency, [bands]; None: 1.
    """
    scale = 2.0 ** torch.arange(bands, device=x.device)
    angles = scale[:, None] * x[..., None, :]
    waves = torch.stack([angles.sin(), angles.cos()], dim=-3)
    if weight is not None:
        waves = waves * weight[:, None]
    return torch.cat([x, waves.flatten(-3)], dim=-1)


class Trunk(nn.Module):
    """Linear layers, each followed by a ReLU, with the input given again to layer `SKIP`."""

    def __init__(self, in_size: int, width: int, depth: int) -> None:
        """`depth` layers of `width` units."""
        super().__init__()
        sizes = [in_size, *[width] * (depth - 1)]
        if depth > SKIP:
            sizes[SKIP] += in_size
        self.layers = nn.ModuleList(nn.Linear(size, width) for size in sizes)
        for layer in self.layers:
            start(layer)

    def forward(self, x: Tensor) -> Tensor:
        """Features [..., width] of inputs [..., in_size]."""
        out = x
        for place, layer in enumerate(self.layers):
            if place == SKIP:
                out = torch.cat([out, x], dim=-1)
            out = F.relu(layer(out))
        return out


def start(layer: nn.Module) -> None:
    """Sets the weights of a linear layer as Glorot & Bengio (2010) do, and its bias to 0."""
    assert isinstance(layer, nn.Linear)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)


class RadianceField(nn.Module):
    """NeRF: the colour and the density at points; the colour also depends on the direction of the ray.

    Mildenhall et al., 2020, https://arxiv.org/abs/2003.08934, section 5.3 and figure 7; densities by softplus, as in Nerfies
    """

    def __init__(
        self, width: int, depth: int, bands: int, direction_bands: int, code_size: int = 0
    ) -> None:
        """A trunk for the density and a further layer for the colour.

        Args:
            width: Units of the trunk's layers; the layer of the colour has half as many.
            depth: Layers of the trunk.
            bands: Frequencies of the encoding of points.
            direction_bands: Frequencies of the encoding of directions.
            code_size: Size of a code that the trunk also reads; 0 for none.
        """
        super().__init__()
        self.bands, self.direction_bands = bands, direction_bands
        self.trunk = Trunk(3 + 6 * bands + code_size, width, depth)
        self.density = nn.Linear(width, 1)
        self.bottleneck = nn.Linear(width, width)
        self.first = nn.Linear(width + 3 + 6 * direction_bands, max(width // 2, 1))
        self.last = nn.Linear(max(width // 2, 1), 3)
        for layer in (self.density, self.bottleneck, self.first, self.last):
            start(layer)

    def forward(
        self, x: Tensor, direction: Tensor, code: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Colours [R, S, 3] from 0 to 1, and densities [R, S].

        Args:
            x: Points, [R, S, 3].
            direction: Unit directions of the rays, [R, 3].
            code: Codes of the rays, [R, C], if the field has one.
        """
        read = encoded(x, self.bands)
        if code is not None:
            read = torch.cat([read, code[:, None].expand(-1, x.shape[1], -1)], dim=-1)
        features = self.trunk(read)
        density = F.softplus(self.density(features)).squeeze(-1)
        # The directions' part of the layer is computed once for each ray.
        width = features.shape[-1]
        of_features, of_direction = self.first.weight.split(
            [width, self.first.in_features - width], dim=1
        )
        seen = F.linear(encoded(direction, self.direction_bands), of_direction, self.first.bias)
        colour = F.relu(F.linear(self.bottleneck(features), of_features) + seen[:, None])
        return self.last(colour).sigmoid(), density


class WarpField(nn.Module):
    """A rigid motion at each point, which depends on a code: from points of a frame to the canonical scene.

    Park et al., 2021, https://arxiv.org/abs/2011.12948, section 3.2
    """

    def __init__(self, width: int, depth: int, bands: int, code_size: int) -> None:
        """A trunk with a linear layer for the screw; at first hardly anything moves."""
        super().__init__()
        self.bands = bands
        self.trunk = Trunk(3 + 6 * bands + code_size, width, depth)
        self.screw = nn.Linear(width, 6)
        nn.init.uniform_(self.screw.weight, -SMALL, SMALL)
        nn.init.zeros_(self.screw.bias)

    def forward(self, x: Tensor, code: Tensor, weight: Tensor | None = None) -> Tensor:
        """Points [..., 3] in the canonical scene.

        Args:
            x: Points of a frame, [..., 3].
            code: Code of the frame of each point, [..., C].
            weight: Weight of each frequency band, [bands]; None: 1.
        """
        features = self.trunk(torch.cat([encoded(x, self.bands, weight), code], dim=-1))
        rotation, translation = self.screw(features).split(3, dim=-1)
        return moved(rotation, translation, x)

    def jacobians(self, x: Tensor, code: Tensor, weight: Tensor | None = None) -> Tensor:
        """Derivatives of the warped points by the points, [N, 3, 3]; see `forward`."""
        derivative = torch.func.vmap(torch.func.jacfwd(self.forward), in_dims=(0, 0, None))
        found: Tensor = derivative(x, code, weight)
        return found


def log_stretches(jacobian: Tensor) -> Tensor:
    """Logarithms of the singular values of Jacobians [N, 3, 3], [N, 3]; 0 where a map is rigid."""
    stretches: Tensor = torch.linalg.svdvals(jacobian)
    return stretches.clamp(min=1e-6).log()


def geman_mcclure(square: Tensor, scale: float) -> Tensor:
    """Robust loss of squared residuals: scale * 2 y / (y + 4) with y = square / scale^2; half of y for small y, at most 2.

    The scale is also a factor, as in the authors' code.

    Args:
        square: Squared residuals, of any shape.
        scale: Residual at which the loss begins to level off.
    """
    y = square / scale**2
    return scale * 2 * y / (y + 4)
