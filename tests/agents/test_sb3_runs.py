"""That SB3 itself does the updates, and whole runs of its agents: exact resume, and learning."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3 as sb3
import torch
from gymnasium.spaces import Box, Discrete
from stable_baselines3.common.logger import Logger
from torch import Tensor

from rlbench.agents import load_agent
from rlbench.backbones.ranges import LIMIT, RANGES
from rlbench.benchmarks.training.config import RunConfig
from rlbench.benchmarks.training.evaluation import EpisodesEvaluator
from rlbench.benchmarks.training.rollouts import RolloutDriver
from rlbench.benchmarks.training.runner import Run
from rlbench.envs.tasks import Task, find_task
from rlbench.errors import UserError
from rlbench.experience import Transitions
from rlbench.interface import Spec
from tests.agents.case import ROLLOUT, Case, Change, make
from tests.kill_and_resume import killed_equals_unkilled
from tests.networks import equal, same, tensors


def critics_of(agent: Any, obs: Tensor, action: Tensor) -> Tensor:
    return torch.cat(agent.policy.critic(obs, action), dim=1).T


FAST = {"hidden": (32, 32), "learning_rate": 5e-3, "target_rate": 0.1}
STEPS: dict[str, Change] = {
    "entropy_coefficient": (0.5, {}), "gae_lambda": (0.5, {}), "max_grad_norm": (1e-3, {}),
    "activation": ("ReLU", {}),
}  # fmt: skip
CASES = (
    Case(
        "sb3-a2c",
        small={"hidden": (8,), **ROLLOUT},
        changes={**STEPS, "rms_prop_epsilon": (0.1, {})},
        spaces=(Box, Discrete),
    ),
    Case(
        "sb3-dqn",
        small={"hidden": (8,), "target_every": 2, "exploration_updates": 8},
        changes={
            "batch_size": (6, {}), "max_grad_norm": (1e-3, {}), "target_rate": (0.5, {}), "activation": ("Tanh", {}),
        },
        spaces=(Discrete,),
        driver_settings=("batch_size",),
    ),
    Case(
        "sb3-ppo",
        small={"hidden": (8,), "batch_size": 8, "epochs": 2, **ROLLOUT},
        changes={
            **STEPS, "batch_size": (6, {}), "epochs": (3, {}),
            "clip_range": (1e-3, {"learning_rate": 0.1, "epochs": 3}),
            "value_clip_range": (1e-3, {"epochs": 3}), "target_kl": (1e-9, {"epochs": 3}),
        },
        spaces=(Box, Discrete),
    ),
    Case(
        "sb3-sac",
        small={"hidden": (16,)},
        changes={"temperature": ("fixed", {}), "activation": ("Tanh", {})},
        fast={
            **FAST, "learning_rate": 1e-2, "initial_temperature": 1e-3,
            "target_entropy_scale": 3.0,
        },
        critic_values=critics_of,
    ),
    Case(
        "sb3-td3",
        small={"hidden": (16,)},
        changes={"target_noise_clip": (0.01, {}), "exploration_noise": (0.1, {}), "activation": ("Tanh", {})},
        fast=FAST,
        critic_values=critics_of,
    ),
)  # fmt: skip


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


class PictureRing(Ring):
    """Observations are images with their channels last."""

    observation_space: Any = Box(0, 255, (36, 40, 3), np.uint8)

    def _obs(self) -> Any:
        return np.arange(36 * 40 * 3).reshape(36, 40, 3).astype(np.uint8) * (1 + self.at)


class ChannelsFirstRing(PictureRing):
    observation_space: Any = Box(0, 255, (3, 36, 40), np.uint8)

    def _obs(self) -> Any:
        return super()._obs().transpose(2, 0, 1)


class SmallRing(PictureRing):
    """Images too small for SB3's convolutions."""

    observation_space: Any = Box(0, 255, (7, 7, 3), np.uint8)

    def _obs(self) -> Any:
        return super()._obs()[:7, :7]


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


@pytest.mark.parametrize("world", [ContinuousRing, Ring, PictureRing, ChannelsFirstRing, SmallRing])
@pytest.mark.parametrize("kind", ["ppo", "a2c"])
def test_rollouts_and_on_policy_updates_are_those_of_sb3_on_its_own(
    kind: str, world: type[gym.Env[Any, Any]]
) -> None:
    agent: Any = make(f"sb3-{kind}", Spec.of(world()), envs=1, rollout_steps=32)
    driver = RolloutDriver(agent, Task("ring", world), seed=0)
    options = {"batch_size": 8, "n_epochs": 2} if kind == "ppo" else {}
    arguments = {"policy_kwargs": {"net_arch": [8]}, "n_steps": 32, **options}
    env: gym.Env[Any, Any] = world()
    if world is SmallRing:
        env = gym.wrappers.FlattenObservation(env)
    images = len(env.observation_space.shape or ()) > 1
    policy = "CnnPolicy" if images else "MlpPolicy"
    model = own(getattr(sb3, kind.upper())(policy, env, seed=0, **arguments), agent)
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
        both = getattr(mine, column), getattr(theirs, column)
        np.testing.assert_allclose(*both, rtol=0.0, equal_nan=False, err_msg=column)
    states = agent.policy.state_dict(), model.policy.state_dict()
    torch.testing.assert_close(*states, rtol=0.0, atol=0.0)


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
    stopped.folder.start(stopped.description())
    driver = stopped.make_driver()
    for _ in range(updates // 2):
        driver.update()
    state = {"agent": stopped.learner.state_dict(), "driver": driver.state_dict()}
    stopped.folder.save_checkpoint(updates // 2, state)
    resumed = Run.resume(tmp_path / "stopped")
    assert resumed.finish() == updates - updates // 2
    assert equal(whole.learner, resumed.learner)


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
    _, returns = EpisodesEvaluator(find_task("CartPole-v1"), 20).returns(run.learner, seed=1)
    assert returns.mean() > 150


@pytest.mark.parametrize(
    ("agent", "env"),
    [("sb3-ppo", "CartPole-v1"), ("sb3-a2c", "Pendulum-v1"), ("sb3-sac", "Pendulum-v1")],
)
def test_weights_that_blow_up_are_named(
    agent: str, env: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(RANGES, "learning_rate", LIMIT)
    kind = load_agent(agent).Config
    small = {"random_steps": 4, "batch_size": 4} if agent == "sb3-sac" else {"rollout_steps": 8}
    settings = kind(learning_rate=1e30, **small)
    config = RunConfig(env=env, updates=20, eval_episodes=1, out=tmp_path / "run")
    with pytest.raises(UserError, match=r"became .* by update .*, so the run was stopped"):
        Run(agent, settings, config).start()


@pytest.mark.parametrize("settings", [{"batch_size": 1}, {"rollout_steps": 1}])
def test_rollouts_of_one_step_are_refused(settings: dict[str, int]) -> None:
    with pytest.raises(UserError, match="Stable-Baselines3 needs 2 or more of each"):
        load_agent("sb3-ppo").Config(**settings)


@pytest.mark.parametrize("name", ["sb3-ppo", "sb3-dqn"])
def test_a_missing_library_is_named_with_the_extra_that_installs_it(name: str) -> None:
    code = (
        "import sys; sys.modules['stable_baselines3'] = None; from rlbench.cli import main; "
        f"sys.exit(main(['run', {name!r}, '--env', 'CartPole-v1']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.endswith("stable_baselines3; install it with pip install 'rlbench[sb3]'\n")
