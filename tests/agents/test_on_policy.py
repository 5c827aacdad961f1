"""Agents that learn from their own steps, or on choices, do what every agent must do."""

import dataclasses
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete, MultiDiscrete
from torch import Tensor

from rlbench.agents import load_agent
from rlbench.errors import UserError
from rlbench.experience import columns_of
from rlbench.interface import Agent, Spec
from tests.agents.case import cases, experience, make, noise
from tests.networks import equal, same, tensors, weights

OBS = Box(-np.inf, np.inf, (2,))
BOX = Spec(OBS, Box(np.array([-2, 0], np.float32), np.array([2, 5], np.float32)))
DISCRETE = Spec(OBS, Discrete(3))
ON_POLICY = {case.name: case for case in cases() if case.spaces}
PAIRS = [
    pytest.param(
        case.name, dataclasses.replace(spec, observation_space=case.observations or OBS),
        id=f"{case.name}-{type(spec.action_space).__name__}",
    )
    for case in ON_POLICY.values()
    for spec in (BOX, DISCRETE)
    if isinstance(spec.action_space, case.spaces)
]  # fmt: skip
IMAGES = Spec(Box(0, 255, (3, 12, 12)), Discrete(3))
READS_IMAGES = [
    case.name
    for case in ON_POLICY.values()
    if hasattr(load_agent(case.name).Config, "encoder") and case.observations is None
]


def train(agent: Agent, updates: int, first: int = 0) -> Agent:
    for seed in range(first, first + updates):
        agent.learn(experience(agent, seed))
    return agent


@pytest.mark.parametrize("explore", [False, True])
@pytest.mark.parametrize("batch", [1, 7])
@pytest.mark.parametrize(("name", "spec"), PAIRS)
def test_actions_have_the_shape_and_lie_in_the_space(
    name: str, spec: Spec, batch: int, explore: bool
) -> None:
    agent = train(make(name, spec), 2)
    for scale in (0.0, 1.0, 100.0):
        action = agent.act(scale * noise(agent, batch), explore=explore).action
        discrete = isinstance(spec.action_space, Discrete)
        assert action.shape == ((batch,) if discrete else (batch, 2))
        assert action.dtype == (torch.int64 if discrete else torch.float32)
        assert not action.requires_grad
        assert all(spec.action_space.contains(row.numpy()) for row in action)


@pytest.mark.parametrize(("name", "spec"), PAIRS)
def test_metrics_are_detached_finite_scalars_with_constant_names(name: str, spec: Spec) -> None:
    agent = make(name, spec)
    before: dict[str, Tensor] = {}
    for seed in range(4):
        metrics = dict(agent.learn(experience(agent, seed)))
        assert set(before) in (set(), set(metrics))
        copies = {key: value.clone() for key, value in metrics.items()}
        agent.learn(experience(agent, 9))
        for key, value in metrics.items():
            assert value.shape == ()
            assert not value.requires_grad
            assert value.isfinite()
            assert torch.equal(value, copies[key]), "later updates change nothing"
        before = metrics


@pytest.mark.parametrize(("name", "spec"), PAIRS)
def test_learning_leaves_the_experience_alone(name: str, spec: Spec) -> None:
    agent, twin = make(name, spec), make(name, spec)
    given, untouched = experience(agent, 0), experience(twin, 0)
    agent.learn(given)
    for field, column in columns_of(given).items():
        assert torch.equal(column, getattr(untouched, field))


@pytest.mark.parametrize(("name", "spec"), PAIRS)
def test_weights_depend_on_the_seed_alone(name: str, spec: Spec) -> None:
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    first = train(make(name, spec, seed=3), 4)
    torch.manual_seed(2)
    np.random.seed(2)  # noqa: NPY002
    assert equal(first, train(make(name, spec, seed=3), 4))
    assert not equal(first, train(make(name, spec, seed=4), 4))


@pytest.mark.parametrize(("name", "spec"), [*PAIRS, ("sb3-sac", BOX), ("sb3-td3", BOX)])
def test_nothing_is_drawn_from_the_global_generators(name: str, spec: Spec) -> None:
    torch_before, numpy_before = torch.get_rng_state(), np.random.get_state()  # noqa: NPY002
    train(make(name, spec), 2).act(
        torch.zeros(1, *spec.observation_space.shape or ()), explore=True
    )
    assert torch.equal(torch_before, torch.get_rng_state())
    assert str(numpy_before) == str(np.random.get_state())  # noqa: NPY002


@pytest.mark.parametrize(("name", "spec"), PAIRS)
def test_a_resumed_run_equals_an_uninterrupted_one(name: str, spec: Spec) -> None:
    whole, half = train(make(name, spec), 6), train(make(name, spec), 3)
    resumed = make(name, spec, seed=99)
    resumed.load_state_dict(half.state_dict())
    train(resumed, 3, first=3)
    assert equal(whole, resumed)
    for explore in (True, False):
        obs = noise(whole, 50)
        mine, other = (x.act(obs, explore=explore).action for x in (whole, resumed))
        assert torch.equal(mine, other)


def test_a_metric_that_an_update_leaves_out_survives_a_resume() -> None:
    whole, half = train(make("sb3-td3", BOX), 5), train(make("sb3-td3", BOX), 4)
    resumed = make("sb3-td3", BOX)
    resumed.load_state_dict(half.state_dict())
    train(resumed, 1, first=4)
    one, other = (tensors(agent.state_dict())["/metrics"] for agent in (whole, resumed))
    assert torch.equal(one, other)


@pytest.mark.parametrize(("name", "spec"), PAIRS)
def test_acting_without_exploration_changes_nothing_in_the_training(name: str, spec: Spec) -> None:
    quiet, watched = make(name, spec), make(name, spec)
    for seed in range(3):
        quiet.learn(experience(quiet, seed))
        # As an evaluation does, for what is learned here depends on how the agent acts.
        before = watched.act_generator.get_state()
        watched.act(noise(watched, 3))
        watched.act_generator.set_state(before)
        watched.learn(experience(watched, seed))
    assert same(weights(quiet), weights(watched))


# Settings of agents without networks: test_nas_baselines.py.
NO_NETWORKS = {"nas-random", "nas-evolution", "nas-local"}
IMAGE_SETTINGS = {"augment", "batch_norm", "freeze"}
ACTING_SETTINGS = {"act_mode"}
DRIVER_SETTINGS = {"envs", "rollout_steps", "random_steps", "replay_size", "steps_per_update"}
UNFIT = {
    ("novelty-ppo", "envs"),  # It remembers what each environment has shown.
    ("tickets-ppo", "freeze"),  # Only an encoder that learns is pruned.
}
"""Settings whose other values do not fit the rollouts of the test, or are refused."""
FIELDS = [
    (case.name, field.name)
    for case in ON_POLICY.values()
    for field in dataclasses.fields(load_agent(case.name).Config)
    if field.name not in {*ACTING_SETTINGS, "encoder"}
    and case.name not in NO_NETWORKS
    and not (case.observations and field.name in IMAGE_SETTINGS)
    and (case.name, field.name) not in UNFIT
]


def discrete_spec(name: str, images: bool = False) -> Spec:
    """The spec with which the effect of a setting is tested."""
    if images:
        return IMAGES
    return dataclasses.replace(DISCRETE, observation_space=ON_POLICY[name].observations or OBS)


@cache
def usual_weights(name: str, images: bool, **settings: Any) -> dict[str, Tensor]:
    """The weights after four updates, as a baseline for those with one changed setting."""
    return weights(train(make(name, discrete_spec(name, images), **settings), 4))


@pytest.mark.parametrize(("name", "field"), FIELDS)
def test_settings_have_an_effect_save_those_of_the_drivers(name: str, field: str) -> None:
    value, others = ON_POLICY[name].change(field)
    if images := field in IMAGE_SETTINGS:
        others = {**others, "encoder": "impala"}
    changed = make(name, discrete_spec(name, images), **others | {field: value})
    driver_setting = field in {*DRIVER_SETTINGS, *ON_POLICY[name].driver_settings}
    if field.startswith("exploration"):
        usual = make(name, discrete_spec(name), **others)
        batch = experience(usual, 0)
        for agent in (usual, changed):
            for _ in range(4 if field != "exploration_end" else 20):
                agent.learn(batch)
        obs = torch.randn(200, 2)
        one, other = (agent.act(obs, explore=True).action for agent in (usual, changed))
        assert not torch.equal(one, other)
    else:
        found = weights(train(changed, 4))
        assert same(usual_weights(name, images, **others), found) == driver_setting


@pytest.mark.parametrize("name", READS_IMAGES)
def test_an_encoder_reads_images_and_learns(name: str) -> None:
    agent = make(name, IMAGES, encoder="impala")
    before = {k: x.clone() for k, x in weights(agent).items() if "encoder" in k}
    after = weights(train(agent, 1))
    assert len(before) == 30
    assert not any(torch.equal(x, after[k]) for k, x in before.items())


def test_ibac_sni_acts_by_samples_or_the_mode() -> None:
    agent, obs = make("ibac-sni", DISCRETE, act_mode="mode"), torch.randn(50, 2)
    assert torch.equal(agent.act(obs).action, agent.act(obs).action)
    agent = make("ibac-sni", DISCRETE)
    assert not torch.equal(agent.act(obs).action, agent.act(obs).action)


def test_the_preset_of_dqn_explores_for_a_tenth_of_the_run() -> None:
    assert load_agent("sb3-dqn").preset("CartPole-v1", 5_000) == {"exploration_updates": 500}
    agent: Any = make("sb3-dqn", DISCRETE, exploration_updates=4)
    rates = [agent.exploration]
    for seed in range(5):
        train(agent, 1, seed)
        rates.append(agent.exploration)
    assert rates == pytest.approx([1.0, 0.7625, 0.525, 0.2875, 0.05, 0.05])


DISCOUNTING = [x for x in PAIRS if hasattr(load_agent(str(x.values[0])).Config, "discount")]


@pytest.mark.parametrize(("name", "spec"), DISCOUNTING)
def test_the_discount_of_the_world_wins(name: str, spec: Spec) -> None:
    fixed = dataclasses.replace(spec, discount=0.5)
    assert equal(train(make(name, fixed), 2), train(make(name, spec, discount=0.5), 2))


@pytest.mark.parametrize("name", [name for name in ON_POLICY if name.startswith("sb3")])
def test_spaces_of_another_kind_are_refused_in_one_sentence(name: str) -> None:
    unbounded, image = Box(-np.inf, np.inf, (2,)), Box(0, 1, (3, 8, 8))
    for action_space in (unbounded, Discrete(3, start=1), MultiDiscrete([2, 2])):
        with pytest.raises(UserError, match="this agent needs a"):
            make(name, Spec(OBS, action_space))
    with pytest.raises(UserError, match="this agent needs a"):
        make(name, Spec(image, Discrete(3)))


@pytest.mark.parametrize("name", ["a2c", "ppo", "recurrent-ppo"])
def test_ours_refuse_them_too_but_count_choices_from_anywhere(name: str) -> None:
    for action_space in (Box(-np.inf, np.inf, (2,)), MultiDiscrete([2, 2])):
        with pytest.raises(UserError, match="this agent needs a"):
            make(name, Spec(OBS, action_space))
    with pytest.raises(UserError, match="this agent needs a Box of one dimension"):
        make(name, Spec(Box(0, 1, (3, 8, 8)), Discrete(3)))
    agent = make(name, Spec(OBS, Discrete(3, start=5)))
    assert set(agent.act(torch.randn(99, 2), explore=True).action.tolist()) == {5, 6, 7}
