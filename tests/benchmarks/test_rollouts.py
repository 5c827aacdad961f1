"""The driver of on-policy agents: what a rollout holds, and resuming in the middle of episodes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import Tensor

from rlbench import checkpoint
from rlbench.benchmarks.training.config import RunConfig
from rlbench.benchmarks.training.rollouts import RolloutDriver
from rlbench.benchmarks.training.runner import Run
from rlbench.envs.pool import EnvPoolEnv, EnvPoolVector, EpisodePools
from rlbench.envs.tasks import Task
from rlbench.errors import UserError
from rlbench.experience import Trajectories, columns_of, with_columns
from rlbench.interface import Action, Agent, Spec, State
from tests.fake_envpool import FakePool
from tests.odd import InPlace, Line, limited

ENDS, CUT = 3, 5


class Walk(gym.Env[Any, Any]):
    """The observation is the step of the episode and its seed; the reward ten times the action.

    Odd seeds end after 3 steps, even ones are cut after 5.
    """

    observation_space: gym.Space[Any] = gym.spaces.Box(-1e9, 1e9, (2,), np.float64)
    action_space: gym.Space[Any] = gym.spaces.Discrete(4)
    deterministic = True

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, Any]:
        assert seed is not None
        self.at, self.tag = 0, seed % 1000
        return self._obs(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert isinstance(action, int | np.integer)
        self.at += 1
        terminated = self.tag % 2 == 1 and self.at == ENDS
        return self._obs(), 10.0 * action, terminated, self.at == CUT, {}

    def _obs(self) -> Any:
        noise = 0.0 if self.deterministic else np.random.rand()  # noqa: NPY002
        return np.array([self.at, self.tag + noise])


@dataclass(frozen=True, kw_only=True)
class Settings:
    envs: int = 3
    rollout_steps: int = 7


class Counts(Agent):
    """Its state counts the steps since it was zero, its actions the calls; keeps the rollout."""

    Config = Settings
    consumes = Trajectories
    explores = True

    def __init__(self, config: Any, spec: Spec, **options: Any) -> None:
        super().__init__(config, spec, **options)
        self.calls = 0

    def act(self, obs: Tensor, *, explore: bool = False, state: State | None = None) -> Action:
        assert explore
        assert obs.dtype == torch.float32
        state = state or {"steps": torch.zeros(len(obs), 1)}
        self.calls += 1
        action = (torch.arange(len(obs)) + self.calls) % 4
        return Action(action, {"steps": state["steps"][:, 0]}, {"steps": state["steps"] + 1})

    def learn(self, experience: Trajectories) -> Mapping[str, Tensor]:
        self.rollout = experience
        return {}


def make(**settings: Any) -> tuple[RolloutDriver, Counts]:
    agent = Counts(Settings(**settings), Spec.of(Walk()))
    return RolloutDriver(agent, Task("walk", Walk), seed=0), agent


def make_pooled(**settings: Any) -> tuple[RolloutDriver, Counts]:
    task = Task("pool", partial(EnvPoolEnv, FakePool), make_vector=partial(EnvPoolVector, FakePool))
    agent = Counts(Settings(**settings), Spec.of(task.make()))
    return RolloutDriver(agent, task, seed=0), agent


def make_pool_by_pool(**settings: Any) -> tuple[RolloutDriver, Counts]:
    spaces = FakePool.observation_space, FakePool.action_space
    task = Task(
        "pools",
        partial(EnvPoolEnv, FakePool),
        make_vector=lambda count: EpisodePools(FakePool, count, spaces),
    )
    agent = Counts(Settings(**settings), Spec.of(task.make()))
    return RolloutDriver(agent, task, seed=0), agent


Make = Callable[..., tuple[RolloutDriver, Counts]]


def rollouts(driver: RolloutDriver, agent: Counts, count: int) -> list[Trajectories]:
    found = []
    for _ in range(count):
        driver.update()
        found.append(agent.rollout)
    return found


def joined(found: list[Trajectories], column: str) -> Tensor:
    return torch.cat([getattr(rollout, column) for rollout in found])


def test_a_rollout_has_its_shapes_and_types() -> None:
    rollout = rollouts(*make(), count=1)[0]
    assert rollout.obs.shape == rollout.final_obs.shape == (7, 3, 2)
    for column in (rollout.reward, rollout.terminated, rollout.truncated, rollout.extras["steps"]):
        assert column.shape == (7, 3)
        assert column.dtype == torch.float32
    assert rollout.action.shape == (7, 3)
    assert rollout.action.dtype == torch.int64


def test_rows_are_what_happened_and_final_obs_is_never_that_of_the_next_episode() -> None:
    found = rollouts(*make(), count=10)
    obs, final_obs = joined(found, "obs"), joined(found, "final_obs")
    at, tag = obs.unbind(-1)
    assert torch.equal(final_obs[..., 0], at + 1)
    assert torch.equal(final_obs[..., 1], tag)
    terminated, truncated = joined(found, "terminated"), joined(found, "truncated")
    assert torch.equal(terminated, ((tag % 2 == 1) & (at + 1 == ENDS)).float())
    assert torch.equal(truncated, (at + 1 == CUT).float())
    assert terminated.any()
    assert truncated.any()
    over = (terminated + truncated)[:-1] > 0
    assert torch.equal(obs[1:][~over], final_obs[:-1][~over]), "across rollouts too"
    assert (obs[1:][over][:, 0] == 0).all()
    assert torch.equal(joined(found, "reward"), 10.0 * joined(found, "action"))


class Clipped(Walk):
    def step(self, action: Any) -> Any:
        obs, reward, *rest = super().step(action)
        return obs, np.sign(reward), *rest


def test_training_takes_place_in_the_environments_for_training() -> None:
    task = Task("walk", Walk, training=Task("walk", Clipped))
    agent = Counts(Settings(), Spec.of(Walk()))
    rollout = rollouts(RolloutDriver(agent, task, seed=0), agent, 1)[0]
    assert torch.equal(rollout.reward, rollout.action.sign().float())
    assert rollout.reward.any()


def test_every_episode_has_a_seed_of_its_own() -> None:
    obs = joined(rollouts(*make(), count=10), "obs")
    starts = obs[obs[..., 0] == 0][:, 1]
    assert len(starts) > 40
    assert len(set(starts.tolist())) > 0.9 * len(starts)


def test_the_recurrent_state_is_zero_where_an_episode_begins() -> None:
    found = rollouts(*make(), count=10)
    steps = torch.cat([rollout.extras["steps"] for rollout in found])
    assert torch.equal(steps, joined(found, "obs")[..., 0])
    assert found[0].state is None
    for rollout in found[1:]:
        assert rollout.state is not None
        assert torch.equal(rollout.state["steps"][:, 0], rollout.obs[0, :, 0])


def test_the_mean_return_of_ended_episodes_is_reported_also_after_a_resume() -> None:
    driver, agent = make(rollout_steps=2)
    running, told = torch.zeros(3), 0
    for update in range(20):
        if update == 7:
            saved, (driver, agent) = (
                (driver.state_dict(), agent.state_dict()),
                make(rollout_steps=2),
            )
            agent.load_state_dict(saved[1])
            driver.load_state_dict(saved[0])
        metrics, ended = driver.update(), []
        rollout = agent.rollout
        for reward, over in zip(
            rollout.reward, rollout.terminated + rollout.truncated, strict=True
        ):
            running += reward
            ended += running[over > 0].tolist()
            running[over > 0] = 0.0
        assert ("episode_return" in metrics) == bool(ended)
        if ended:
            assert float(metrics["episode_return"]) == pytest.approx(sum(ended) / len(ended))
            told += 1
    assert 5 < told < 20


@pytest.mark.parametrize("before", range(1, 6))
@pytest.mark.parametrize("steps", [1, 2, 7])
@pytest.mark.parametrize("make", [make, make_pooled, make_pool_by_pool])
def test_a_resume_in_the_middle_of_episodes_changes_nothing(
    make: Make, before: int, steps: int, tmp_path: Path
) -> None:
    driver, agent = make(rollout_steps=steps)
    rollouts(driver, agent, before)
    checkpoint.save(tmp_path / "saved", {"d": driver.state_dict(), "a": agent.state_dict()})
    loaded = checkpoint.load(tmp_path / "saved")
    again, other = make(rollout_steps=steps)
    other.load_state_dict(loaded["a"])
    again.load_state_dict(loaded["d"])
    for mine, theirs in zip(
        rollouts(driver, agent, 6), rollouts(again, other, 6), strict=True
    ):  # fmt: skip
        for name, column in columns_of(mine).items():
            assert torch.equal(column, getattr(theirs, name)), name
        assert mine.state is not None
        assert theirs.state is not None
        assert torch.equal(mine.state["steps"], theirs.state["steps"])
        assert torch.equal(mine.extras["steps"], theirs.extras["steps"])
    checkpoint.save(tmp_path / "one", driver.state_dict())
    checkpoint.save(tmp_path / "two", again.state_dict())
    for ending in ("json", "safetensors"):
        one, two = ((tmp_path / f"{name}.{ending}").read_bytes() for name in ("one", "two"))
        assert one == two


def test_only_the_actions_of_running_episodes_are_kept() -> None:
    driver, agent = make(rollout_steps=2)
    rollouts(driver, agent, 50)
    assert len(driver.state_dict()["actions"]) < CUT
    assert len(driver._actions) <= CUT


def test_an_environment_that_does_not_repeat_itself_cannot_be_resumed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Walk, "deterministic", False)
    driver, _ = make()
    driver.update()
    again, _ = make()
    with pytest.raises(UserError, match="did not repeat its steps"):
        again.load_state_dict(driver.state_dict())


def test_an_episode_that_ends_earlier_when_it_is_repeated_is_reported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    driver, _ = make(rollout_steps=4, envs=8)
    driver.update()
    monkeypatch.setattr("tests.benchmarks.test_rollouts.CUT", 2)
    again, _ = make(rollout_steps=4, envs=8)
    with pytest.raises(UserError, match="did not repeat its steps"):
        again.load_state_dict(driver.state_dict())


def test_rows_of_a_pool_are_what_happened() -> None:
    found = rollouts(*make_pooled(), count=10)
    obs, final_obs = joined(found, "obs"), joined(found, "final_obs")
    assert torch.equal(final_obs[..., :2], obs[..., :2]), "seed and number of the episode"
    assert torch.equal(final_obs[..., 2], obs[..., 2] + 1)
    assert torch.equal(joined(found, "reward"), joined(found, "action").float())
    over = (joined(found, "terminated") + joined(found, "truncated"))[:-1] > 0
    assert over.any()
    assert torch.equal(obs[1:][~over], final_obs[:-1][~over])
    assert torch.equal(obs[1:][over][:, 1], final_obs[:-1][over][:, 1] + 1)
    assert torch.equal(torch.cat([x.extras["steps"] for x in found]), obs[..., 2])


def test_a_data_set_is_refused_in_one_sentence(tmp_path: Path) -> None:
    for env, data in (("point-mixed", "auto"), ("Pendulum-v1", "some.hdf5")):
        config = RunConfig(env=env, data=data, out=tmp_path / "run")
        with pytest.raises(UserError, match="learns from its own steps and takes no data set"):
            Run("tests.benchmarks.test_rollouts:Counts", Settings(), config).start()


class Hoards(Counts):
    """Hands out one tensor as its action in each step, and writes to what it observes and learns."""

    def act(self, obs: Tensor, *, explore: bool = False, state: State | None = None) -> Action:
        chosen = super().act(obs, explore=explore, state=state)
        obs.fill_(99)
        if not hasattr(self, "buffer"):
            self.buffer = chosen.action.clone()
        for x in (state or {}).values():
            x.fill_(-1)
        return Action(self.buffer.copy_(chosen.action), chosen.extras, chosen.state)

    def learn(self, experience: Trajectories) -> Mapping[str, Tensor]:
        columns = {name: column.clone() for name, column in columns_of(experience).items()}
        self.rollout = with_columns(experience, columns)
        for column in (experience.obs, experience.final_obs, experience.action):
            column.fill_(7)
        return {}


def test_an_agent_that_reuses_its_tensors_changes_nothing() -> None:
    usual, usual_agent = make(rollout_steps=3)
    agent = Hoards(Settings(rollout_steps=3), Spec.of(Walk()))
    driver = RolloutDriver(agent, Task("walk", Walk), seed=0)
    for mine, theirs in zip(
        rollouts(usual, usual_agent, 5), rollouts(driver, agent, 5), strict=True
    ):  # fmt: skip
        for name in ("obs", "action", "reward", "final_obs", "terminated", "truncated"):
            assert torch.equal(getattr(mine, name), getattr(theirs, name)), name
        assert str(mine.state) == str(theirs.state)
    assert torch.equal(usual.state_dict()["actions"], driver.state_dict()["actions"])


class Leans(Counts):
    """Acts in a box, 0.5 always."""

    def act(self, obs: Tensor, *, explore: bool = False, state: State | None = None) -> Action:
        self.seen = obs.clone()
        return Action(torch.full((len(obs), 1), 0.5), {"steps": torch.zeros(len(obs))})


def leaning(env: Callable[[], gym.Env[Any, Any]]) -> Trajectories:
    agent = Leans(Settings(envs=2, rollout_steps=4), Spec.of(env()))
    driver = RolloutDriver(agent, Task("line", env), seed=0)
    return rollouts(driver, agent, 1)[0]


def test_an_environment_that_reuses_its_arrays_changes_nothing() -> None:
    plain, odd = leaning(lambda: limited(Line(), 3)), leaning(lambda: limited(InPlace(), 3))
    assert plain.final_obs[:, :, 1].tolist() == [[1, 1], [2, 2], [3, 3], [1, 1]]
    for name in ("obs", "action", "reward", "final_obs", "truncated"):
        assert torch.equal(getattr(plain, name), getattr(odd, name)), name
    assert (odd.action == 0.5).all(), "not what the environment wrote there"


def test_floats_from_a_uint8_space_are_kept() -> None:
    space = gym.spaces.Box(0, 255, (2,), np.uint8)
    found = leaning(lambda: limited(Line(obs=lambda x: x / 8, obs_space=space), 9))
    assert found.obs[:, 0, 1].tolist() == [0, 0.125, 0.25, 0.375]
    assert found.final_obs[:, 0, 1].tolist() == [0.125, 0.25, 0.375, 0.5]


def test_images_stay_bytes() -> None:
    space = gym.spaces.Box(0, 255, (2, 2, 1), np.uint8)
    found = leaning(
        lambda: limited(Line(obs=lambda x: np.full((2, 2, 1), x[1], np.uint8), obs_space=space), 9)
    )
    assert found.obs.dtype == found.final_obs.dtype == torch.uint8
    assert found.final_obs[:, 1, 0, 0, 0].tolist() == [1, 2, 3, 4]


def test_a_vector_that_is_not_finite_is_named() -> None:
    class Broken(EnvPoolVector):
        def step(self, actions: Any) -> Any:
            obs, reward, *rest = super().step(actions)
            return (obs, reward * np.nan, *rest)

    task = Task("pool", partial(EnvPoolEnv, FakePool), make_vector=partial(Broken, FakePool))
    driver = RolloutDriver(Counts(Settings(), Spec.of(task.make())), task, seed=0)
    with pytest.raises(UserError, match="a reward of pool is not finite"):
        driver.update()
