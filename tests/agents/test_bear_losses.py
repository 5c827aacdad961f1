"""BEAR's distances and losses, by hand."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from rlbench.agents._values import best_value
from rlbench.agents.bear import BEARConfig, alpha_loss, mmd, policy_loss, select_value
from rlbench.errors import UserError


@pytest.mark.parametrize(
    ("kernel", "width", "expected"),
    [
        ("laplacian", 10, 0.1726), ("laplacian", 20, 0.1222), ("laplacian", 50, 0.0774),
        ("gaussian", 10, 0.0548), ("gaussian", 20, 0.0387), ("gaussian", 50, 0.0245),
    ],
)  # fmt: skip
def test_mmd_of_two_points(kernel: Any, width: float, expected: float) -> None:
    # Three dimensions, 0.1 apart in each: sqrt(2 - 2 exp(-d / (2 width)) + 1e-6), d 0.3 or 0.03.
    x = torch.zeros(2, 4, 3)
    got = mmd(x, x + 0.1, BEARConfig(kernel=kernel, kernel_width=width))
    distance = 0.3 if kernel == "laplacian" else 0.03
    exact = math.sqrt(2 - 2 * math.exp(-distance / (2 * width)) + 1e-6)
    assert got.shape == (2,)
    torch.testing.assert_close(got, torch.full((2,), expected), atol=6e-5, rtol=0)
    torch.testing.assert_close(got, torch.full((2,), exact), atol=1e-5, rtol=0)


def by_loops(x: Tensor, u: Tensor, config: BEARConfig) -> float:
    """The definition for one state in float64."""

    def k(a: Tensor, b: Tensor) -> float:
        d = (a - b).abs().sum() if config.kernel == "laplacian" else (a - b).square().sum()
        return math.exp(-d.item() / (2 * config.kernel_width))

    x, u, n = x.double(), u.double(), len(x)
    unbiased = config.mmd_estimator == "unbiased"

    def within(z: Tensor) -> float:
        pairs = [(i, j) for i in range(n) for j in range(n) if not (unbiased and i == j)]
        return sum(k(z[i], z[j]) for i, j in pairs) / len(pairs)

    across = sum(k(a, b) for a in x for b in u) / n**2
    return math.sqrt(max(within(x) + within(u) - 2 * across, 0) + 1e-6)


@pytest.mark.parametrize("estimator", ["biased", "unbiased"])
@pytest.mark.parametrize("kernel", ["laplacian", "gaussian"])
def test_mmd_equals_its_definition(kernel: Any, estimator: Any) -> None:
    config = BEARConfig(kernel=kernel, mmd_estimator=estimator, kernel_width=3.0)
    torch.manual_seed(0)
    x, u = torch.randn(5, 4, 6), 1 + torch.randn(5, 4, 6)
    exact = torch.tensor([by_loops(a, b, config) for a, b in zip(x, u, strict=True)])
    torch.testing.assert_close(mmd(x, u, config), exact, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(mmd(u, x, config), exact, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("estimator", ["biased", "unbiased"])
@pytest.mark.parametrize("kernel", ["laplacian", "gaussian"])
def test_mmd_of_equal_sets_is_its_constant_with_a_finite_gradient(
    kernel: Any, estimator: Any
) -> None:
    x = torch.randn(3, 4, 2)
    u = x.clone().requires_grad_()
    got = mmd(x, u, BEARConfig(kernel=kernel, mmd_estimator=estimator))
    torch.testing.assert_close(got.detach(), torch.full((3,), 1e-3), atol=3e-4, rtol=0)
    got.sum().backward()
    assert u.grad is not None
    assert u.grad.isfinite().all()


def test_mmd_pulls_the_policy_towards_the_behaviour() -> None:
    for kernel in ("laplacian", "gaussian"):
        u = torch.full((1, 4, 2), 0.5, requires_grad=True)
        mmd(torch.zeros(1, 4, 2), u, BEARConfig(kernel=kernel)).sum().backward()
        assert u.grad is not None
        assert (u.grad > 0).all()


def test_losses_reject_other_shapes() -> None:
    with pytest.raises(ValueError, match="expected one shape"):
        mmd(torch.zeros(4, 4, 2), torch.zeros(4, 3, 2), BEARConfig())
    with pytest.raises(ValueError, match="expected one shape"):
        policy_loss(torch.zeros(4), torch.zeros(4, 1), torch.ones(()), 0.05)


def test_unbiased_mmd_of_one_sample_is_refused() -> None:
    with pytest.raises(UserError, match="needs 2 or more"):
        BEARConfig(mmd_estimator="unbiased", constraint_samples=1)


def test_policy_loss_by_hand() -> None:
    # (2 * (0.3 - 0.1) - 1 + 2 * (0.5 - 0.1) - 3) / 2
    got = policy_loss(torch.tensor([1.0, 3.0]), torch.tensor([0.3, 0.5]), torch.tensor(2.0), 0.1)
    torch.testing.assert_close(got, torch.tensor(-1.4))


def test_alpha_loss_by_hand_and_without_gradient_for_the_policy() -> None:
    log_alpha = torch.tensor(math.log(2.0), requires_grad=True)
    distance = torch.tensor([0.2, 0.4], requires_grad=True)
    loss = alpha_loss(log_alpha, distance, 0.1)
    torch.testing.assert_close(loss.detach(), torch.tensor(-0.4))
    loss.backward()
    assert distance.grad is None
    torch.testing.assert_close(log_alpha.grad, torch.tensor(-0.4))


def test_best_value_by_hand() -> None:
    # Two critics, one state, two samples: 0.75 * 0 + 0.25 * 4 = 1, 0.75 * 2 + 0.25 * 2 = 2
    values = torch.tensor([[[0.0, 2.0]], [[4.0, 2.0]]])
    assert best_value(values, 0.75).tolist() == [2.0]


@pytest.mark.parametrize(
    ("how", "expected"), [("first", 1.0), ("min", 1.0), ("max", 4.0), ("mean", 2.0)]
)
def test_the_value_that_is_climbed(how: Any, expected: float) -> None:
    values = torch.tensor([[1.0], [1.0], [4.0]])
    assert select_value(values, BEARConfig(policy_value=how)).tolist() == [expected]
    # Population standard deviation of 1, 1, 4 is sqrt(2).
    got = select_value(values, BEARConfig(policy_value=how, std_penalty=3.0))
    torch.testing.assert_close(got, torch.tensor([expected - 3 * math.sqrt(2)]))


def test_the_spread_of_agreeing_critics_has_a_finite_gradient() -> None:
    values = torch.ones(2, 3, requires_grad=True)
    select_value(values, BEARConfig(std_penalty=3.0)).sum().backward()
    assert values.grad is not None
    assert values.grad.isfinite().all()
