"""A single team environment, for evaluations, films and checks."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray

Array = NDArray[Any]


class TeamEnv(gym.Env[Array, Array]):
    """A vector with one environment as a `gymnasium.Env`; the reward is the mean over the agents."""

    def __init__(self, vector: VectorEnv[Array, Array, Array]) -> None:
        """Wraps a vector with one environment, whose `step` returns rewards [1, A]."""
        self._one = vector
        self.metadata, self.render_mode = vector.metadata, vector.render_mode
        self.max_steps: int | None = getattr(vector, "max_steps", None)
        """Steps after which an episode is truncated; None if unknown."""
        self.observation_space = vector.single_observation_space
        self.action_space = vector.single_action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """Begins the episode of a seed; without one, the seed is drawn from the environment's generator."""
        super().reset(seed=seed)
        drawn = int(self.np_random.integers(2**31)) if seed is None else seed
        obs, info = self._one.reset(seed=[drawn])  # type: ignore[arg-type]
        return obs[0], info

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """One step, with actions [A, ...]."""
        obs, reward, terminated, truncated, info = self._one.step(np.asarray(action)[None])
        return obs[0], float(reward[0].mean()), bool(terminated[0]), bool(truncated[0]), info

    def render(self) -> Any:
        """A picture of the environment; None without a render mode."""
        pictures = self._one.render()
        return None if pictures is None else pictures[0]

    def close(self) -> None:
        """Closes the environment."""
        self._one.close()
