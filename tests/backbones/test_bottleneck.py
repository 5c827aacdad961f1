"""The information bottleneck: values and gradient paths by hand."""

import math

import pytest
import torch
from torch import Tensor

from rlbench.backbones.layers.bottleneck import SMALLEST_SIGMA, Bottleneck, kl, sample, unit_kl


def made() -> Bottleneck:
    """Of one feature, with two units: mu = (2e, 0), rho = (0, e)."""
    bottleneck = Bottleneck(1, 2)
    with torch.no_grad():
        bottleneck.layer.weight.copy_(torch.tensor([[2.0], [0.0], [0.0], [1.0]]))
    return bottleneck


def gradients(loss: Tensor, bottleneck: Bottleneck) -> tuple[Tensor, Tensor]:
    """Of the rows of mu and of those of rho."""
    (gradient,) = torch.autograd.grad(loss, [bottleneck.layer.weight])
    mu, rho = gradient.chunk(2)
    return mu, rho


def test_kl_by_hand() -> None:
    # unit 1: (1 + 4 - 1) / 2 - ln 2 = 2 - ln 2; unit 2: (0 + 1 - 1) / 2 - ln 1 = 0
    mu, sigma = torch.tensor([[1.0, 0.0]]), torch.tensor([[2.0, 1.0]])
    torch.testing.assert_close(unit_kl(mu, sigma), torch.tensor([[2 - math.log(2), 0.0]]))
    torch.testing.assert_close(kl(mu, sigma), torch.tensor([2 - math.log(2)]))


def test_kl_is_that_of_torch_distributions() -> None:
    mu, sigma = torch.randn(5, 3), torch.rand(5, 3) + 0.1
    code, prior = torch.distributions.Normal(mu, sigma), torch.distributions.Normal(0.0, 1.0)
    wanted = torch.distributions.kl_divergence(code, prior).sum(dim=1)
    torch.testing.assert_close(kl(mu, sigma), wanted)


def test_mean_and_deviation_by_hand() -> None:
    mu, sigma = made()(torch.tensor([[3.0]]))
    torch.testing.assert_close(mu, torch.tensor([[6.0, 0.0]]))
    # softplus(0) = ln 2, softplus(3) = ln(1 + e^3)
    torch.testing.assert_close(
        sigma, torch.tensor([[math.log(2), math.log(1 + math.exp(3))]]) + SMALLEST_SIGMA
    )


def test_an_offset_of_minus_five_begins_almost_without_noise() -> None:
    _, sigma = Bottleneck(4, 2, offset=-5.0)(torch.zeros(1, 4))
    torch.testing.assert_close(sigma, torch.full((1, 2), 0.00672), atol=1e-4, rtol=0)


def test_kl_is_finite_where_softplus_underflows() -> None:
    mu, sigma = Bottleneck(1, 2, offset=-1000.0)(torch.zeros(1, 1))
    assert kl(mu, sigma).isfinite().all()


def test_each_sample_is_the_mean_plus_scaled_noise() -> None:
    mu, sigma = torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 10.0]])
    noise = torch.tensor([[[0.0, 0.0]], [[1.0, -1.0]], [[2.0, 0.5]]])
    wanted = torch.tensor([[[1.0, 2.0]], [[2.0, -8.0]], [[3.0, 7.0]]])
    torch.testing.assert_close(sample(mu, sigma, noise), wanted)


def test_noise_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="expected one shape"):
        sample(torch.zeros(4, 2), torch.ones(4, 2), torch.zeros(3, 1, 2))


def test_the_divergence_moves_mean_and_deviation() -> None:
    bottleneck = made()
    mu, rho = gradients(kl(*bottleneck(torch.ones(1, 1))).sum(), bottleneck)
    # d KL / d mu_1 = mu_1 = 2
    torch.testing.assert_close(mu, torch.tensor([[2.0], [0.0]]))
    assert (rho != 0).all()


def test_the_deterministic_code_leaves_the_deviation_alone() -> None:
    bottleneck = made()
    mu, rho = gradients(bottleneck(torch.ones(1, 1))[0].sum(), bottleneck)
    assert (mu != 0).all()
    assert (rho == 0).all()


def test_the_stochastic_code_moves_the_deviation_by_its_noise() -> None:
    bottleneck = made()
    noise = torch.tensor([[[1.0, 0.0]]])
    code = bottleneck(torch.ones(1, 1))
    mu, rho = gradients(sample(code[0], code[1], noise).sum(), bottleneck)
    assert (mu == 1).all()
    # d softplus(0) = 1/2 times the noise 1 of the first unit; the second has none
    torch.testing.assert_close(rho, torch.tensor([[0.5], [0.0]]))
