"""Policies over a box and over choices: densities against PyTorch's, samples against densities."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from rlbench.backbones.heads.policies import Choice, ClippedGaussian, GaussianMixture, make_policy
from rlbench.backbones.layers.mlp import MLP, NormedMLP, ResidualMLP
from rlbench.backbones.layers.noise import gumbel, uniform

KINDS: list[Any] = ["gaussian", "free-gaussian", "tanh-gaussian", "mixture"]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", KINDS)
def test_samples_lie_in_the_box_and_weigh_the_same(kind: Any) -> None:
    policy = make_policy(kind, 3, 2, (8,))
    params = policy(normal(5, 3))
    actions, log_weights = policy.candidates(params, 3 * normal(5, 7, policy.noise_size))
    assert actions.shape == (5, 7, 2)
    assert actions.abs().max() <= 1
    torch.testing.assert_close(log_weights.exp(), torch.full((5, 7), 1 / 7))
    assert policy.log_prob(params, actions[:, 0]).shape == (5,)
    assert policy.mode(params).shape == (5, 2)
    assert policy.mode(params).abs().max() <= 1


@pytest.mark.parametrize("free", [True, False])
def test_clipped_gaussian_has_the_density_of_a_normal(free: bool) -> None:
    policy = ClippedGaussian(3, 2, (8,), (-5, 2), free_std=free)
    params, action = policy(normal(5, 3)), normal(5, 2, seed=1).clamp(-1, 1)
    mean, log_std = params
    expected = Normal(mean, log_std.exp()).log_prob(action).sum(-1)
    torch.testing.assert_close(policy.log_prob(params, action), expected)
    torch.testing.assert_close(policy.mode(params), mean)
    noise = normal(5, 1, 2, seed=2)
    wanted = (mean + log_std.exp() * noise[:, 0]).clamp(-1, 1)
    torch.testing.assert_close(policy.actions(params, noise)[:, 0], wanted)


def test_a_free_standard_deviation_is_one_for_all_states_and_learned() -> None:
    policy = ClippedGaussian(3, 2, (8,), (-5, 2), free_std=True)
    _, log_std = policy(normal(5, 3))
    assert (log_std == 0).all()
    policy.log_prob(policy(normal(5, 3)), torch.zeros(5, 2)).sum().backward()
    assert policy.free_log_std is not None
    assert policy.free_log_std.grad is not None


def test_log_std_stays_between_its_bounds() -> None:
    policy = ClippedGaussian(3, 2, (8,), (-1, 0.5))
    _, log_std = policy(1e4 * normal(64, 3))
    assert log_std.min() == -1
    assert log_std.max() == 0.5


def test_mixture_has_the_density_of_pytorch_s() -> None:
    policy = GaussianMixture(3, 2, (8,), components=4)
    params, action = policy(normal(5, 3)), normal(5, 2, seed=1)
    log_weight, mean, log_std = params
    mixture = MixtureSameFamily(
        Categorical(logits=log_weight), Independent(Normal(mean, log_std.exp()), 1)
    )
    torch.testing.assert_close(policy.log_prob(params, action), mixture.log_prob(action))


def test_the_deviations_of_a_mixture_have_a_lower_bound() -> None:
    policy = GaussianMixture(3, 2, (8,), components=4)
    scales = list(policy.net.parameters())[-1]
    for raw, deviation in ((-200.0, 1e-4), (0.0, math.log(2) + 1e-4)):
        with torch.no_grad():
            list(policy.net.parameters())[-2].zero_()
            scales.fill_(raw)
        log_std = policy(normal(5, 3))[2]
        torch.testing.assert_close(log_std.exp(), torch.full((5, 4, 2), deviation))
        assert policy.log_prob(policy(normal(5, 3)), torch.zeros(5, 2)).isfinite().all()


def test_mixture_samples_components_by_weight() -> None:
    policy = GaussianMixture(1, 1, (8,), components=3)
    weight = torch.tensor([[0.2, 0.5, 0.3]])
    params = (weight.log(), torch.tensor([[[-0.8], [0.0], [0.8]]]), torch.full((1, 3, 1), -6.0))
    actions = policy.actions(params, normal(1, 20_000, 2))[0, :, 0]
    for centre, share in ((-0.8, 0.2), (0.0, 0.5), (0.8, 0.3)):
        found = ((actions - centre).abs() < 0.1).float().mean().item()
        assert found == pytest.approx(share, abs=0.015)
    assert policy.mode(params).item() == 0.0


def test_choices_carry_their_probabilities() -> None:
    policy = Choice(3, 4, (8,))
    params = policy(normal(5, 3))
    actions, log_weights = policy.candidates(params, torch.zeros(5, 1, policy.noise_size))
    assert torch.equal(actions, torch.eye(4).expand(5, 4, 4))
    torch.testing.assert_close(log_weights.exp().sum(1), torch.ones(5))
    torch.testing.assert_close(policy.log_prob(params, actions[:, 2]), log_weights[:, 2])
    assert torch.equal(policy.mode(params).argmax(1), log_weights.argmax(1))


def test_uniform_and_gumbel_numbers_come_from_normal_ones() -> None:
    numbers = normal(50_000)
    counts = torch.histc(uniform(numbers), 10, 0, 1) / 50_000
    torch.testing.assert_close(counts, torch.full((10,), 0.1), atol=0.006, rtol=0)
    # Mean and variance of the standard Gumbel distribution.
    assert gumbel(numbers).mean().item() == pytest.approx(0.5772, abs=0.02)
    assert gumbel(numbers).var().item() == pytest.approx(math.pi**2 / 6, abs=0.06)
    assert gumbel(torch.tensor([-40.0, 40.0])).isfinite().all()


@pytest.mark.parametrize("network", [MLP, NormedMLP, ResidualMLP])
def test_networks_share_the_observation_among_actions(network: Any) -> None:
    net = network(5, (8, 8, 8), 2)
    obs, x = normal(4, 3), normal(4, 6, 2, seed=1)
    joined = torch.cat([obs[:, None].expand(-1, 6, -1), x], dim=-1)
    torch.testing.assert_close(net.conditioned(obs, x), net(joined))
    torch.testing.assert_close(net.conditioned(obs, x[:, 0]), net(joined[:, 0]))


def test_residual_blocks_by_hand() -> None:
    net = ResidualMLP(2, (4, 4), 1)
    first, norm, tanh, block, last = net
    x = normal(3, 2)
    hidden = tanh(norm(first(x)))
    inner, after = block.get_submodule("inner"), block.get_submodule("norm")
    torch.testing.assert_close(net(x), last(after(hidden + inner(hidden))))


def test_layer_norm_comes_before_each_relu() -> None:
    net = NormedMLP(2, (4, 3), 1)
    first, norm, _, second, other, _, last = net
    x = normal(5, 2)
    torch.testing.assert_close(net(x), last(torch.relu(other(second(torch.relu(norm(first(x))))))))
