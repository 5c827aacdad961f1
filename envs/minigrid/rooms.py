"""MiniGrid's empty rooms of several sizes, observed as pictures of the whole room, padded to the same shape.

The agent starts at a random place, facing a random direction, and has to reach the goal in the bottom right corner. Rules
and rewards are the package's (`MiniGrid-Empty-Random-NxN-v0`). Every episode draws one of the sizes. A cell has 8 pixels;
pictures are padded with zeros at the bottom and on the right, so that an agent can act in rooms of sizes that
it was not trained on.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
from minigrid.envs.empty import EmptyEnv
from numpy.typing import NDArray

from rlbench.envs.minigrid.names import LARGEST
from rlbench.envs.minigrid.tiles import AGENTS, EMPTY, GOAL, TILE, WALL, drawn, tiles

SPACE = gym.spaces.Box(0, 255, (LARGEST * TILE, LARGEST * TILE, 3), np.uint8)
"""Space of the pictures."""


class EmptyRooms(gym.Env[NDArray[np.uint8], int]):
    """Empty rooms of several sizes; see the module."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012
    render_mode = "rgb_array"

    def __init__(self, sizes: Sequence[int]) -> None:
        """`sizes`: rows and columns of the rooms in cells, walls included."""
        make = partial(EmptyEnv, agent_start_pos=None, render_mode="rgb_array")
        self._rooms = [make(size=size) for size in sizes]
        self._room = self._rooms[0]
        self.observation_space = SPACE
        self.action_space = self._room.action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        """Starts an episode in a room of random size."""
        super().reset(seed=seed)
        self._room = self._rooms[self.np_random.integers(len(self._rooms))]
        self._room.reset(seed=int(self.np_random.integers(2**31)))
        return self._picture(), {}

    def step(self, action: int) -> tuple[NDArray[np.uint8], float, bool, bool, dict[str, Any]]:
        """One step by the package's rules."""
        _, reward, terminated, truncated, _ = self._room.step(action)
        return self._picture(), float(reward), terminated, truncated, {}

    def render(self) -> NDArray[np.uint8]:
        """A large picture of the room."""
        return np.asarray(self._room.get_frame(highlight=False), np.uint8)

    def _picture(self) -> NDArray[np.uint8]:
        column, row = self._room.agent_pos
        return picture(self._room.width, row, column, self._room.agent_dir)


def picture(size: int, row: int, column: int, direction: int) -> NDArray[np.uint8]:
    """The package's picture of a room, uint8 [H, W, 3], padded.

    Args:
        size: Rows and columns of the room in cells, walls included.
        row: Where the agent is. On the goal the episode has ended, and only the goal is drawn.
        column: See `row`.
        direction: Where the agent looks, 0 to 3.
    """
    cells = np.full((size, size), EMPTY, np.uint8)
    for edge in (cells[0], cells[-1], cells[:, 0], cells[:, -1]):
        edge[:] = WALL
    cells[-2, -2] = GOAL
    if (row, column) != (size - 2, size - 2):
        cells[row, column] = AGENTS + direction
    padded = np.zeros(SPACE.shape or (), np.uint8)
    padded[: size * TILE, : size * TILE] = drawn(cells[None], tiles()[0])[0]
    return padded
