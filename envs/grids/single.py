"""One level of the grids and chains as a Gymnasium environment: a batch of one world with one worker.

Importing this module registers an id for each family, such as `rlbench/GridDense-v0`, with the argument `level`.
"""

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.spaces import Box, Discrete
from numpy.typing import NDArray
from torch import Tensor

from rlbench.envs.grids.chains import ChainWorlds
from rlbench.envs.grids.engine import GridWorlds
from rlbench.envs.grids.make import make_worlds
from rlbench.envs.grids.names import LENGTHS, gymnasium_id
from rlbench.envs.grids.picture import draw, in_words
from rlbench.seeding import derive

Array = NDArray[Any]


class GridEnv(gym.Env[Array, np.int64]):
    """A level of a family; state indices are observed as one-hot vectors.

    Objects terminate an episode and the time limit truncates it; in lifetimes both terminate it.
    """

    metadata = {"render_modes": ["rgb_array", "ansi"], "render_fps": 10}  # noqa: RUF012

    def __init__(self, family: str, level: int = 0, render_mode: str | None = None) -> None:
        """Makes a level.

        Args:
            family: A family of `rlbench.envs.grids.names`, such as grid-dense.
            level: Number of the level; the same number always gives the same level.
            render_mode: rgb_array, ansi or None.
        """
        self.render_mode = render_mode
        self.worlds = make_worlds(family, 1, 1, seed=derive(level, "level", family))
        self.states = self.worlds.states
        """Number of states; None if observations are vectors."""
        size = self.states or self.worlds.obs_size
        assert size is not None
        self.observation_space = Box(0, 1, (size,), np.float32)
        self.action_space = Discrete(self.worlds.actions)
        self.max_steps = _limit(self.worlds)
        """Steps after which an episode is over."""

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """Begins an episode of the level; the seed decides its start and all later random events."""
        super().reset(seed=seed)
        self.worlds.begin(torch.ones((1, 1), dtype=torch.bool), self._chance())
        return self._obs(), {}

    def step(self, action: int | np.int64) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """One step."""
        chosen = torch.full((1, 1), int(action))
        reward, terminated, truncated = self.worlds.advance(chosen, self._chance())
        return self._obs(), float(reward), bool(terminated), bool(truncated), {}

    def render(self) -> Array | str | None:
        """A picture, uint8 [H, W, 3], or text."""
        if self.render_mode is None:
            return None
        return (draw if self.render_mode == "rgb_array" else in_words)(self.worlds)

    def _chance(self) -> Tensor:
        """Random numbers of one step, [1, 1, draws]."""
        numbers = self.np_random.random((1, 1, self.worlds.draws), np.float32)
        return torch.from_numpy(numbers)

    def _obs(self) -> Array:
        obs = self.worlds.obs()[0, 0]
        if self.states is None:
            return obs.numpy()
        one_hot = np.zeros(self.states, np.float32)
        one_hot[int(obs)] = 1
        return one_hot


def _limit(worlds: Any) -> int:
    """Largest number of steps of an episode."""
    if isinstance(worlds, GridWorlds):
        return int(worlds.levels.limit)
    assert isinstance(worlds, ChainWorlds)
    return int(worlds.length)


for _family in LENGTHS:
    gym.register(gymnasium_id(_family), f"{__name__}:GridEnv", kwargs={"family": _family})
