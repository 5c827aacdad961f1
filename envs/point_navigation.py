"""Point navigation: a point in a box walks to a goal; shows in minutes what locomotion shows in hours.

    x' = clip(x + 0.15 a + 0.01 N(0, 1), -1.2, 1.2),   a in [-1, 1]^2
    r  = -|x' - goal| / sqrt(2),   goal = (0.8, 0.8)

Episodes start uniformly in [-1, 0]^2 and are cut after 30 steps; nothing terminates. The task is our
own. It is small enough that every agent sees all of it, and with data sets that range from noise to a
good controller it separates imitation, constrained and unconstrained Q-learning.
"""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray

Array = NDArray[Any]

ID = "rlbench/PointNavigation-v0"
GOAL = np.array([0.8, 0.8], np.float32)
BOUND = 1.2
_SPEED, _NOISE = 0.15, 0.01
_PIXELS = 128


class PointNavigation(gym.Env[Array, Array]):
    """The environment; its registration sets the time limit."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012

    def __init__(self, render_mode: str | None = None) -> None:
        """`render_mode`: rgb_array or None."""
        self.render_mode = render_mode
        self.observation_space = Box(-BOUND, BOUND, (2,))
        self.action_space = Box(-1, 1, (2,))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """A start in [-1, 0]^2."""
        super().reset(seed=seed)
        self._at = self.np_random.uniform(-1, 0, 2).astype(np.float32)
        return self._at, {}

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """One step; never terminates."""
        drift = _NOISE * self.np_random.standard_normal(2)
        moved = self._at + _SPEED * np.clip(action, -1, 1) + drift
        self._at = np.clip(moved, -BOUND, BOUND).astype(np.float32)
        distance = float(np.linalg.norm(self._at - GOAL))
        return self._at, -distance / np.sqrt(2), False, False, {}

    def render(self) -> Array:
        """Goal (green) and point (blue) from above, uint8 [128, 128, 3]."""
        picture = np.full((_PIXELS, _PIXELS, 3), 255, np.uint8)
        for place, colour in ((GOAL, (60, 170, 90)), (self._at, (40, 90, 200))):
            column, row = ((place / BOUND + 1) / 2 * (_PIXELS - 1)).astype(int)
            rows, columns = np.ogrid[:_PIXELS, :_PIXELS]
            disc = (rows - (_PIXELS - 1 - row)) ** 2 + (columns - column) ** 2 <= 25
            picture[disc] = colour
        return picture


gym.register(ID, f"{__name__}:PointNavigation", max_episode_steps=30)
