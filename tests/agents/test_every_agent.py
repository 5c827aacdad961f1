"""What every agent must do, whatever its algorithm."""

import dataclasses
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from torch import Tensor

from rlbench.agents import AGENTS, load_agent
from rlbench.errors import UserError
from rlbench.experience import columns_of
from rlbench.interface import Agent, Spec
from tests import probe_envs
from tests.agents.case import HIGH, LOW, SPEC, cases, make
from tests.networks import equal, same, weights
from tests.probe_envs import UNIT, random_experience

OFFLINE = {case.name: case for case in cases() if not case.spaces}
"""Agents that learn from batches of data with continuous actions; test_on_policy.py has the others."""
NAMES = list(OFFLINE)


def train(agent: Agent, updates: int, first: int = 0) -> Agent:
    for seed in range(first, first + updates):
        agent.learn(random_experience(agent, seed))
    return agent


def test_every_built_in_agent_has_one_case() -> None:
    assert [case.name for case in cases()] == sorted(AGENTS)


@pytest.mark.parametrize("explore", [False, True])
@pytest.mark.parametrize("batch", [1, 7])
@pytest.mark.parametrize("name", NAMES)
def test_actions_have_the_shape_and_lie_in_the_space(name: str, batch: int, explore: bool) -> None:
    agent = train(make(name), 2)
    for scale in (0.0, 1.0, 100.0):
        action = agent.act(scale * torch.randn(batch, 2), explore=explore).action
        assert action.shape == (batch, 2)
        assert action.dtype == torch.float32
        assert not action.requires_grad
        assert all(agent.spec.action_space.contains(row.numpy()) for row in action)


@pytest.mark.parametrize("name", NAMES)
def test_the_units_of_the_actions_do_not_matter(name: str) -> None:
    unit, scaled = make(name, dataclasses.replace(SPEC, action_space=UNIT.action_space)), make(name)
    centre, half = torch.from_numpy((LOW + HIGH) / 2), torch.from_numpy((HIGH - LOW) / 2)
    for seed in range(3):
        batch = random_experience(unit, seed)
        unit.learn(batch)
        scaled.learn(dataclasses.replace(batch, action=centre + half * batch.action))
    obs = torch.randn(5, 2)
    torch.testing.assert_close(scaled.act(obs).action, centre + half * unit.act(obs).action)


@pytest.mark.parametrize("name", NAMES)
def test_metrics_are_detached_finite_scalars_with_constant_names(name: str) -> None:
    agent = make(name)
    keys = None
    for seed in range(4):
        metrics = agent.learn(random_experience(agent, seed))
        assert keys in (None, set(metrics))
        keys = set(metrics)
        for value in metrics.values():
            assert isinstance(value, Tensor)
            assert value.shape == ()
            assert not value.requires_grad
            assert value.isfinite()


@pytest.mark.parametrize("name", NAMES)
def test_metrics_do_not_change_afterwards(name: str) -> None:
    agent = make(name)
    metrics = agent.learn(random_experience(agent))
    before = {key: value.clone() for key, value in metrics.items()}
    train(agent, 2)
    assert all(torch.equal(metrics[key], before[key]) for key in before)


@pytest.mark.parametrize("name", NAMES)
def test_learning_leaves_the_batch_alone(name: str) -> None:
    agent = make(name)
    train(agent, 1)
    batch, untouched = random_experience(agent), random_experience(agent)
    agent.learn(batch)
    for field, column in columns_of(batch).items():
        assert torch.equal(column, getattr(untouched, field))


@pytest.mark.parametrize("name", NAMES)
def test_weights_depend_on_the_seed_alone(name: str) -> None:
    torch.manual_seed(1)
    first = train(make(name, seed=3), 6)
    torch.manual_seed(2)
    assert equal(first, train(make(name, seed=3), 6))
    assert not equal(first, train(make(name, seed=4), 6))


@pytest.mark.parametrize("name", NAMES)
def test_learning_draws_nothing_from_the_global_generator(name: str) -> None:
    before = torch.get_rng_state()
    train(make(name), 2).act(torch.zeros(1, 2), explore=True)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("name", NAMES)
def test_a_resumed_run_equals_an_uninterrupted_one(name: str) -> None:
    whole = train(make(name, seed=0), 8)
    half = train(make(name, seed=0), 4)
    resumed = make(name, seed=99)
    resumed.load_state_dict(half.state_dict())
    train(resumed, 4, first=4)
    assert equal(whole, resumed)
    obs = torch.randn(5, 2)
    for explore in (True, False):
        mine, other = (a.act(obs, explore=explore).action for a in (whole, resumed))
        assert torch.equal(mine, other)


@pytest.mark.parametrize("name", NAMES)
def test_acting_without_exploration_changes_nothing_in_the_training(name: str) -> None:
    quiet, watched = make(name), make(name)
    for seed in range(3):
        quiet.learn(random_experience(quiet, seed))
        watched.act(torch.randn(3, 2))
        watched.learn(random_experience(watched, seed))
    assert same(weights(quiet), weights(watched))


# Read by the drivers alone, never by the agent.
DRIVER_SETTINGS = {"batch_size", "random_steps", "replay_size", "sequence_length"}
# Read by `act` alone.
ACT_SETTINGS = {"act_mode", "act_samples", "act_temperature", "exploration_noise", "target_return"}
# On choices or images alone: test_crr.py, test_observing.py.
ELSEWHERE_SETTINGS = {"conservatism", "encoder", "freeze"}
FIELDS = [
    (n, f.name)
    for n in NAMES
    for f in dataclasses.fields(load_agent(n).Config)
    if f.name not in ELSEWHERE_SETTINGS
]


@cache
def usual_weights(name: str, **settings: Any) -> dict[str, Tensor]:
    """The weights after four updates, as a baseline for those with one changed setting."""
    return weights(train(make(name, **settings), 4))


@pytest.mark.parametrize(("name", "field"), [x for x in FIELDS if x[1] not in DRIVER_SETTINGS])
def test_every_setting_has_an_effect(name: str, field: str) -> None:
    value, others = OFFLINE[name].change(field)
    changed = make(name, **others | {field: value})
    if field in ACT_SETTINGS:
        usual = make(name, **others)
        assert usual.config != changed.config
        assert equal(train(usual, 4), train(changed, 4))
        obs = torch.randn(8, 2)
        explore = field.startswith("exploration")
        mine, other = (agent.act(obs, explore=explore).action for agent in (usual, changed))
        assert not torch.equal(mine, other)
    else:
        assert not same(usual_weights(name, **others), weights(train(changed, 4)))


@pytest.mark.parametrize(("name", "field"), [x for x in FIELDS if x[1] in DRIVER_SETTINGS])
def test_settings_for_the_drivers_do_not_reach_the_agent(name: str, field: str) -> None:
    value, others = OFFLINE[name].change(field)
    assert equal(train(make(name, **others), 2), train(make(name, **{field: value}), 2))


@pytest.mark.parametrize("name", [n for n in NAMES if hasattr(load_agent(n).Config, "discount")])
def test_the_discount_of_the_world_wins(name: str) -> None:
    spec = dataclasses.replace(SPEC, discount=0.5)
    assert equal(train(make(name, spec), 2), train(make(name, discount=0.5), 2))


@pytest.mark.parametrize("name", NAMES)
def test_spaces_of_another_kind_are_refused_in_one_sentence(name: str) -> None:
    unbounded, number = Box(-np.inf, np.inf, (2,)), Box(0, 1, ())
    for spec in (Spec(UNIT.observation_space, unbounded), Spec(number, UNIT.action_space)):
        with pytest.raises(UserError, match="this agent needs a"):
            make(name, spec)


def learnt(name: str, probe: probe_envs.Probe, updates: int, **settings: Any) -> Agent:
    agent = make(name, UNIT, **{**OFFLINE[name].fast, **settings})
    for _ in range(updates):
        agent.learn(probe.data)
    return agent


WITH_CRITICS = [case.name for case in OFFLINE.values() if case.fast and case.critic_values]


PROBES = {
    "constant": probe_envs.constant_reward,
    "observation": probe_envs.reward_is_observation,
    "later": probe_envs.reward_one_step_later,
    "action": probe_envs.reward_is_action,
}
# The reward that comes later depends on the observation and is discounted, so it alone is quick.
QUICK_PROBES = {(name, "later") for name in WITH_CRITICS if not name.startswith("sb3")}


@pytest.mark.parametrize(
    ("name", "probe"),
    [
        pytest.param(
            name, PROBES[probe](), id=f"{name}-{probe}",
            marks=() if (name, probe) in QUICK_PROBES else pytest.mark.slow,
        )
        for name in WITH_CRITICS
        for probe in PROBES
    ],
)  # fmt: skip
def test_critics_find_the_values_of_the_probes(name: str, probe: probe_envs.Probe) -> None:
    critic_values = OFFLINE[name].critic_values
    assert critic_values is not None
    values = critic_values(learnt(name, probe, 200), probe.data.obs, probe.data.action)
    torch.testing.assert_close(values, probe.value.expand(2, -1), atol=0.1, rtol=0)


@pytest.mark.parametrize("name", WITH_CRITICS)
def test_policies_find_the_best_action(name: str) -> None:
    agent = learnt(name, probe_envs.reward_is_action(), 250)
    obs = probe_envs.reward_is_action().data.obs[:32]
    assert agent.act(obs).action[:, 0].mean() > 0.8


@pytest.mark.parametrize("settings", [{}, {"policy": "tanh-gaussian"}], ids=["mse", "likelihood"])
def test_bc_clones_the_demonstrator(settings: dict[str, Any]) -> None:
    probe = probe_envs.action_is_observation()
    agent = learnt("bc", probe, 200, **settings)
    torch.testing.assert_close(
        agent.act(probe.data.obs).action, probe.data.action, atol=0.05, rtol=0
    )


def test_bear_stays_with_the_demonstrator_where_the_constraint_is_strong() -> None:
    probe = probe_envs.action_is_observation()
    # The critic prefers +1 everywhere, the data never show it.
    data = dataclasses.replace(probe.data, reward=probe.data.action[:, 0])
    agent = learnt("bear", dataclasses.replace(probe, data=data), 300, fixed_alpha=100.0)
    got = agent.act(probe.data.obs).action.sign()
    assert (got == probe.data.action.sign()).float().mean() > 0.95
