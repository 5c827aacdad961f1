"""Playing whole episodes on vectorised environments."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from rlbench.envs.episodes import Separate, make_envs, play, step_limit
from rlbench.envs.pool import EnvPoolEnv
from rlbench.envs.procgen.names import ProcgenName
from rlbench.envs.procgen.pool import make_env
from rlbench.envs.tasks import find_task
from rlbench.errors import UserError
from tests.fake_envpool import FakePool
from tests.odd import InPlace, Line, limited


class Countdown(gym.Env[Any, Any]):
    """The seed decides the length; each step pays 1, the observation is the steps left."""

    observation_space = gym.spaces.Box(0, 100, (1,))
    action_space = gym.spaces.Box(-1, 1, (1,))

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, Any]:
        assert seed is not None
        self.left = seed
        return np.array([self.left], np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.left -= 1
        return np.array([self.left], np.float32), 1.0, self.left == 0, False, {}


def act(obs: Any, episode: Any, step: Any) -> Any:
    return np.zeros((len(obs), 1), np.float32)


@pytest.mark.parametrize("envs", [1, 3, 8])
def test_each_episode_has_its_own_seed(envs: int) -> None:
    lengths = [3, 1, 7, 2, 5]
    assert play(make_envs(Countdown, envs), lengths, act).tolist() == lengths


def test_steps_are_recorded_once_and_end_before_the_reset() -> None:
    seen: dict[int, list[tuple[float, float, bool]]] = {}

    def record(
        episode: Any, step: Any, obs: Any, action: Any, reward: Any, terminated: Any,
        truncated: Any, next_obs: Any,
    ) -> None:  # fmt: skip
        for v in np.flatnonzero(episode >= 0):
            steps = seen.setdefault(int(episode[v]), [])
            assert step[v] == len(steps)
            steps.append((float(obs[v, 0]), float(next_obs[v, 0]), bool(terminated[v])))

    play(make_envs(Countdown, 2), [2, 3, 1], act, record)
    assert seen == {
        0: [(2, 1, False), (1, 0, True)],
        1: [(3, 2, False), (2, 1, False), (1, 0, True)],
        2: [(1, 0, True)],
    }


def test_max_steps_truncates() -> None:
    assert play(make_envs(Countdown, 2), [9, 2, 9], act, max_steps=4).tolist() == [4, 2, 4]


def test_an_environment_with_nothing_left_is_not_stepped() -> None:
    envs = Separate([Countdown() for _ in range(3)])
    play(envs, [5, 2], act)
    assert [env.env.left for env in envs.envs[:2]] == [0, 0]  # type: ignore[attr-defined]
    assert not hasattr(envs.envs[2].env, "left")


def test_what_a_recorder_keeps_does_not_change_later() -> None:
    kept: list[Any] = []

    def record(*columns: Any, **_: Any) -> None:
        kept.append((columns, [column.copy() for column in columns]))

    play(make_envs(lambda: limited(InPlace(), 3), 2), range(5), act, record)
    assert len(kept) == 9
    for columns, copies in kept:
        assert all(np.array_equal(x, y) for x, y in zip(columns, copies, strict=True))
    obs, next_obs = (np.concatenate([copies[i] for _, copies in kept]) for i in (2, 7))
    played = np.concatenate([copies[0] for _, copies in kept]) >= 0
    assert (next_obs[played, 1] == obs[played, 1] + 1).all(), "one array for all steps"


def test_floats_from_a_uint8_space_are_played() -> None:
    space, seen = gym.spaces.Box(0, 255, (2,), np.uint8), []

    def see(obs: Any, episode: Any, step: Any) -> Any:
        seen.append(obs.copy())
        return act(obs, episode, step)

    play(make_envs(lambda: limited(Line(obs=lambda x: x / 8, obs_space=space), 3), 1), [0], see)
    assert np.concatenate(seen)[:, 1].tolist() == [0, 0.125, 0.25]


def test_environments_with_different_spaces_are_refused() -> None:
    sizes = iter((2, 3))
    with pytest.raises(UserError, match=r"(?s)mine has the spaces .*\(3,\).* but had .*\(2,\)"):
        make_envs(lambda: Line(obs_space=gym.spaces.Box(0, 1, (next(sizes),))), 2, "mine")


class Composed(gym.Env[Any, Any]):
    """Holds another environment without being a wrapper."""

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        self.env = env


class NamesALimit(Line):
    max_steps = 40

    @property
    def max_episode_steps(self) -> int:
        raise AssertionError("nothing of the user's is run to find a limit")


def own_limit(name: str, value: Any) -> gym.Env[Any, Any]:
    env = Line()
    setattr(env, name, value)
    return env


def test_a_time_limit_is_found_wherever_it_is_set() -> None:
    clip = gym.wrappers.ClipAction
    for env, limit in (
        (gym.wrappers.TimeLimit(Line(), 12), 12),
        (clip(gym.wrappers.TimeLimit(clip(Line()), 12)), 12),
        (gym.wrappers.TimeLimit(gym.wrappers.TimeLimit(Line(), 30), 20), 20),
        (gym.wrappers.TimeLimit(own_limit("max_steps", 9), 20), 9),
        (gym.make("Pendulum-v1"), 200),
        (gym.make("Pendulum-v1", max_episode_steps=7), 7),
        (gym.wrappers.TimeLimit(gym.make("Pendulum-v1"), 50), 50),
        (Composed(gym.wrappers.TimeLimit(Line(), 12)), 12),
        (own_limit("_max_episode_steps", np.int64(8)), 8),
        (NamesALimit(), 40),
        (find_task("multiroom-n2").make(), 40),
        (find_task("multiroom-n3").make(), 60),
        (find_task("halfcheetah-medium").make(), 1000),
        (find_task("point-mixed").make(), 30),
        (EnvPoolEnv(FakePool, 4), 4),
    ):
        assert step_limit(env) == limit, env


@pytest.mark.parametrize("value", [None, 0, -1, 2.5, True, "100"])
def test_invalid_step_limits_are_ignored(value: Any) -> None:
    assert step_limit(own_limit("max_steps", value)) is None


def test_a_removed_time_limit_does_not_count() -> None:
    assert step_limit(gym.make("Pendulum-v1").unwrapped) is None
    assert step_limit(gym.make("Pendulum-v1", max_episode_steps=-1)) is None
    assert step_limit(EnvPoolEnv(FakePool)) is None


@pytest.mark.parametrize(("game", "limit"), [("coinrun", 1000), ("maze", 500), ("bigfish", 6000)])
def test_games_of_procgen_name_their_limits(
    game: str, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "rlbench.envs.procgen.pool.make_pool", lambda name, options, seeds: FakePool(seeds)
    )
    assert step_limit(make_env(ProcgenName(game))) == limit
