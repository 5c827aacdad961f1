"""Networks and helpers that agents share."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from torch import Tensor
from torch.distributions import Normal, TanhTransform, TransformedDistribution

from rlbench.agents._values import td_target
from rlbench.backbones.heads.policies import TanhGaussian, log_tanh_slope, unsquash
from rlbench.backbones.heads.q_ensemble import QEnsemble
from rlbench.backbones.heads.vae import ActionVAE, vae_loss
from rlbench.backbones.layers.mlp import MLP
from rlbench.backbones.optim import Adam, gradient_step, polyak
from rlbench.backbones.spaces import ActionBox, vector_size
from rlbench.checks import same_shape
from rlbench.errors import UserError


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def naive(network: torch.nn.Module, x: Tensor) -> Tensor:
    """An MLP in float64, spelt out."""
    layers = [m for m in network.modules() if isinstance(m, torch.nn.Linear)]
    x = x.double()
    for i, layer in enumerate(layers):
        x = x @ layer.weight.double().T + layer.bias.double()
        x = x.clamp(min=0) if i < len(layers) - 1 else x
    return x


def test_mlp_equals_its_definition() -> None:
    network, x = MLP(5, (32, 16), 3), torch.randn(7, 5)
    torch.testing.assert_close(network(x).double(), naive(network, x), rtol=1e-4, atol=1e-5)


def test_mlp_without_hidden_layers_is_linear() -> None:
    assert [type(layer) for layer in MLP(5, (), 3)] == [torch.nn.Linear]


@pytest.mark.parametrize("samples", [(1,), (4,)])
@pytest.mark.parametrize("hidden", [(), (16, 16)])
def test_gradients_through_samples_equal_those_of_float64(
    hidden: tuple[int, ...], samples: tuple[int, ...]
) -> None:
    network, obs = MLP(5, hidden, 3), torch.randn(8, 3, requires_grad=True)
    x = torch.randn(8, *samples, 2, requires_grad=True)
    leaves = [*network.parameters(), obs, x]
    got = torch.autograd.grad(network.conditioned(obs, x).square().sum(), leaves)
    joined = torch.cat([obs[:, None].expand(-1, *samples, -1), x], dim=-1)
    exact = torch.autograd.grad(naive(network, joined).square().sum(), leaves)
    for mine, other in zip(got, exact, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("graph", [True, False])
@pytest.mark.parametrize("samples", [(), (10,)])
def test_critics_equal_their_definition(samples: tuple[int, ...], graph: bool) -> None:
    critic = QEnsemble(17, 6, (256, 256), members=3)
    obs, action = torch.randn(64, 17), torch.randn(64, *samples, 6)
    with torch.set_grad_enabled(graph):
        values = critic(obs, action)
    assert values.shape == (3, 64, *samples)
    wide = obs[:, None].expand(-1, 10, -1) if samples else obs
    expected = [naive(m, torch.cat([wide, action], -1))[..., 0] for m in critic.members]
    torch.testing.assert_close(values.double(), torch.stack(expected), rtol=1e-4, atol=1e-5)


def test_gradients_of_critics_equal_those_of_float64() -> None:
    critic, obs = QEnsemble(3, 2, (16, 16), members=2), torch.randn(8, 3)
    action = torch.randn(8, 2, requires_grad=True)
    parameters = [*critic.parameters(), action]
    got = torch.autograd.grad(critic(obs, action).square().sum(), parameters)
    x = torch.cat([obs, action], -1)
    loss = torch.stack([naive(m, x) for m in critic.members]).square().sum()
    for mine, exact in zip(got, torch.autograd.grad(loss, parameters), strict=True):
        torch.testing.assert_close(mine, exact.float(), rtol=1e-4, atol=1e-5)


def test_critics_are_independent() -> None:
    critic = QEnsemble(3, 2, (8,), members=2)
    first, second = critic(torch.randn(4, 3), torch.randn(4, 2))
    assert not torch.allclose(first, second)


@pytest.mark.parametrize("smooth", [False, True])
def test_log_density_equals_that_of_torch_distributions(smooth: bool) -> None:
    policy = TanhGaussian(3, 2, (8,), (-2.0, 0.5), smooth=smooth)
    obs = torch.randn(6, 3)
    action, log_prob = policy.sample(obs, generator())
    mean, log_std = policy(obs)
    exact = TransformedDistribution(Normal(mean, log_std.exp()), TanhTransform())
    expected = exact.log_prob(action).sum(-1)
    torch.testing.assert_close(log_prob, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(policy.log_density(policy(obs), unsquash(action, 0.0)), expected)
    many = policy.log_density(policy(obs), unsquash(action, 0.0)[:, None].expand(-1, 3, -1))
    torch.testing.assert_close(many, expected[:, None].expand(-1, 3))


def test_samples_have_the_moments_of_the_policy() -> None:
    policy = TanhGaussian(3, 2, (8,), (-2.0, 0.5))
    obs = torch.randn(2, 3)
    raw = policy.sample_raw(obs, 20_000, generator())
    mean, log_std = policy(obs)
    torch.testing.assert_close(raw.mean(1), mean, atol=0.05, rtol=0)
    torch.testing.assert_close(raw.std(1), log_std.exp(), atol=0.05, rtol=0)
    clipped = policy.sample_raw(obs, 1_000, generator(), noise_clip=0.5)
    assert ((clipped - mean[:, None]).abs() <= 0.5001 * log_std.exp()[:, None]).all()


@pytest.mark.parametrize("smooth", [False, True])
def test_log_std_stays_in_its_bounds(smooth: bool) -> None:
    policy = TanhGaussian(3, 2, (8,), (-1.0, 0.5), smooth=smooth)
    _, log_std = policy(1e4 * torch.randn(64, 3))
    assert -1.0 <= log_std.min() < -0.9
    assert 0.4 < log_std.max() <= 0.5


def test_slope_of_tanh_is_exact_and_finite() -> None:
    raw = torch.linspace(-3, 3, 13, dtype=torch.float64)
    torch.testing.assert_close(log_tanh_slope(raw), (1 - raw.tanh() ** 2).log())
    assert log_tanh_slope(torch.tensor([-100.0, 100.0])).isfinite().all()


def test_unsquash_stops_short_of_the_bound() -> None:
    got = unsquash(torch.tensor([-1.0, 0.5, 1.0]), 1e-3)
    torch.testing.assert_close(got.tanh(), torch.tensor([-0.999, 0.5, 0.999]))


def test_vae_loss_by_hand() -> None:
    # error (0.25 + 0) / 2; divergence of mean 1, std 1: 0.5, of mean 0, log std 0.5:
    # 0.5 * (e - 1 - 1); loss = error + 0.5 * mean
    got = vae_loss(
        torch.tensor([[0.5], [1.0]]), torch.tensor([[0.0], [1.0]]),
        torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 0.5]]),
    )  # fmt: skip
    torch.testing.assert_close(got, torch.tensor(0.125 + 0.5 * (0.5 + 0.5 * (math.e - 2)) / 2))


def test_vae_loss_rejects_another_shape() -> None:
    with pytest.raises(ValueError, match="expected one shape"):
        vae_loss(torch.zeros(4, 1), torch.zeros(4), torch.zeros(4, 2), torch.zeros(4, 2))


def test_vae_shapes_and_bounds() -> None:
    vae, obs = ActionVAE(3, 2, (8,)), torch.randn(5, 3)
    action, mean, log_std = vae(obs, torch.zeros(5, 2), generator())
    assert action.shape == (5, 2)
    assert mean.shape == log_std.shape == (5, 4)
    assert (action.abs() < 1).all()
    _, _, wide = vae(1e6 * obs, torch.zeros(5, 2), generator())
    assert -4 <= wide.min() <= wide.max() <= 15
    assert vae.sample_raw(obs, 7, 0.5, generator()).shape == (5, 7, 2)
    latent = torch.randn(5, 7, 4)
    one_by_one = torch.stack([vae.decode_raw(obs, latent[:, i]) for i in range(7)], dim=1)
    torch.testing.assert_close(vae.decode_raw(obs, latent), one_by_one)


def test_vae_encodes_state_and_action() -> None:
    vae, obs, action = ActionVAE(3, 2, (8,)), torch.zeros(1, 3), torch.zeros(1, 2)
    codes = [
        vae(o, a, generator())[1] for o, a in ((obs, action), (obs + 1, action), (obs, action + 1))
    ]
    assert not torch.equal(codes[0], codes[1])
    assert not torch.equal(codes[0], codes[2])


def test_vae_samples_come_from_clipped_latents(monkeypatch: pytest.MonkeyPatch) -> None:
    vae, seen = ActionVAE(3, 2, (8,)), []

    def decode(obs: Tensor, latent: Tensor) -> Tensor:
        seen.append(latent)
        return latent

    monkeypatch.setattr(vae, "decode_raw", decode)
    vae.sample_raw(torch.zeros(50, 3), 4, 0.5, generator())
    assert seen[0].abs().max() == 0.5


def test_action_box_by_hand() -> None:
    low, high = np.array([-2.0, 0.0], np.float32), np.array([2.0, 5.0], np.float32)
    box = ActionBox.of(Box(low, high), torch.device("cpu"))
    unit = torch.tensor([[-1.0, 0.0], [0.5, 1.0]])
    env = torch.tensor([[-2.0, 2.5], [1.0, 5.0]])
    torch.testing.assert_close(box.from_unit(unit), env)
    torch.testing.assert_close(box.to_unit(env), unit)
    assert not box.unit
    assert ActionBox.of(Box(-1, 1, (2,)), torch.device("cpu")).unit


@pytest.mark.parametrize("space", [Discrete(3), Box(-np.inf, 1, (2,)), Box(0, 1, (2, 2))])
def test_other_action_spaces_are_refused(space: Any) -> None:
    with pytest.raises(UserError, match="bounded Box of one dimension"):
        ActionBox.of(space, torch.device("cpu"))


def test_other_observation_spaces_are_refused() -> None:
    with pytest.raises(UserError, match="Box of one dimension"):
        vector_size(Discrete(3))
    assert vector_size(Box(-1, 1, (4,))) == 4


def test_td_target_by_hand() -> None:
    got = td_target(torch.tensor([1.0, 1.0]), torch.tensor([0.0, 1.0]), torch.full((2,), 4.0), 0.5)
    assert got.tolist() == [3.0, 1.0]
    with pytest.raises(ValueError, match="expected one shape"):
        td_target(torch.zeros(4), torch.zeros(4), torch.zeros(4, 1), 0.5)


def test_same_shape_names_the_shapes() -> None:
    with pytest.raises(ValueError, match=r"\(4,\), \(4, 1\)"):
        same_shape(torch.zeros(4), torch.zeros(4, 1))


def test_a_gradient_step_touches_its_own_parameters_only() -> None:
    mine, other = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    optimizer = Adam([mine], 0.1)
    loss = gradient_step(optimizer, (mine * other).sum())
    assert not loss.requires_grad
    assert mine.grad is None
    assert other.grad is None
    torch.testing.assert_close(mine.detach(), torch.full((2,), 0.9))
    assert other.tolist() == [1.0, 1.0]


def test_adam_repeats_pytorchs_steps_also_after_a_restore() -> None:
    generator = torch.Generator().manual_seed(0)
    mine, again, theirs = (
        [torch.nn.Parameter(torch.ones(2, 3)), torch.nn.Parameter(torch.ones(()))] for _ in range(3)
    )
    optimizer, restored = Adam(mine, 0.1), Adam(again, 0.7)
    reference = torch.optim.Adam(theirs, lr=0.1)
    for step in range(6):
        gradients = tuple(torch.randn(p.shape, generator=generator) for p in mine)
        for parameter, gradient in zip(theirs, gradients, strict=True):
            parameter.grad = gradient
        reference.step()
        if step == 3:
            restored.load_state_dict(optimizer.state_dict())
            with torch.no_grad():
                for ours, other in zip(mine, again, strict=True):
                    other.copy_(ours)
            optimizer, mine = restored, again
        optimizer.step(gradients)
        for ours, other in zip(mine, theirs, strict=True):
            torch.testing.assert_close(ours, other)


def test_polyak_by_hand() -> None:
    target, source = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)
    expected = 0.9 * target.weight.detach() + 0.1 * source.weight.detach()
    polyak(target, source, 0.1)
    torch.testing.assert_close(target.weight.detach(), expected)
