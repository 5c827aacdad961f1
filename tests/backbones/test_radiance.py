"""Radiance fields: rays, samples, weights and encodings by hand, warps near identity, stretches of rotations."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from rlbench.backbones.layers.radiance import (
    SKIP,
    RadianceField,
    Rays,
    Trunk,
    WarpField,
    encoded,
    geman_mcclure,
    log_stretches,
    rays_of,
    refined_depths,
    rendering_weights,
    spread_depths,
    window,
)
from rlbench.backbones.layers.se3 import moved


def camera(position: list[float], rotation: Tensor, focal: float = 4.0) -> Tensor:
    return torch.cat([torch.tensor(position), rotation.flatten(), torch.tensor([focal, 1.0, 5.0])])


def test_a_camera_looks_against_its_third_axis_with_rows_downwards() -> None:
    view = camera([1, 2, 3], torch.eye(3)).expand(3, -1)
    row, column = torch.tensor([0, 3, 3]), torch.tensor([0, 3, 5])
    rays = rays_of(view, row, column, (6, 8))
    wanted = [[-3.5 / 4, 2.5 / 4, -1], [-0.5 / 4, -0.5 / 4, -1], [1.5 / 4, -0.5 / 4, -1]]
    torch.testing.assert_close(rays.direction, torch.tensor(wanted))
    torch.testing.assert_close(rays.origin, torch.tensor([[1.0, 2, 3]] * 3))
    assert rays.near.tolist() == [[1.0]] * 3
    assert rays.far.tolist() == [[5.0]] * 3


def test_the_ray_of_the_pixel_that_shows_a_point_passes_through_it() -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        w, v = torch.randn(2, 3, generator=generator)
        columns = [moved(w, torch.zeros(3), torch.eye(3)[i]) for i in range(3)]
        rotation, point = torch.stack(columns, dim=1), 0.3 * torch.randn(3, generator=generator)
        position = v + 3 * rotation[:, 2]
        own = rotation.T @ (v + point - position)  # In the space of the camera.
        column, row = 4 + 4 * own[0] / -own[2] - 0.5, 3 - 4 * own[1] / -own[2] - 0.5
        view = camera(position.tolist(), rotation)[None]
        rays = rays_of(view, row[None], column[None], (6, 8))
        nearest = rays.origin - own[2] * rays.direction
        assert float((nearest - v - point).norm()) < 1e-4


def rays(count: int = 1, near: float = 1.0, far: float = 5.0) -> Rays:
    one = torch.ones(count, 1)
    return Rays(torch.zeros(count, 3), torch.ones(count, 3), near * one, far * one)


def test_depths_are_one_in_each_interval() -> None:
    assert spread_depths(rays(), 4).tolist() == [[1.5, 2.5, 3.5, 4.5]]
    noise = torch.tensor([[0.0, 0.5, 0.25, 1.0]])
    assert spread_depths(rays(), 4, noise).tolist() == [[1.0, 2.5, 3.25, 5.0]]


def test_a_ray_of_two_samples_by_hand() -> None:
    density, depth = torch.tensor([[2.0, 7.0]]), torch.tensor([[1.0, 1.5]])
    length = torch.tensor([[3.0]])
    first = 1 - math.exp(-2 * 0.5 * 3)
    torch.testing.assert_close(
        rendering_weights(density, depth, length), torch.tensor([[first, 1 - first]])
    )


def test_weights_are_those_of_the_sum_over_samples() -> None:
    generator = torch.Generator().manual_seed(0)
    density = 3 * torch.rand(5, 9, generator=generator)
    depth = (4 * torch.rand(5, 9, generator=generator)).sort(1).values
    length = 1 + torch.rand(5, 1, generator=generator)
    found = rendering_weights(density, depth, length)
    for r in range(5):
        passed = 1.0
        for i in range(9):
            last = i == 8
            optical = float(density[r, i] * (depth[r, min(i + 1, 8)] - depth[r, i]) * length[r])
            opaque = 1.0 if last else 1 - math.exp(-optical)
            assert float(found[r, i]) == pytest.approx(passed * opaque, abs=1e-6)
            passed *= 1 - opaque
    assert float(found.min()) >= 0
    assert float(found.sum(1).max()) <= 1 + 1e-6


def test_finer_depths_are_where_the_weights_are() -> None:
    depth = torch.tensor([[1.0, 2, 3, 4, 5]])
    weight = torch.tensor([[0.5, 0, 1, 0, 0.5]])
    places = torch.tensor([[0.25, 0.5, 0.75]])
    found = refined_depths(depth, weight, places)
    # All weight between the neighbours is on the third sample, from 2.5 to 3.5.
    torch.testing.assert_close(
        found, torch.tensor([[1, 2, 2.75, 3, 3, 3.25, 4, 5]]), atol=1e-4, rtol=0
    )
    both = torch.tensor([[0.0, 3, 1, 0, 0.0]])
    found = refined_depths(depth, both, torch.tensor([[0.375, 0.75, 0.875]]))
    torch.testing.assert_close(found, torch.tensor([[1, 2, 2, 2.5, 3, 3, 4, 5]]), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("alpha", "weights"),
    [
        (0.0, [0, 0, 0]), (1.0, [1, 0, 0]), (3.0, [1, 1, 1]), (9.0, [1, 1, 1]),
        (2.25, [1, 1, (1 - math.cos(math.pi / 4)) / 2]),
    ],
)  # fmt: skip
def test_frequencies_come_in_one_after_the_other(alpha: float, weights: list[float]) -> None:
    torch.testing.assert_close(window(3, alpha), torch.tensor(weights, dtype=torch.float32))


def test_an_encoding_by_hand() -> None:
    x, sin, cos = torch.tensor([0.3, -1.0]), math.sin, math.cos
    wanted = [0.3, -1, sin(0.3), sin(-1), sin(0.6), sin(-2), cos(0.3), cos(-1), cos(0.6), cos(-2)]
    torch.testing.assert_close(encoded(x, 2), torch.tensor(wanted))
    half = encoded(x, 2, torch.tensor([1.0, 0.5]))
    scale = torch.tensor([1, 1, 1, 1, 0.5, 0.5, 1, 1, 0.5, 0.5])
    torch.testing.assert_close(half, scale * torch.tensor(wanted))
    assert encoded(x, 0).tolist() == x.tolist()


def test_layer_four_reads_the_input_again() -> None:
    deep = Trunk(5, 8, SKIP + 2)
    weights = [parameter for name, parameter in deep.named_parameters() if "weight" in name]
    assert [x.shape[1] for x in weights] == [5, 8, 8, 8, 13, 8]
    with torch.no_grad():
        for weight in weights[:SKIP]:
            weight.zero_()
    out = deep(torch.randn(4, 5))
    assert bool((out[0] != out[1]).any())
    assert len(Trunk(5, 8, SKIP).layers) == SKIP


def test_the_colour_depends_on_direction_and_code_as_in_one_joined_layer() -> None:
    torch.manual_seed(0)
    field = RadianceField(8, 2, bands=2, direction_bands=1, code_size=3)
    x, direction, code = torch.randn(4, 5, 3), torch.randn(4, 3), torch.randn(4, 3)
    colour, density = field(x, direction, code)
    assert colour.shape == (4, 5, 3)
    read = torch.cat([encoded(x, 2), code[:, None].expand(4, 5, 3)], -1)
    features = field.trunk(read)
    torch.testing.assert_close(density, field.density(features)[..., 0].exp().log1p())
    seen = encoded(direction, 1)[:, None].expand(4, 5, 9)
    hidden = field.first(torch.cat([field.bottleneck(features), seen], -1)).relu()
    torch.testing.assert_close(colour, field.last(hidden).sigmoid())


def warp(code_size: int = 2, **settings: Any) -> WarpField:
    torch.manual_seed(1)
    return WarpField(**{"width": 16, "depth": 2, "bands": 3, "code_size": code_size} | settings)


def test_hardly_anything_moves_at_the_start() -> None:
    field = warp(width=64, depth=3, bands=6, code_size=8)
    x, code = 2 * torch.rand(500, 3) - 1, 0.05 * torch.rand(500, 8)
    moves = (field(x, code, window(6, 0.0)) - x).norm(dim=1)
    assert 0 < float(moves.max()) < 1e-3


def test_jacobians_are_those_of_automatic_differentiation() -> None:
    field = warp()
    with torch.no_grad():
        field.screw.weight.normal_(0, 0.3)
    x, code, weight = torch.randn(4, 3), torch.randn(4, 2), window(3, 1.5)
    found = field.jacobians(x, code, weight)
    for row in range(4):
        wanted = torch.autograd.functional.jacobian(
            lambda point, c=code[row]: field(point, c, weight), x[row]
        )
        torch.testing.assert_close(found[row], wanted)
    gradients = torch.autograd.grad(log_stretches(found).square().sum(), list(field.parameters()))
    assert all(torch.isfinite(g).all() for g in gradients)


def test_rotations_do_not_stretch() -> None:
    w = torch.randn(6, 3)
    rotation = torch.stack([moved(w, torch.zeros(3), torch.eye(3)[i].expand(6, 3)) for i in range(3)], -1)  # fmt: skip
    found = log_stretches(rotation)
    torch.testing.assert_close(found, torch.zeros(6, 3), atol=1e-5, rtol=0)
    assert float(geman_mcclure(found.square().sum(1), 0.03).max()) < 1e-6
    doubled = log_stretches(rotation * torch.tensor([1.0, 2.0, 1.0]))
    torch.testing.assert_close(doubled[:, 0], torch.full((6,), math.log(2)))


def test_a_robust_loss_by_hand() -> None:
    square = torch.tensor([0.0, 0.0009, 0.0036, 1e6])
    torch.testing.assert_close(geman_mcclure(square, 0.03), torch.tensor([0, 0.012, 0.03, 0.06]))
