"""BC: losses by hand, what act returns, statistics in the checkpoint."""

import math
from typing import Any

import pytest
import torch
from gymnasium.spaces import Box

from rlbench.agents.bc import BC, BCConfig, squared_error
from rlbench.interface import Spec
from tests.agents.case import Case
from tests.probe_envs import UNIT, random_batch, transitions

CASE = Case(
    "bc",
    small={"hidden": (16,)},
    changes={"policy": ("tanh-gaussian", {}), "normalise_obs": (False, {})},
    fast={"hidden": (32,), "learning_rate": 1e-2},
    critic_values=None,
)

MEAN, STD = torch.tensor([1.0, -2.0]), torch.tensor([0.5, 3.0])
SPEC = Spec(UNIT.observation_space, UNIT.action_space, obs_mean=MEAN, obs_std=STD)


def agent(spec: Spec = SPEC, **settings: Any) -> BC:
    return BC(BCConfig(hidden=(8,), **settings), spec)


def test_squared_error_by_hand() -> None:
    # (0.5^2 + 0 + 1 + 2^2) / 4
    got = squared_error(torch.tensor([[0.5, 1.0], [-1.0, 1.0]]), torch.tensor([[0, 1.0], [0, -1]]))
    torch.testing.assert_close(got, torch.tensor(5.25 / 4))


def test_squared_error_rejects_another_shape() -> None:
    with pytest.raises(ValueError, match="expected one shape"):
        squared_error(torch.zeros(4, 1), torch.zeros(4))


def test_deterministic_loss_is_the_error_of_the_action_before_the_step() -> None:
    bc, batch = agent(), random_batch(SPEC)
    expected = (bc.act(batch.obs).action - batch.action).square().mean()
    torch.testing.assert_close(bc.learn(batch)["policy_loss"], expected)


def test_likelihood_loss_is_that_of_a_squashed_normal() -> None:
    bc, batch = agent(policy="tanh-gaussian"), random_batch(SPEC)
    normal = torch.distributions.Normal(*bc_moments(bc, batch.obs))
    squashed = torch.distributions.TransformedDistribution(
        normal, torch.distributions.TanhTransform()
    )
    expected = -squashed.log_prob(batch.action.clamp(-0.999, 0.999)).sum(-1).mean()
    torch.testing.assert_close(bc.learn(batch)["policy_loss"], expected, rtol=1e-4, atol=1e-4)


def bc_moments(bc: BC, obs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    mean, log_std = bc.policy(bc.normaliser(obs))
    return mean.detach(), log_std.detach().exp()


def test_actions_on_the_bound_have_a_finite_likelihood() -> None:
    bc = agent(policy="tanh-gaussian")
    loss = bc.learn(transitions(torch.zeros(4, 2), torch.ones(4, 2), torch.zeros(4)))
    assert loss["policy_loss"].isfinite()


def test_the_mode_acts_unless_exploring() -> None:
    bc, obs = agent(policy="tanh-gaussian"), torch.randn(4, 2)
    mean, _ = bc_moments(bc, obs)
    assert torch.equal(bc.act(obs).action, mean.tanh())
    assert not torch.equal(bc.act(obs, explore=True).action, mean.tanh())


def test_observations_are_normalised_with_the_statistics_of_the_data() -> None:
    # (2 - 1) / (0.5 + 0.001), (1 + 2) / (3 + 0.001)
    got = agent().normaliser(torch.tensor([[2.0, 1.0]]))
    torch.testing.assert_close(got, torch.tensor([[1 / 0.501, 3 / 3.001]]))
    obs = torch.randn(3, 2)
    assert torch.equal(agent(normalise_obs=False).normaliser(obs), obs)
    assert torch.equal(agent(UNIT).normaliser(obs), obs)


def test_statistics_travel_in_the_checkpoint() -> None:
    trained, stranger = agent(SPEC), agent(UNIT)
    stranger.load_state_dict(trained.state_dict())
    obs = torch.randn(3, 2)
    assert torch.equal(trained.act(obs).action, stranger.act(obs).action)


def test_log_std_stays_between_the_bounds_of_the_source() -> None:
    bc = agent(policy="tanh-gaussian")
    _, std = bc_moments(bc, 1e4 * torch.randn(64, 2))
    assert std.min() >= math.exp(-5) * 0.999
    assert std.max() <= 1.0


def test_a_box_of_one_action_works() -> None:
    spec = Spec(UNIT.observation_space, Box(-3, -1, (1,)))
    bc = BC(BCConfig(hidden=(8,), learning_rate=1e-2), spec)
    obs = torch.randn(64, 2)
    for _ in range(200):
        bc.learn(transitions(obs, torch.full((64, 1), -1.5), torch.zeros(64)))
    torch.testing.assert_close(bc.act(obs).action, torch.full((64, 1), -1.5), atol=0.2, rtol=0)
