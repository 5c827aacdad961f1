"""Playing whole episodes on vectorised environments."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from rlbench.envs.episodes import Separate, make_envs, play


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
