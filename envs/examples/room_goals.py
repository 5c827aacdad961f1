"""Pictures of MiniGrid's empty rooms, few of them labelled with whether the agent has reached the goal.

Pictures are as in the tasks `minigrid-empty-...`, of rooms of 5 to 8 cells. Each training example has one of L labelled pictures, in half of which the
agent is on the goal, and another picture without its label, in a quarter of which it is. The seed decides which pictures are labelled.
In tests the column `unlabelled` repeats the picture.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import Space, spaces

from rlbench.envs.examples._base import Array, Source, Split
from rlbench.envs.minigrid.names import SMALLEST
from rlbench.errors import UserError
from rlbench.seeding import derive

MOST = 1_000
"""Largest number of labelled pictures."""
ROOMS = 8
"""Cells of a side of the largest room."""
REACHED = 0.25
"""Share of the unlabelled pictures in which the agent is on the goal."""
SIZES: Mapping[Split, int] = {"train": 2_000, "test": 500}


class RoomGoals(Source):
    """Pictures `obs` and `unlabelled` [128, 128, 3] of bytes, and whether the goal is reached in the first one."""

    kind = "generated"
    cached = True

    def __init__(self, labelled: str) -> None:
        """Prepares nothing.

        Args:
            labelled: Number of labelled pictures, an even one.

        Raises:
            UserError: It is another number.
        """
        number = int(labelled) if labelled.isascii() and labelled.isdecimal() else 0
        if not 0 < number <= MOST or number % 2:
            raise UserError(
                f"room-goals-{labelled}: the number of labelled pictures is {labelled!r}; give an even number, up to {MOST:,}"
            )
        self._labelled = number

    @property
    def fields(self) -> Mapping[str, Space[Any]]:
        """See `Source`."""
        from rlbench.envs.minigrid.rooms import SPACE

        return {"obs": SPACE, "unlabelled": SPACE, "label": spaces.Discrete(2)}

    @property
    def sizes(self) -> Mapping[Split, int]:
        """See `Source`."""
        return SIZES

    def sample(self, split: Split, size: int, seed: int) -> Mapping[str, Array]:
        """See `Source`."""
        rng = np.random.default_rng(derive(seed, "room-goals", split, self._labelled))
        if split == "test":
            label = np.arange(size) % 2
            obs = _pictures(label, rng)
            return {"obs": obs, "unlabelled": obs, "label": label}
        label = np.arange(self._labelled) % 2
        obs = _pictures(label, rng)
        # Each labelled picture equally often in any stretch of examples.
        rounds = [rng.permutation(self._labelled) for _ in range(-(-size // self._labelled))]
        rows = np.concatenate(rounds)[:size]
        unlabelled = _pictures(rng.random(size) < REACHED, rng)
        return {"obs": obs[rows], "unlabelled": unlabelled, "label": label[rows]}


def _pictures(reached: Array, rng: np.random.Generator) -> Array:
    """Random pictures, uint8 [N, 128, 128, 3], in which the agent is on the goal or elsewhere."""
    from rlbench.envs.minigrid.rooms import picture

    pictures = []
    for on_goal in reached:
        size = int(rng.integers(SMALLEST, ROOMS + 1))
        # The last cell inside the walls is the goal.
        inside = (size - 2) ** 2
        row, column = divmod(inside - 1 if on_goal else int(rng.integers(inside - 1)), size - 2)
        pictures.append(picture(size, row + 1, column + 1, int(rng.integers(4))))
    return np.stack(pictures)
