"""PPO and PPO with a memory: which steps a pass sees, when an update stops, what is normalised."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from torch import Tensor

from rlbench.agents._on_policy import moved, passes
from rlbench.agents.a2c import A2CConfig
from rlbench.agents.ppo import PPO, PPOConfig
from rlbench.agents.recurrent_ppo import RecurrentPPO, RecurrentPPOConfig
from rlbench.experience import Trajectories
from rlbench.interface import Agent, Spec
from tests.agents.case import experience

SPEC = Spec(Box(-np.inf, np.inf, (2,)), Discrete(3))
SMALL: dict[str, Any] = {"hidden": (8,), "envs": 4, "rollout_steps": 6}
"""24 steps in 4 columns."""


def ppo(**settings: Any) -> PPO:
    return PPO(PPOConfig(**SMALL | settings), SPEC)


def recurrent_ppo(**settings: Any) -> RecurrentPPO:
    return RecurrentPPO(RecurrentPPOConfig(memory_size=5, **SMALL | settings), SPEC)


BOTH = pytest.mark.parametrize("make", [ppo, recurrent_ppo])


def played(agent: Agent, seed: int = 0) -> Trajectories:
    given = experience(agent, seed)
    assert isinstance(given, Trajectories)
    return given


class Watched:
    """In place of a gradient step: keeps the minibatches, and says what it is told of the KL."""

    def __init__(self, *kls: float) -> None:
        self.kls = iter(kls)
        self.batches: list[Any] = []

    def __call__(self, batch: Any) -> Mapping[str, Tensor]:
        self.batches.append(batch)
        return {"kl": torch.tensor(next(self.kls, 0.0))}

    def targets(self) -> list[list[float]]:
        """Which steps each minibatch holds: all have targets of their own."""
        return [batch.target.flatten().tolist() for batch in self.batches]


@BOTH
def test_an_update_stops_after_the_pass_that_moves_one_and_a_half_times_the_limit(
    make: Any,
) -> None:
    # Two minibatches in a pass, of which the last decides; 0.9 in the middle of one does not.
    kls = [0.9, 0.1, 0.0, 0.29, 0.0, 0.31, 0.0, 0.0]
    for limit, count in ((0.2, 3), (0.21, 4), (0.06, 1), (None, 4)):
        agent, step = make(batch_size=12, epochs=4, target_kl=limit), Watched(*kls)
        agent._learn(step, played(agent))
        assert len(step.batches) == 2 * count, limit


@BOTH
def test_each_pass_sees_every_step_once_and_in_a_new_order(make: Any) -> None:
    agent, step = make(batch_size=12, epochs=8), Watched()
    batch = played(agent)
    everything = sorted(agent._batch(batch).target.flatten().tolist())
    assert len(set(everything)) == 24
    agent._learn(step, batch)
    found = step.targets()
    passes = [found[i] + found[i + 1] for i in range(0, 16, 2)]
    assert [len(part) for part in found] == [12] * 16
    assert all(sorted(one) == everything for one in passes)
    # Four columns have 24 orders, so that some of eight passes may have the same.
    assert len({tuple(one) for one in passes}) > 3
    agent._learn(again := Watched(), batch)
    assert again.targets() != found, "each update has orders of its own"


def test_the_last_minibatch_of_a_pass_holds_what_is_left() -> None:
    agent, step = ppo(batch_size=10, epochs=2), Watched()
    agent._learn(step, played(agent))
    assert [len(x) for x in step.targets()] == [10, 10, 4] * 2
    assert agent.compiled_steps == 6


@BOTH
def test_columns_of_a_minibatch_belong_together(make: Any) -> None:
    agent, step = make(batch_size=12, epochs=1), Watched()
    batch = played(agent)
    flat = agent._batch(batch)
    columns = ("obs", "sample", "log_prob", "value", "advantage", "target")
    rows = {float(x): i for i, x in enumerate(flat.target.flatten())}
    agent._learn(step, batch)
    width = flat.target.dim()
    for part in step.batches:
        places = [rows[float(x)] for x in part.target.flatten()]
        for name in columns:
            whole, mine = (getattr(x, name).flatten(0, width - 1) for x in (flat, part))
            assert torch.equal(mine, whole[places]), name


def normalising(make: Any, **settings: Any) -> Any:
    """An agent whose statistics are far from 0 and 1."""
    agent = make(normalise_obs=True, discount=0.5, gae_lambda=0.0, **settings)
    agent.normaliser.update(3 + 2 * torch.randn(50, 4, 2))
    return agent


def test_values_after_the_last_step_and_a_cut_are_those_of_normalised_observations() -> None:
    agent = normalising(ppo)
    batch = played(agent)
    with torch.no_grad():
        moments = agent.normaliser.moments
        scaled = (batch.final_obs - moments.mean) / (moments.variance + 1e-8).sqrt()
        after = agent.network.value(scaled.clamp(-10, 10))
    target = agent._batch(batch).target.view(6, 4)
    bootstraps = (1 - batch.terminated) * 0.5 * after
    last = torch.zeros(6, 4, dtype=torch.bool)
    last[-1] = True
    led_out = (batch.truncated > 0) | last
    torch.testing.assert_close(target[led_out], (batch.reward + bootstraps)[led_out])
    assert led_out.sum() > (batch.terminated > 0).logical_and(led_out).sum()


def test_the_memory_reads_normalised_final_observations() -> None:
    agent = normalising(recurrent_ppo)
    state = agent.act(torch.ones(1, 2), explore=True).state
    step = agent.act(torch.ones(1, 2), explore=True, state=state)
    zero = torch.zeros(1, 1)
    extras = {name: x[None] for name, x in step.extras.items()}
    obs, final_obs = torch.ones(1, 1, 2), torch.tensor([[[7.0, -2.0]]])
    batch = Trajectories(obs, step.action[None], zero, zero, zero, final_obs, extras, state)
    with torch.no_grad():
        moments = agent.normaliser.moments
        scaled = (final_obs[0] - moments.mean) / (moments.variance + 1e-8).sqrt()
        features, _ = agent.network.remember(scaled, step.state)
        wanted = 0.5 * agent.network.value(features)
    torch.testing.assert_close(agent._batch(batch).target[0], wanted)


@BOTH
def test_acting_reads_normalised_observations(make: Any) -> None:
    agent, obs = normalising(make), 3 + 2 * torch.randn(40, 2)
    agent.network.head.out.weight.data.mul_(100)  # A policy that heeds what it sees.
    plain = make()
    plain.network.load_state_dict(agent.network.state_dict())
    scaled = agent.normaliser(obs)
    assert torch.equal(agent.act(obs).action, plain.act(scaled).action)
    assert not torch.equal(agent.act(obs).action, plain.act(obs).action)
    one, other = agent.act(obs, explore=True), plain.act(scaled, explore=True)
    assert torch.equal(one.action, other.action)


def test_targets_are_of_rewards_divided_by_the_deviation_of_returns() -> None:
    agent = ppo(normalise_reward=True)
    batch = dataclasses.replace(played(agent), terminated=torch.ones(6, 4))
    # Every step is an episode, so its return is its reward.
    wanted = batch.reward / batch.reward.std(correction=0)
    torch.testing.assert_close(agent._batch(batch).target.view(6, 4), wanted)
    torch.testing.assert_close(ppo()._batch(batch).target.view(6, 4), batch.reward)


@BOTH
def test_weight_decay_pulls_every_weight_and_bias_towards_0(make: Any) -> None:
    settings = {
        "normalise_advantage": False,
        "value_coefficient": 0.0,
        "batch_size": 24,
        "epochs": 1,
    }
    moved_by = []
    for decay in (0.0, 0.1):
        agent = make(weight_decay=decay, learning_rate=0.01, **settings)
        for parameter in agent.network.parameters():
            parameter.data.add_(torch.where(parameter.data < 0, -0.1, 0.1))  # None is almost 0.
        before = torch.cat([p.detach().flatten() for p in agent.network.parameters()])
        batch = agent._batch(played(agent))
        batch.advantage.zero_()
        passes(agent.config, agent.gradient_step, batch, agent.generator)
        after = torch.cat([p.detach().flatten() for p in agent.network.parameters()])
        moved_by.append((after - before) / before.sign())
    # The first step of Adam has the length of the step size.
    assert torch.equal(moved_by[0], torch.zeros_like(moved_by[0]))
    torch.testing.assert_close(moved_by[1], torch.full_like(before, -0.01), rtol=1e-2, atol=0)


def test_the_kl_is_schulman_s_estimate_and_the_clipped_share_counts_both_sides() -> None:
    ratio = torch.tensor([0.5, 0.9, 1.0, 1.3])
    told = moved(ratio.log(), torch.tensor(0.2))
    wanted = float((ratio - 1 - ratio.log()).mean())
    assert float(told["kl"]) == pytest.approx(wanted)
    assert wanted == pytest.approx((0.19315 + 0.00536 + 0 + 0.03764) / 4, abs=1e-4)
    assert float(told["clip_fraction"]) == 0.5


def test_a2c_is_one_pass_over_everything_with_sums_of_rewards() -> None:
    config = A2CConfig()
    assert (config.epochs, config.batch_size, config.gae_lambda) == (1, None, 1.0)
    assert not config.normalise_advantage
