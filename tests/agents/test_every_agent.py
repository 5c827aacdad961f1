"""What every agent must do, whatever its algorithm."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from torch import Tensor

from rlbench.agents import AGENTS, load_agent
from rlbench.errors import UserError
from rlbench.interface import Agent, Learner, Spec
from tests import probe_envs
from tests.probe_envs import UNIT, random_experience

SMALL: dict[str, dict[str, Any]] = {
    "awac": {"hidden": (16,)},
    "awr": {"hidden": (16,)},
    "bc": {"hidden": (16,)},
    "bcq": {"hidden": (16,), "vae_hidden": (16,), "act_samples": 5},
    "bear": {"hidden": (16,), "vae_hidden": (16,), "warmup_updates": 1, "act_samples": 5},
    "brac": {"hidden": (16,), "warmup_updates": 1},
    "cql": {"hidden": (16,), "penalty_samples": 3},
    "crr": {"hidden": (16,)},
    "iql": {"hidden": (16,), "policy_decay_updates": 100},
    "recurrent-crr": {"hidden": (16,), "memory_size": 8},
    "sac": {"hidden": (16,)},
    "sb3-sac": {"hidden": (16,)},
    "sb3-td3": {"hidden": (16,)},
    "td3": {"hidden": (16,)},
    "td3-bc": {"hidden": (16,)},
}
NAMES = sorted(SMALL)
# They take other spaces or trajectories; the same checks stand in test_on_policy.py.
ELSEWHERE = {"a2c", "ibac-sni", "ppo", "recurrent-ppo", "sb3-a2c", "sb3-dqn", "sb3-ppo"}
LOW, HIGH = np.array([-2.0, 0.0], np.float32), np.array([2.0, 5.0], np.float32)
MEAN, STD = torch.tensor([1.0, -2.0]), torch.tensor([0.5, 3.0])
SPEC = Spec(
    Box(-np.inf, np.inf, (2,)),
    Box(LOW, HIGH),
    obs_mean=MEAN,
    obs_std=STD,
    return_range=(-5.0, 20.0),
)


def make(name: str, spec: Spec = SPEC, seed: int = 0, **settings: Any) -> Agent:
    agent_class = load_agent(name)
    return agent_class(agent_class.Config(**SMALL[name] | settings), spec, seed=seed)


def train(agent: Agent, updates: int, first: int = 0) -> Agent:
    for seed in range(first, first + updates):
        agent.learn(random_experience(agent, seed))
    return agent


def tensors(state: Any, path: str = "") -> dict[str, Tensor]:
    """All tensors and numbers of nested dicts, by their path."""
    if isinstance(state, dict):
        return {k: v for key in state for k, v in tensors(state[key], f"{path}/{key}").items()}
    if isinstance(state, list):
        return tensors(dict(enumerate(state)), path)
    return {path: torch.as_tensor(state)}


def weights(agent: Agent) -> dict[str, Tensor]:
    """What the networks compute with, without counters and optimisers."""
    networks = ("/policy", "/critic", "/value/", "/vae/", "/behaviour/", "/network/")
    return {k: v for k, v in tensors(agent.state_dict()).items() if k.startswith(networks)}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def equal(a: Learner, b: Learner) -> bool:
    return same(tensors(a.state_dict()), tensors(b.state_dict()))


def test_the_table_holds_every_built_in_agent() -> None:
    assert set(NAMES) | ELSEWHERE == set(AGENTS)


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
    for field, value in vars(batch).items():
        assert field == "extras" or torch.equal(value, getattr(untouched, field))


@pytest.mark.parametrize("name", NAMES)
def test_weights_depend_on_the_seed_alone(name: str) -> None:
    torch.manual_seed(1)
    first = train(make(name, seed=3), 20)
    torch.manual_seed(2)
    assert equal(first, train(make(name, seed=3), 20))
    assert not equal(first, train(make(name, seed=4), 20))


@pytest.mark.parametrize("name", NAMES)
def test_learning_draws_nothing_from_the_global_generator(name: str) -> None:
    before = torch.get_rng_state()
    train(make(name), 2).act(torch.zeros(1, 2), explore=True)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("name", NAMES)
def test_a_resumed_run_equals_an_uninterrupted_one(name: str) -> None:
    whole = train(make(name, seed=0), 20)
    half = train(make(name, seed=0), 10)
    resumed = make(name, seed=99)
    resumed.load_state_dict(half.state_dict())
    train(resumed, 10, first=10)
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


# What each setting is changed to, and the settings without which it could have no effect.
Change = tuple[Any, dict[str, Any]]
UNBIASED = {"mmd_estimator": "unbiased"}
# A capped weight shows in the step after; a threshold that is never met drives alpha up.
RISING = {"mmd_threshold": -1.0, "alpha_learning_rate": 1.0}
LEARNED = {"alpha_mode": "learned"}
CATEGORICAL = {"critic": "categorical", "value_range": (-5.0, 5.0)}
CHANGES: dict[str, dict[str, Change]] = {
    "bc": {"policy": ("tanh-gaussian", {}), "normalise_obs": (False, {})},
    "bear": {
        "log_std_bounds": ((0.5, 0.6), {}),
        "target_actions": ("target-policy", {}),
        "policy_value": ("max", {}),
        "soft_clip": (0.1, {}),
        "std_penalty": (3.0, {}),
        "warmup_updates": (0, {}),
        "constraint": ("kl", {}),
        "mmd_threshold": (0.5, {}),
        "kl_threshold": (5.0, {"constraint": "kl"}),
        "kernel": ("gaussian", {}),
        "mmd_estimator": ("unbiased", {}),
        "noise_clip": (0.1, {}),
        "alpha_mode": ("fixed", {}),
        "fixed_alpha": (3.0, {"alpha_mode": "fixed"}),
        "alpha_min": (0.9, RISING | {"mmd_threshold": 10.0}),
        "alpha_max": (1.1, RISING),
    },
    "sac": {},
    "td3": {
        "target_noise_clip": (0.01, {}),
        "cloning_alpha": (2.5, {}),
        "normalise_obs": (True, {}),
    },
    "iql": {"scale_rewards": (False, {}), "normalise_obs": (False, {}), "max_weight": (0.5, {})},
    "awr": {"normalise_obs": (False, {}), "max_weight": (0.5, {})},
    "bcq": {},
    "brac": {
        "penalty": ("policy", {}),
        "alpha_mode": ("learned", {}),
        "divergence_threshold": (100.0, LEARNED),
        "alpha_learning_rate": (1.0, LEARNED),
        "warmup_updates": (3, {}),
    },
    "cql": {"gap_threshold": (5.0, {}), "target_entropy_scale": (-5.0, {})},
    "crr": {
        "hidden": ((32,), {}),
        "layers": ("mlp", {}),
        "policy": ("mixture", {}),
        "gradient_clip": (1e-3, {}),
        "normalise_obs": (False, {}),
        "weight": ("binary", {}),
        "baseline": ("max", {}),
        "max_weight": (0.5, {}),
        "critic": ("categorical", {}),
        "critics": (1, {}),
        "atoms": (11, CATEGORICAL),
        "value_range": ((-10.0, 10.0), CATEGORICAL),
        "target_actions": ("policy", {}),
        "target_update": ("hard", {"target_every": 2}),
        "target_every": (1, {"target_update": "hard", "target_rate": 0.01}),
        "act_mode": ("sample", {}),
        "act_temperature": (1e-3, {}),
    },
    "sb3-sac": {"temperature": ("fixed", {})},
    "sb3-td3": {"target_noise_clip": (0.01, {}), "exploration_noise": (0.1, {})},
}
CHANGES["td3-bc"] = CHANGES["td3"] | {"cloning_alpha": (1.0, {}), "normalise_obs": (False, {})}
CHANGES["awac"] = CHANGES["crr"] | {
    "target_actions": ("target-policy", {}),
    "act_mode": ("sample", {}),
    "baseline": ("max", {"advantage_samples": 4}),
    "act_samples": (5, {"act_mode": "critic-weighted"}),
    "act_temperature": (1e-3, {"act_mode": "critic-weighted"}),
}
CHANGES["recurrent-crr"] = CHANGES["crr"] | {"memory": ("gru", {})}
# Read by the drivers alone, never by the agent.
DRIVER_SETTINGS = {"batch_size", "random_steps", "replay_size", "sequence_length"}
# Read by `act` alone.
ACT_SETTINGS = {"act_mode", "act_samples", "act_temperature", "exploration_noise"}
# On choices or images alone: test_crr.py, test_observing.py.
ELSEWHERE_SETTINGS = {"conservatism", "encoder", "freeze"}
FIELDS = [
    (n, f.name)
    for n in NAMES
    for f in dataclasses.fields(load_agent(n).Config)
    if f.name not in ELSEWHERE_SETTINGS
]


def change(name: str, field: str) -> Change:
    """An alternative: the table's, or another number."""
    default = SMALL[name].get(field, getattr(load_agent(name).Config(), field))
    if field in CHANGES[name]:
        return CHANGES[name][field]
    if isinstance(default, tuple):
        return tuple(2 * size for size in default), {}
    assert isinstance(default, (int, float)), f"{name}.{field} needs an entry in CHANGES"
    return (default + 1 if isinstance(default, int) else default / 2), {}


@pytest.mark.parametrize(("name", "field"), [x for x in FIELDS if x[1] not in DRIVER_SETTINGS])
def test_every_setting_has_an_effect(name: str, field: str) -> None:
    value, others = change(name, field)
    usual, changed = make(name, **others), make(name, **others | {field: value})
    assert usual.config != changed.config
    train(usual, 4)
    train(changed, 4)
    if field in ACT_SETTINGS:
        assert equal(usual, changed)
        obs = torch.randn(8, 2)
        explore = field.startswith("exploration")
        mine, other = (agent.act(obs, explore=explore).action for agent in (usual, changed))
        assert not torch.equal(mine, other)
    else:
        assert not same(weights(usual), weights(changed))


@pytest.mark.parametrize(("name", "field"), [x for x in FIELDS if x[1] in DRIVER_SETTINGS])
def test_settings_for_the_drivers_do_not_reach_the_agent(name: str, field: str) -> None:
    value, others = change(name, field)
    assert equal(train(make(name, **others), 2), train(make(name, **{field: value}), 2))


@pytest.mark.parametrize("name", [n for n in NAMES if n != "bc"])
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
    fast: dict[str, Any] = {
        "bc": {"hidden": (32,), "learning_rate": 1e-2},
        "awac": {"hidden": (32, 32), "learning_rate": 1e-2, "target_rate": 0.1, "beta": 0.1},
        "bcq": {
            "hidden": (32, 32), "vae_hidden": (32,), "learning_rate": 5e-3, "target_rate": 0.1,
            "perturbation": 0.5,
        },
        "brac": {
            "hidden": (32, 32), "policy_learning_rate": 5e-3, "learning_rate": 5e-3,
            "target_rate": 0.1, "alpha": 0.01,
        },
        "cql": {
            "hidden": (32, 32), "policy_learning_rate": 5e-3, "learning_rate": 5e-3,
            "target_rate": 0.1, "conservatism": 1e-3, "initial_temperature": 1e-3,
            "target_entropy_scale": 3.0,
        },
        "crr": {"hidden": (32, 32), "learning_rate": 5e-3, "target_rate": 0.1, "beta": 0.1},
        "iql": {
            "hidden": (32, 32), "learning_rate": 1e-2, "target_rate": 0.1, "beta": 20.0,
            "max_weight": 1e6,
            "policy_decay_updates": 1_000_000,
        },
        "td3-bc": {
            "hidden": (32, 32), "learning_rate": 5e-3, "target_rate": 0.1, "cloning_alpha": 25.0,
        },
        "sac": {
            "hidden": (32, 32), "learning_rate": 1e-2, "target_rate": 0.1,
            "initial_temperature": 1e-3, "target_entropy_scale": 3.0,
        },
        "sb3-sac": {
            "hidden": (32, 32), "learning_rate": 1e-2, "target_rate": 0.1,
            "initial_temperature": 1e-3, "target_entropy_scale": 3.0,
        },
        "sb3-td3": {"hidden": (32, 32), "learning_rate": 5e-3, "target_rate": 0.1},
        "td3": {"hidden": (32, 32), "learning_rate": 5e-3, "target_rate": 0.1},
        "bear": {
            "hidden": (32, 32), "vae_hidden": (32,), "target_rate": 0.1, "warmup_updates": 20,
            "policy_learning_rate": 5e-3, "critic_learning_rate": 1e-2, "vae_learning_rate": 5e-3,
            "target_samples": 3, "alpha_mode": "fixed", "fixed_alpha": 0.1,
        },
    }[name]  # fmt: skip
    agent = make(name, UNIT, **fast | settings)
    for _ in range(updates):
        agent.learn(probe.data)
    return agent


WITH_CRITICS = [
    "awac", "bcq", "bear", "brac", "cql", "crr", "iql", "sac", "sb3-sac", "sb3-td3", "td3", "td3-bc",
]  # fmt: skip


@pytest.mark.parametrize(
    "probe",
    [
        probe_envs.constant_reward(),
        probe_envs.reward_is_observation(),
        probe_envs.reward_one_step_later(),
        probe_envs.reward_is_action(),
    ],
    ids=["constant", "observation", "later", "action"],
)
@pytest.mark.parametrize("name", WITH_CRITICS)
def test_critics_find_the_values_of_the_probes(name: str, probe: probe_envs.Probe) -> None:
    agent: Any = learnt(name, probe, 200)
    if name.startswith("sb3-"):
        values = torch.cat(agent.policy.critic(probe.data.obs, probe.data.action), dim=1).T
    else:
        values = agent.critic(probe.data.obs, probe.data.action)
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
