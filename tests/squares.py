"""Examples with coloured squares as objects."""

from typing import Any

import numpy as np
import torch

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
