"""Environments with one fault each, for tests of the environment checks."""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box
from gymnasium.wrappers import TimeLimit


class Line(gym.Env[Any, Any]):
    """A point on a line: the action moves it by a tenth, the reward is minus its distance from 0.

    The observation is the place and the number of steps.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"]}  # noqa: RUF012
    render_mode = "rgb_array"

    def __init__(
        self,
        obs: Callable[[Any], Any] = lambda x: x,
        obs_space: gym.Space[Any] | None = None,
        action_space: gym.Space[Any] | None = None,
        reward: Callable[[float], Any] = float,
        ends: Any = False,
        step: Callable[[Any, Any], None] = lambda env, action: None,
    ) -> None:
        """Sets its fault.

        Args:
            obs: Makes the observation of a float32 array [2].
            obs_space: Declared observation space.
            action_space: Declared action space.
            reward: Turns a number into the reward.
            ends: `terminated`, always.
            step: Called with the environment and the action before each step.
        """
        self.observation_space = obs_space or Box(-99, 99, (2,))
        self.action_space = action_space or Box(-1, 1, (1,))
        self.make_obs, self.make_reward, self.ends, self.before = obs, reward, ends, step
        self.shared = np.zeros(2, np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.x, self.t = float(self.np_random.uniform(-1, 1)), 0
        return self.obs(), {}

    def step(self, action: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        self.before(self, action)
        self.x += 0.1 * float(np.ravel(action)[0])
        self.t += 1
        return self.obs(), self.make_reward(-abs(self.x)), self.ends, False, {}

    def obs(self) -> Any:
        return self.make_obs(np.array([self.x, self.t], np.float32))

    def render(self) -> Any:
        return np.full((16, 16, 3), self.t, np.uint8)


class InPlace(Line):
    """Reuses one array for its observations, and writes to the actions it receives."""

    def obs(self) -> Any:
        self.shared[:] = self.x, self.t
        return self.shared

    def step(self, action: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        out = super().step(action)
        if isinstance(action, np.ndarray):
            action[...] = 77
        return out


def limited(env: gym.Env[Any, Any], steps: int = 5) -> gym.Env[Any, Any]:
    return TimeLimit(env, steps)


def good() -> gym.Env[Any, Any]:
    return limited(Line())


def in_place() -> gym.Env[Any, Any]:
    return limited(InPlace())


def endless() -> gym.Env[Any, Any]:
    return Line()


def raises() -> gym.Env[Any, Any]:
    def burn(env: Any, action: Any) -> None:
        if env.t == 4:
            raise ValueError("motor is\n  on fire")

    return limited(Line(step=burn), 6)


def reward_none() -> gym.Env[Any, Any]:
    return limited(Line(reward=lambda r: None))


def reward_nan() -> gym.Env[Any, Any]:
    env = Line()
    env.make_reward = lambda r: float("nan") if env.t == 4 else r
    return limited(env)


def huge_reward() -> gym.Env[Any, Any]:
    return limited(Line(reward=lambda r: 1e30 * r))


def broken_factory() -> gym.Env[Any, Any]:
    return gym.make("NoSuchEnvironment-v0")


def float_under_bytes() -> gym.Env[Any, Any]:
    return limited(Line(obs=lambda x: x / 8, obs_space=Box(0, 255, (2,), np.uint8)))
