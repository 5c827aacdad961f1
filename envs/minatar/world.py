"""MinAtar: five small versions of Atari's games on a grid of 10x10 cells.

Young and Tian, 2019, https://arxiv.org/abs/1903.03176
"""

import colorsys
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class MinAtar(gym.Wrapper[Array, Any, Array, Any]):
    """An environment of minatar; observations are uint8 [10, 10, C], 1 where a cell has an object of the kind.

    The package's `reset` keeps the last action, which a sticky action repeats, so the first step would
    depend on the previous episode. Here the last action is reset to 0, no movement, as in a new
    environment.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 15}  # noqa: RUF012
    render_mode = "rgb_array"

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        """Wraps an environment of minatar."""
        super().__init__(env)
        shape = env.observation_space.shape or ()
        self.observation_space = gym.spaces.Box(0, 1, shape, np.uint8)
        self._obs: Array = np.zeros(shape, np.uint8)
        count = shape[-1]
        colours = [colorsys.hsv_to_rgb(c / count, 0.7, 1.0) for c in range(count)]
        self._colours = np.round(255 * np.array([(0, 0, 0), *colours])).astype(np.uint8)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """A new episode."""
        game: Any = self.env.unwrapped
        game.game.last_action = 0
        obs, info = self.env.reset(seed=seed, options=options)
        self._obs = obs.astype(np.uint8)
        return self._obs, info

    def step(self, action: Any) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """One step."""
        obs, reward, terminated, truncated, info = self.env.step(action)
        self._obs = obs.astype(np.uint8)
        return self._obs, float(reward), bool(terminated), bool(truncated), info

    def render(self) -> Any:
        """The colour of the last object in each cell, black if there is none, uint8 [10, 10, 3]."""
        number = (self._obs * np.arange(1, self._obs.shape[-1] + 1)).max(axis=-1)
        return self._colours[number]
