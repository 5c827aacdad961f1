"""The agents of Stable-Baselines3: what every agent must do, and that SB3 itself does the updates."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3 as sb3
import torch
from gymnasium.spaces import Box, Discrete, MultiDiscrete
from stable_baselines3.common.logger import Logger
from torch import Tensor

from rlbench.agents import load_agent
from rlbench.benchmarks.config import RunConfig
from rlbench.benchmarks.evaluation import Evaluator
from rlbench.benchmarks.rollouts import RolloutDriver
from rlbench.benchmarks.runner import Run
from rlbench.envs.tasks import Task, find_task
from rlbench.errors import UserError
from rlbench.interface import Agent, Experience, Spec, Trajectories, Transitions
from tests.kill_and_resume import killed_equals_unkilled
from tests.test_every_agent import equal, same, tensors, weights

OBS = Box(-np.inf, np.inf, (2,))
BOX = Spec(OBS, Box(np.array([-2, 0], np.float32), np.array([2, 5], np.float32)))
DISCRETE = Spec(OBS, Discrete(3))
CASES = [
    pytest.param(name, spec, id=f"{name}-{type(spec.action_space).__name__}")
    for name, spec in [
        ("sb3-a2c", BOX), ("sb3-a2c", DISCRETE), ("sb3-dqn", DISCRETE),
        ("sb3-ppo", BOX), ("sb3-ppo", DISCRETE),
    ]
]  # fmt: skip
SMALL: dict[str, dict[str, Any]] = {
    "sb3-a2c": {"hidden": (8,), "envs": 4, "rollout_steps": 6},
    "sb3-dqn": {"hidden": (8,), "target_every": 2, "exploration_updates": 8},
    "sb3-ppo": {"hidden": (8,), "envs": 4, "rollout_steps": 6, "batch_size": 8, "epochs": 2},
}


def make(name: str, spec: Spec, seed: int = 0, **settings: Any) -> Agent:
    agent_class = load_agent(name)
    return agent_class(agent_class.Config(**SMALL.get(name, {}) | settings), spec, seed=seed)


def experience(agent: Agent, seed: int) -> Experience:
    """Noise with the agent's own actions, a third of the steps ending and a third cut."""
    noise = torch.Generator().manual_seed(seed)
    shape = (24,) if agent.consumes is Transitions else (6, 4)
    obs, next_obs = (torch.randn(*shape, 2, generator=noise) for _ in range(2))
    reward = torch.randn(shape, generator=noise)
    ends = torch.randint(3, shape, generator=noise)
    terminated, truncated = (ends == 0).float(), (ends == 1).float()
    if agent.consumes is Transitions:
        action = agent.act(obs, explore=True).action
        return Transitions(obs, action, reward, next_obs, terminated, truncated)
    steps = [agent.act(row, explore=True) for row in obs]
    extras = {name: torch.stack([x.extras[name] for x in steps]) for name in steps[0].extras}
    action = torch.stack([x.action for x in steps])
    return Trajectories(obs, action, reward, terminated, truncated, next_obs, extras)


def train(agent: Agent, updates: int, first: int = 0) -> Agent:
    for seed in range(first, first + updates):
        agent.learn(experience(agent, seed))
    return agent


@pytest.mark.parametrize("explore", [False, True])
@pytest.mark.parametrize("batch", [1, 7])
@pytest.mark.parametrize(("name", "spec"), CASES)
def test_actions_have_the_shape_and_lie_in_the_space(
    name: str, spec: Spec, batch: int, explore: bool
) -> None:
    agent = train(make(name, spec), 2)
    for scale in (0.0, 1.0, 100.0):
        action = agent.act(scale * torch.randn(batch, 2), explore=explore).action
        discrete = isinstance(spec.action_space, Discrete)
        assert action.shape == ((batch,) if discrete else (batch, 2))
        assert action.dtype == (torch.int64 if discrete else torch.float32)
        assert not action.requires_grad
        assert all(spec.action_space.contains(row.numpy()) for row in action)


@pytest.mark.parametrize(("name", "spec"), CASES)
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


@pytest.mark.parametrize(("name", "spec"), CASES)
def test_learning_leaves_the_experience_alone(name: str, spec: Spec) -> None:
    agent, twin = make(name, spec), make(name, spec)
    given, untouched = experience(agent, 0), experience(twin, 0)
    agent.learn(given)
    for field in dataclasses.fields(given):
        if field.name != "extras":
            assert torch.equal(getattr(given, field.name), getattr(untouched, field.name))


@pytest.mark.parametrize(("name", "spec"), CASES)
def test_weights_depend_on_the_seed_alone(name: str, spec: Spec) -> None:
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    first = train(make(name, spec, seed=3), 10)
    torch.manual_seed(2)
    np.random.seed(2)  # noqa: NPY002
    assert equal(first, train(make(name, spec, seed=3), 10))
    assert not equal(first, train(make(name, spec, seed=4), 10))


@pytest.mark.parametrize(("name", "spec"), [*CASES, ("sb3-sac", BOX), ("sb3-td3", BOX)])
def test_nothing_is_drawn_from_the_global_generators(name: str, spec: Spec) -> None:
    torch_before, numpy_before = torch.get_rng_state(), np.random.get_state()  # noqa: NPY002
    train(make(name, spec), 2).act(torch.zeros(1, 2), explore=True)
    assert torch.equal(torch_before, torch.get_rng_state())
    assert str(numpy_before) == str(np.random.get_state())  # noqa: NPY002


@pytest.mark.parametrize(("name", "spec"), CASES)
def test_a_resumed_run_equals_an_uninterrupted_one(name: str, spec: Spec) -> None:
    whole, half = train(make(name, spec), 10), train(make(name, spec), 5)
    resumed = make(name, spec, seed=99)
    resumed.load_state_dict(half.state_dict())
    train(resumed, 5, first=5)
    assert equal(whole, resumed)
    for explore in (True, False):
        obs = torch.randn(50, 2)
        mine, other = (x.act(obs, explore=explore).action for x in (whole, resumed))
        assert torch.equal(mine, other)


def test_a_metric_that_an_update_leaves_out_survives_a_resume() -> None:
    whole, half = train(make("sb3-td3", BOX), 5), train(make("sb3-td3", BOX), 4)
    resumed = make("sb3-td3", BOX)
    resumed.load_state_dict(half.state_dict())
    train(resumed, 1, first=4)
    one, other = (tensors(agent.state_dict())["/metrics"] for agent in (whole, resumed))
    assert torch.equal(one, other)


@pytest.mark.parametrize(("name", "spec"), CASES)
def test_acting_without_exploration_changes_nothing_in_the_training(name: str, spec: Spec) -> None:
    quiet, watched = make(name, spec), make(name, spec)
    for seed in range(3):
        quiet.learn(experience(quiet, seed))
        watched.act(torch.randn(3, 2))
        watched.learn(experience(watched, seed))
    assert same(weights(quiet), weights(watched))


CHANGES: dict[str, tuple[Any, dict[str, Any]]] = {
    "value_clip_range": (1e-3, {}),
    "target_kl": (1e-9, {}),
    "rms_prop_epsilon": (0.1, {}),
    "entropy_coefficient": (0.5, {}),
    "clip_range": (1e-3, {"learning_rate": 0.1}),
    "max_grad_norm": (1e-3, {}),
    "target_rate": (0.5, {}),
    "gae_lambda": (0.5, {}),
}
DRIVER_SETTINGS = {"envs", "rollout_steps", "random_steps", "replay_size", "steps_per_update"}
FIELDS = [
    (name, field.name, DISCRETE)
    for name in SMALL
    for field in dataclasses.fields(load_agent(name).Config)
]


@pytest.mark.parametrize(("name", "field", "spec"), FIELDS)
def test_settings_have_an_effect_save_those_of_the_drivers(
    name: str, field: str, spec: Spec
) -> None:
    default = SMALL[name].get(field, getattr(load_agent(name).Config(), field))
    value, others = CHANGES.get(field, (None, {}))
    if isinstance(default, bool):
        value = not default
    elif isinstance(default, tuple):
        value = tuple(2 * size for size in default)
    elif value is None:
        value = default + 1 if isinstance(default, int) else default / 2
    usual, changed = make(name, spec, **others), make(name, spec, **others | {field: value})
    driver_setting = field in DRIVER_SETTINGS or (name, field) == ("sb3-dqn", "batch_size")
    if field.startswith("exploration"):
        batch = experience(usual, 0)
        for agent in (usual, changed):
            for _ in range(4 if field != "exploration_end" else 20):
                agent.learn(batch)
        obs = torch.randn(200, 2)
        one, other = (agent.act(obs, explore=True).action for agent in (usual, changed))
        assert not torch.equal(one, other)
    else:
        assert same(weights(train(usual, 4)), weights(train(changed, 4))) == driver_setting


def test_the_preset_of_dqn_explores_for_a_tenth_of_the_run() -> None:
    assert load_agent("sb3-dqn").preset("CartPole-v1", 5_000) == {"exploration_updates": 500}
    agent: Any = make("sb3-dqn", DISCRETE, exploration_updates=4)
    rates = [agent.exploration]
    for seed in range(5):
        train(agent, 1, seed)
        rates.append(agent.exploration)
    assert rates == pytest.approx([1.0, 0.7625, 0.525, 0.2875, 0.05, 0.05])


@pytest.mark.parametrize(("name", "spec"), CASES)
def test_the_discount_of_the_world_wins(name: str, spec: Spec) -> None:
    fixed = dataclasses.replace(spec, discount=0.5)
    assert equal(train(make(name, fixed), 2), train(make(name, spec, discount=0.5), 2))


@pytest.mark.parametrize("name", SMALL)
def test_spaces_of_another_kind_are_refused_in_one_sentence(name: str) -> None:
    unbounded, image = Box(-np.inf, np.inf, (2,)), Box(0, 1, (3, 8, 8))
    for action_space in (unbounded, Discrete(3, start=1), MultiDiscrete([2, 2])):
        with pytest.raises(UserError, match="this agent needs a"):
            make(name, Spec(OBS, action_space))
    with pytest.raises(UserError, match="this agent needs a"):
        make(name, Spec(image, Discrete(3)))


class Ring(gym.Env[Any, Any]):
    """Observations repeat themselves whatever the seed; episodes end after 3 and are cut after 4."""

    observation_space = Box(-1, 1, (2,), np.float32)
    action_space: gym.Space[Any] = Discrete(3)

    def __init__(self) -> None:
        self.episode = self.at = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, Any]:
        self.episode, self.at = self.episode + 1, 0
        return self._obs(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.at += 1
        reward = float(np.sum(action)) - 0.5 * self.at
        return self._obs(), reward, self.episode % 2 == 1 and self.at == 3, self.at == 4, {}

    def _obs(self) -> Any:
        return np.array([np.sin(self.at), np.cos(self.episode % 7)], np.float32)


class UnitRing(Ring):
    """Its actions need no scaling, which would round them."""

    action_space = Box(-1, 1, (2,), np.float32)


class ContinuousRing(Ring):
    action_space = Box(np.array([-2, 0], np.float32), np.array([2, 5], np.float32))


def own(model: Any, agent: Any) -> Any:
    """SB3's own model with the weights of an agent and without a logger's output."""
    model.policy.load_state_dict(agent.policy.state_dict())
    model.set_logger(Logger(None, []))
    return model


@pytest.mark.parametrize(("kind", "world"), [("sac", UnitRing), ("td3", UnitRing), ("dqn", Ring)])
def test_off_policy_updates_are_those_of_sb3_on_its_own_buffer(
    kind: str, world: Callable[[], gym.Env[Any, Any]]
) -> None:
    settings = {"target_every": 100} if kind == "dqn" else {}
    agent: Any = make(f"sb3-{kind}", Spec.of(world()), hidden=(16,), **settings)
    arguments = {"policy_kwargs": {"net_arch": [16]}, "learning_starts": 60}
    model = own(getattr(sb3, kind.upper())("MlpPolicy", world(), seed=0, **arguments), agent)
    model.learn(60)  # fills the buffer
    buffer, batches = model.replay_buffer, []

    def sample(size: int, env: Any = None) -> Any:
        batches.append(type(buffer).sample(buffer, size, env))
        return batches[-1]

    buffer.sample = sample
    agent.generator.manual_seed(5)
    torch.manual_seed(5)
    for _ in range(4):
        model.train(1, 32)
    assert sum(float(batch.dones.sum()) for batch in batches), "some steps end"
    for batch in batches:
        action = batch.actions[:, 0] if kind == "dqn" else batch.actions
        agent.learn(
            Transitions(
                batch.observations, action, batch.rewards[:, 0], batch.next_observations,
                batch.dones[:, 0], torch.ones(32),
            )
        )  # fmt: skip
    assert same(tensors(agent.policy.state_dict()), tensors(model.policy.state_dict()))
    if kind == "sac":
        assert torch.equal(agent.log_temperature, model.log_ent_coef)


@pytest.mark.parametrize("world", [ContinuousRing, Ring])
@pytest.mark.parametrize("kind", ["ppo", "a2c"])
def test_rollouts_and_on_policy_updates_are_those_of_sb3_on_its_own(
    kind: str, world: Callable[[], gym.Env[Any, Any]]
) -> None:
    agent: Any = make(f"sb3-{kind}", Spec.of(world()), envs=1, rollout_steps=32)
    driver = RolloutDriver(agent, Task("ring", world), seed=0)
    options = {"batch_size": 8, "n_epochs": 2} if kind == "ppo" else {}
    arguments = {"policy_kwargs": {"net_arch": [8]}, "n_steps": 32, **options}
    model = own(getattr(sb3, kind.upper())("MlpPolicy", world(), seed=0, **arguments), agent)
    agent.act_generator.manual_seed(5)
    torch.manual_seed(5)
    # The shuffles follow from the first draw of the generator of `learn`.
    copy = torch.Generator()
    copy.set_state(agent.generator.get_state())
    np.random.seed(int(torch.randint(2**31, (), generator=copy)))  # noqa: NPY002
    driver.update()
    model.learn(32)
    mine, theirs = agent._on_policy.rollout_buffer, model.rollout_buffer
    for column in ("observations", "actions", "rewards", "values", "log_probs", "advantages"):
        assert np.array_equal(getattr(mine, column), getattr(theirs, column)), column
    assert same(tensors(agent.policy.state_dict()), tensors(model.policy.state_dict()))


@pytest.mark.parametrize(
    "arguments",
    [
        ["sb3-ppo", "--env", "CartPole-v1", "--updates", "60", "--rollout-steps", "37",
         "--envs", "3", "--batch-size", "37", "--checkpoint-every", "4"],
        ["sb3-a2c", "--env", "Pendulum-v1", "--updates", "400", "--checkpoint-every", "20"],
        ["sb3-dqn", "--env", "CartPole-v1", "--updates", "400", "--replay-size", "300",
         "--checkpoint-every", "20"],
        ["sb3-sac", "--env", "Pendulum-v1", "--updates", "200", "--hidden", "16",
         "--checkpoint-every", "20"],
    ],
    ids=lambda x: x[0],
)  # fmt: skip
@pytest.mark.slow
def test_a_run_killed_twice_ends_as_one_never_killed(arguments: list[str], tmp_path: Path) -> None:
    often = ["--log-every", "10", "--eval-every", "100", "--eval-episodes", "2"]
    killed_equals_unkilled([*arguments, *often], tmp_path, kills=2, seed=0)


@pytest.mark.parametrize(
    ("name", "env", "settings", "updates"),
    [
        ("sb3-ppo", "CartPole-v1", {"rollout_steps": 64, "envs": 4}, 8),
        ("sb3-a2c", "Pendulum-v1", {}, 40),
        ("sb3-dqn", "CartPole-v1", {"replay_size": 100, "random_steps": 20}, 30),
    ],
)
def test_a_stopped_run_goes_on_as_if_nothing_had_been(
    name: str, env: str, settings: dict[str, Any], updates: int, tmp_path: Path
) -> None:
    runs = []
    for folder in ("whole", "stopped"):
        config = RunConfig(
            env=env, updates=updates, eval_episodes=1, checkpoint_every=updates // 2,
            out=tmp_path / folder,
        )  # fmt: skip
        runs.append(Run(name, load_agent(name).Config(**settings), config))
    whole, stopped = runs
    whole.start()
    # As far as the first checkpoint, as if the process had ended there.
    stopped.folder.start(stopped._description())
    driver = stopped._make_driver()
    for _ in range(updates // 2):
        driver.update()
    state = {"agent": stopped.agent.state_dict(), "driver": driver.state_dict()}
    stopped.folder.save_checkpoint(updates // 2, state)
    resumed = Run.resume(tmp_path / "stopped")
    assert resumed.finish() == updates - updates // 2
    assert equal(whole.agent, resumed.agent)


@pytest.mark.parametrize(
    ("name", "settings", "updates"),
    [
        ("sb3-ppo", {"rollout_steps": 256, "envs": 4}, 12),
        (
            "sb3-dqn",
            {
                "hidden": (128, 128), "learning_rate": 5e-4, "batch_size": 64,
                "target_every": 200, "steps_per_update": 2, "exploration_updates": 2_000,
                "random_steps": 1_000,
            },
            3_000,
        ),
    ],
    ids=["ppo", "dqn"],
)  # fmt: skip
@pytest.mark.slow
def test_it_learns_to_balance_the_pole(
    name: str, settings: dict[str, Any], updates: int, tmp_path: Path
) -> None:
    config = RunConfig(env="CartPole-v1", updates=updates, eval_every=10**9, out=tmp_path / "run")
    run = Run(name, load_agent(name).Config(**settings), config)
    run.start()
    _, returns = Evaluator(find_task("CartPole-v1"), 20).returns(run.agent, seed=1)
    assert returns.mean() > 150
