"""Pictures of whole MiniGrid levels at several sizes, for questions that no single part of a picture answers.

A wall with a door divides a square level in two, horizontally or vertically; the agent, a goal, two balls or boxes and
up to two keys are placed at random. A cell has 8 pixels, so `frames-minigrid-s48` has images of 48 pixels and levels of
6 x 6 cells. The labels have the same meaning and the same chances at every size, except that at 40 and 152 pixels, where
the number of cells is odd, the top and left quadrants include the middle row and column and are more likely.
`frames-minigrid-s48-64` has equally many levels of each size, in turn, padded with zeros at the bottom and on the right
to the largest. Columns:

    obs       bytes [S, S, 3]
    seg       type of the object at each pixel, int64 [S, S]; 0 is the background
    door      colour of the door, 0 to 5, in the order of `COLOURS`
    quadrant  where the agent is: 0 top left, 1 top right, 2 bottom left, 3 bottom right
    keys      number of keys, 0 to 2

Training and test levels are drawn from different seeds. The tiles are minigrid's own; levels are assembled from
them in batches, because minigrid draws a grid cell by cell.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import Space, spaces

from rlbench.envs.examples._base import Array, Source, Split
from rlbench.envs.making import register_minigrid
from rlbench.envs.minigrid.tiles import (
    AGENTS,
    BALLS,
    COLOURS,
    DOORS,
    EMPTY,
    GOAL,
    KEYS,
    KINDS,
    STATES,
    TILE,
    WALL,
    drawn,
    tiles,
)
from rlbench.errors import UserError
from rlbench.seeding import derive

SIZES = (40, 48, 64, 80, 96, 152)
"""Pixels of a side."""
MOST_KEYS, OTHERS = 2, 2
AT_ONCE = 256
"""Levels that are drawn at once, to limit the memory."""


class MiniGridLevels(Source):
    """Pictures of whole levels; see the module."""

    kind = "generated"
    cached = True

    def __init__(self, name: str) -> None:
        """Prepares levels of one size or several.

        Args:
            name: Pixels of a side, one of `SIZES`, or several of them, as in 48-64.

        Raises:
            UserError: There is no such size, or minigrid is missing.
        """
        words = name.split("-")
        if not set(words) <= set(map(str, SIZES)) or len(set(words)) < len(words):
            raise UserError(
                f"there are no levels of {name} pixels; give frames-minigrid-sS with S one of "
                f"{', '.join(map(str, SIZES))}, or several, as in frames-minigrid-s48-64"
            )
        register_minigrid(f"frames-minigrid-s{name}")
        self._name, self._sides = name, tuple(map(int, words))
        self._side = max(self._sides)

    @property
    def fields(self) -> Mapping[str, Space[Any]]:
        """See `Source`."""
        return {
            "obs": spaces.Box(0, 255, (self._side, self._side, 3), np.uint8),
            "seg": spaces.Box(0, len(KINDS) - 1, (self._side, self._side), np.int64),
            "door": spaces.Discrete(len(COLOURS)),
            "quadrant": spaces.Discrete(4),
            "keys": spaces.Discrete(MOST_KEYS + 1),
        }

    @property
    def classes(self) -> Mapping[str, tuple[str, ...]]:
        """See `Source`."""
        return {
            "seg": KINDS, "door": COLOURS,
            "quadrant": ("top left", "top right", "bottom left", "bottom right"),
        }  # fmt: skip

    @property
    def sizes(self) -> Mapping[Split, int]:
        """See `Source`."""
        return {"train": 4_000, "test": 1_000}

    def sample(self, split: Split, size: int, seed: int) -> Mapping[str, Array]:
        """See `Source`."""
        rng = np.random.default_rng(derive(seed, "frames-minigrid-s", self._name, split))
        pictures, kinds = tiles()
        columns = {
            name: np.zeros((size, *(space.shape or ())), np.uint8 if space.shape else np.int64)
            for name, space in self.fields.items()
        }
        for turn, side in enumerate(self._sides):
            mine = np.arange(turn, size, len(self._sides))
            cells = levels(rng, len(mine), side // TILE)
            for first in range(0, len(mine), AT_ONCE):
                part = slice(first, first + AT_ONCE)
                columns["obs"][mine[part], :side, :side] = drawn(cells[part], pictures)
                columns["seg"][mine[part], :side, :side] = drawn(cells[part], kinds)
            for name, column in labels(cells).items():
                columns[name][mine] = column
        return columns


def levels(rng: np.random.Generator, count: int, side: int) -> Array:
    """Random levels, numbers of tiles [N, side, side] by row and column."""
    cells = np.full((count, side, side), EMPTY, np.uint8)
    for edge in (cells[:, 0], cells[:, -1], cells[:, :, 0], cells[:, :, -1]):
        edge[:] = WALL
    every = np.arange(count)
    wall = rng.integers(2, side - 2, count)
    cells[every, :, wall] = WALL
    door = rng.integers(1, side - 1, count)
    cells[every, door, wall] = DOORS + rng.integers(KEYS - DOORS, size=count)
    lying = rng.random(count) < 0.5
    cells[lying] = cells[lying].swapaxes(1, 2)

    flat = cells.reshape(count, -1)
    order = np.where(flat == EMPTY, rng.random(flat.shape), 1.0).argsort(axis=1)
    things = [AGENTS + rng.integers(4, size=count), np.full(count, GOAL)]
    things += [BALLS + rng.integers(2 * len(COLOURS), size=count) for _ in range(OTHERS)]
    keys = rng.integers(MOST_KEYS + 1, size=count)
    for key in range(MOST_KEYS):
        things.append(np.where(key < keys, KEYS + rng.integers(len(COLOURS), size=count), EMPTY))
    for place, thing in enumerate(things):
        flat[every, order[:, place]] = thing
    return cells


def labels(cells: Array) -> dict[str, Array]:
    """The columns `door`, `quadrant` and `keys`, int64 [N], of levels [N, side, side]."""
    count, side = cells.shape[:2]
    flat = cells.reshape(count, -1)
    door = ((flat >= DOORS) & (flat < KEYS)).argmax(axis=1)
    row, column = np.divmod((flat >= AGENTS).argmax(axis=1), side)
    return {
        "door": (flat[np.arange(count), door].astype(np.int64) - DOORS) // len(STATES),
        "quadrant": 2 * (2 * row + 1 > side) + (2 * column + 1 > side),
        "keys": ((flat >= KEYS) & (flat < BALLS)).sum(axis=1),
    }
