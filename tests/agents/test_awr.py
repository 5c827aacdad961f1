"""AWR: weights, what value and policy regress on, order of time."""

import math
from typing import Any

import pytest
import torch

from rlbench.agents.awr import AWR, AWRConfig, advantage_weight, value_loss
from rlbench.experience import Trajectories
from tests.agents.case import Case
from tests.probe_envs import UNIT, random_trajectories, reward_is_action

CASE = Case(
    "awr",
    small={"hidden": (16,)},
    changes={"normalise_obs": (False, {}), "max_weight": (0.5, {})},
)


def agent(**settings: Any) -> AWR:
    return AWR(AWRConfig(**{"hidden": (8,), **settings}), UNIT)


def test_advantages_that_are_only_noise_get_nearly_equal_weights() -> None:
    weight = advantage_weight(torch.tensor([-3e-5, 3e-5]), torch.tensor([1.0, 1.0]), 1.0, 20.0)
    torch.testing.assert_close(weight, torch.tensor([-1e-3, 1e-3]).exp())


def test_weights_by_hand() -> None:
    # Mean 1, standard deviation 1 (of the sample): standardised to -1, 0, 1.
    got = advantage_weight(torch.tensor([0.0, 1.0, 2.0]), torch.zeros(3), 0.5, 3.0)
    torch.testing.assert_close(got, torch.tensor([math.exp(-2), 1, 3]), atol=1e-4, rtol=0)
    assert not advantage_weight(
        torch.zeros(3, requires_grad=True), torch.zeros(3), 1.0, 20.0
    ).requires_grad


def test_a_single_advantage_has_weight_one() -> None:
    assert advantage_weight(torch.tensor([[7.0]]), torch.ones(1, 1), 0.5, 20.0).tolist() == [[1.0]]
    awr = agent(batch_size=1, sequence_length=1)
    metrics = awr.learn(random_trajectories(UNIT, steps=1, envs=1))
    assert all(value.isfinite() for value in metrics.values())


def test_value_loss_by_hand() -> None:
    assert value_loss(torch.tensor([1.0, 2.0]), torch.tensor([0.0, 4.0])).item() == 2.5
    with pytest.raises(ValueError, match="expected one shape"):
        value_loss(torch.zeros(4, 3), torch.zeros(4, 1))


def test_losses_are_those_of_the_returns() -> None:
    awr, batch = agent(mixing=0.0), random_trajectories(UNIT)
    with torch.no_grad():
        following = awr.value(batch.final_obs)[..., 0]
        returns = batch.reward + 0.5 * (1 - batch.terminated) * following
        value = awr.value(batch.obs)[..., 0]
        better = returns - value
        weight = ((better - better.mean()) / (better.std() + 1e-8)).exp().clamp(max=20)
        mean, log_std = awr.policy(batch.obs)
        density = torch.distributions.Normal(mean, log_std.exp()).log_prob(batch.action).sum(-1)
    metrics = awr.learn(batch)
    torch.testing.assert_close(metrics["value_loss"], (value - returns).square().mean())
    torch.testing.assert_close(metrics["policy_loss"], -(weight * density).mean())


def test_the_standard_deviation_is_that_of_the_setting() -> None:
    awr = agent(std=0.2)
    awr.learn(random_trajectories(UNIT))
    torch.testing.assert_close(awr.policy(torch.zeros(3, 2))[1].exp(), torch.full((3, 2), 0.2))


def test_the_better_actions_are_found() -> None:
    awr = agent(hidden=(32,), learning_rate=5e-3, std=0.3)
    flat = reward_is_action().data
    fold = {
        name: getattr(flat, name).unflatten(0, (16, 8))
        for name in ("obs", "action", "reward", "terminated", "truncated")
    }
    data = Trajectories(**fold, final_obs=fold["obs"])
    for _ in range(200):
        awr.learn(data)
    assert awr.act(flat.obs).action[:, 0].mean() > 0.4
