"""Rigid motions: against the matrix exponential, at small angles, and their gradients there."""

import pytest
import torch
from torch import Tensor

from rlbench.backbones.layers.se3 import SERIES_BELOW, coefficients, moved


def by_matrix(w: Tensor, v: Tensor, x: Tensor) -> Tensor:
    """One point after the exponential of a screw, as a product of 4x4 matrices."""
    linalg = pytest.importorskip("scipy.linalg")
    (a, b, c), zero = w.double().tolist(), 0.0
    screw = torch.tensor(
        [[zero, -c, b, v[0]], [c, zero, -a, v[1]], [-b, a, zero, v[2]], [0, 0, 0, 0]],
        dtype=torch.float64,
    )
    matrix = torch.from_numpy(linalg.expm(screw.numpy()))
    return (matrix @ torch.cat([x.double(), torch.ones(1, dtype=torch.float64)]))[:3].float()


@pytest.mark.parametrize("angle", [0.0, 1e-8, 1e-4, 0.1, 0.49, 0.51, 1.0, 3.0, 7.0])
def test_motions_are_those_of_the_matrix_exponential(angle: float) -> None:
    generator = torch.Generator().manual_seed(round(100 * angle))
    w, v, x = torch.randn(3, 20, 3, generator=generator)
    w = angle * w / w.norm(dim=1, keepdim=True)
    found = moved(w, v, x)
    for row in range(20):
        torch.testing.assert_close(found[row], by_matrix(w[row], v[row], x[row]), atol=1e-5, rtol=0)


def test_a_quarter_turn_and_a_shift_by_hand() -> None:
    turn = torch.tensor([0, 0, torch.pi / 2])
    x = torch.tensor([1.0, 0, 5])
    torch.testing.assert_close(moved(turn, torch.zeros(3), x), torch.tensor([0.0, 1, 5]))
    torch.testing.assert_close(
        moved(torch.zeros(3), torch.tensor([1.0, 2, 3]), x), torch.tensor([2.0, 2, 8])
    )


@pytest.mark.parametrize("square", [0.0, 1e-20, 1e-6, SERIES_BELOW**2 * 0.999, 4.0])
def test_coefficients_and_their_gradients_are_those_in_double_precision(square: float) -> None:
    s = torch.tensor(square, requires_grad=True)
    exact = torch.tensor(max(square, 1e-3), dtype=torch.float64, requires_grad=True)
    t = exact.sqrt()
    formulas = t.sin() / t, (1 - t.cos()) / t**2, (t - t.sin()) / t**3
    for found, wanted in zip(coefficients(s), formulas, strict=True):
        (gradient,) = torch.autograd.grad(found, s, retain_graph=True)
        (slope,) = torch.autograd.grad(wanted, exact, retain_graph=True)
        assert float(gradient) == pytest.approx(float(slope), rel=2e-3)
        assert float(found) == pytest.approx(float(wanted), rel=2e-4 if square < 1e-3 else 1e-6)


def test_gradients_are_finite_at_no_motion_at_all() -> None:
    w, v, x = (torch.zeros(2, 3, requires_grad=True) for _ in range(3))
    point = torch.ones(2, 3)
    gradients = torch.autograd.grad((moved(w, v, x + point) * point).sum(), (w, v, x))
    assert all(torch.isfinite(g).all() for g in gradients)
    torch.testing.assert_close(gradients[1], point)
