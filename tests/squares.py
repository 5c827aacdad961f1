"""Examples with coloured squares as objects."""

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.spaces import Box, Discrete

from rlbench.envs.examples._base import Source
from rlbench.envs.examples._objects import object_columns, object_fields
from rlbench.experience import Examples

SIDE, MOST, CLASSES = 32, 3, 2
SPEC: dict[str, Any] = dict(object_fields(SIDE, SIDE, MOST, CLASSES))


def columns(rows: int, seed: int) -> dict[str, Any]:
    """Black pictures with a red square of 8x8 and, in two of three, a green one of 12x12 pixels; classes 1 and 2."""
    rng = np.random.default_rng(seed)
    obs = np.zeros((rows, SIDE, SIDE, 3), np.uint8)
    instances = np.zeros((rows, SIDE, SIDE), np.uint8)
    for row in range(rows):
        for k, side in enumerate((8, 12)[: 1 + (row % 3 > 0)]):
            y, x = rng.integers(SIDE - side, size=2)
            obs[row, y : y + side, x : x + side] = 200 * np.eye(3, dtype=np.uint8)[k]
            instances[row, y : y + side, x : x + side] = k + 1
    return object_columns(obs, instances, np.tile([1, 2, 0], (rows, 1)))


def examples(rows: int = 8, seed: int = 0) -> Examples:
    return Examples({k: torch.from_numpy(v) for k, v in columns(rows, seed).items()})


class Squares(Source):
    """A source for runs: 24 pictures for training and 8 for tests."""

    fields = SPEC
    sizes = {"train": 24, "test": 8}  # noqa: RUF012

    def sample(self, split: Any, size: int, seed: int) -> Any:
        found = columns(24, seed + (split == "test"))
        return {name: x[:size] for name, x in found.items()}


class LeftOrRight(gym.Env[Any, Any]):
    """One step in a picture of squares; action 1 is right if the red square is in the right half of the picture."""

    observation_space = Box(0, 255, (SIDE, SIDE, 3), np.uint8)
    action_space = Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        found = columns(3, int(self.np_random.integers(2**31)))
        row = int(self.np_random.integers(3))
        self.obs, self.right = found["obs"][row], found["boxes"][row, 0, ::2].mean() > SIDE / 2
        return self.obs, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self.obs, float(bool(action) == self.right), True, False, {}
