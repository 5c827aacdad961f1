"""Objects of MiniGrid at mixed sizes: which are there, and where?

A frame shows 64x64 pixels of a level: a wall with a door divides it, the agent stands somewhere, and one to five other objects lie
around: keys, balls, boxes and at most one goal. The tiles of a frame have sides of 4, 6, ... or S pixels, so that an object of one kind
varies in length by a factor of up to S / 4. The frame begins anywhere within a tile, so that objects do not lie at multiples of the tile's size.
Objects are never cut off; walls may be. An open door in a tile of 4 pixels shows nothing and is not an object.
Columns are those of `_objects.py`; at most `MOST` objects are in a frame.

Training and test frames are drawn from different seeds. The tiles are minigrid's own.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import Space

from rlbench.envs.examples._base import Array, Source, Split
from rlbench.envs.examples._objects import NONE, object_columns, object_fields
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
    WALL,
    tiles,
)
from rlbench.errors import UserError
from rlbench.seeding import derive

SIDE = 64
SMALLEST, STEP, LARGEST = 4, 2, 16
"""Pixels of a side of a tile: the smallest, the step, and the largest."""
CLASSES = (NONE, *(kind for kind in KINDS if kind not in ("background", "wall")))
OTHERS = 5
"""Largest number of objects besides the door and the agent."""
MOST = OTHERS + 2
AT_ONCE = 32
"""Frames that are drawn at once."""


class MiniGridObjects(Source):
    """Frames with objects; see the module."""

    kind = "generated"
    cached = True

    def __init__(self, name: str) -> None:
        """Prepares frames.

        Args:
            name: Pixels of the largest tiles.

        Raises:
            UserError: There are no such tiles, or minigrid is missing.
        """
        sizes = range(SMALLEST, LARGEST + 1, STEP)
        if name not in map(str, sizes):
            raise UserError(
                f"there are no tiles of {name} pixels; give objects-minigrid-sS with S one of {', '.join(map(str, sizes))}"
            )
        register_minigrid(f"objects-minigrid-s{name}")
        self._name, self._sizes = name, tuple(size for size in sizes if size <= int(name))

    @property
    def fields(self) -> Mapping[str, Space[Any]]:
        """See `Source`."""
        return object_fields(SIDE, SIDE, MOST, len(CLASSES) - 1)

    @property
    def classes(self) -> Mapping[str, tuple[str, ...]]:
        """See `Source`."""
        return {"classes": CLASSES}

    @property
    def sizes(self) -> Mapping[Split, int]:
        """See `Source`."""
        return {"train": 4_000, "test": 1_000}

    def sample(self, split: Split, size: int, seed: int) -> Mapping[str, Array]:
        """See `Source`; the sizes of tiles take turns."""
        columns = {
            name: np.zeros((size, *(space.shape or ())), space.dtype)
            for name, space in self.fields.items()
        }
        for turn, side in enumerate(self._sizes):
            rng = np.random.default_rng(derive(seed, "objects-minigrid", self._name, split, side))
            mine = np.arange(turn, size, len(self._sizes))
            for first in range(0, len(mine), AT_ONCE):
                rows = mine[first : first + AT_ONCE]
                # Always the same number, so that the first frames do not depend on `size`.
                found = frames(rng, AT_ONCE, side)
                for name, column in found.items():
                    columns[name][rows] = column[: len(rows)]
        return columns


def frames(rng: np.random.Generator, count: int, side: int) -> dict[str, Array]:
    """The columns of random frames whose tiles have `side` pixels, [count, ...] each."""
    begin = rng.integers(side, size=(count, 2))
    cells, numbers, classes = levels(rng, count, side, begin)
    pictures, kinds = tiles(side)
    # Row and column of each pixel in the level, [N, 64], split into a cell and a place in its tile.
    (row, y), (column, x) = (
        np.divmod(begin[:, axis, None] + np.arange(SIDE), side) for axis in (0, 1)
    )
    row, y, column, x = row[:, :, None], y[:, :, None], column[:, None], x[:, None]
    every = np.arange(count)[:, None, None]
    tile = cells[every, row, column]
    shown = np.where(kinds[tile, y, x] > 0, numbers[every, row, column], 0).astype(np.uint8)
    return object_columns(pictures[tile, y, x], shown, classes)


def levels(
    rng: np.random.Generator, count: int, side: int, begin: Array
) -> tuple[Array, Array, Array]:
    """Random levels: their tiles [N, n, n], the number of the object in each cell [N, n, n] or 0, and classes of objects [N, MOST].

    Args:
        rng: Generator of all draws.
        count: Number of levels, N.
        side: Pixels of a side of a tile.
        begin: Row and column of the level's pixel at which the frame begins, [N, 2], below `side`.
    """
    n = -(-(SIDE + side - 1) // side)
    every = np.arange(count)
    # Cells of which the frame shows all pixels: from `first` to `last` - 1 in rows and columns.
    first, last = -(-begin // side), (begin + SIDE) // side
    cells = np.full((count, n, n), EMPTY, np.uint8)
    across = rng.integers(2, size=count)
    wall, door = (
        rng.integers(first[every, axis], last[every, axis]) for axis in (across, 1 - across)
    )
    # Walls are drawn in rows, and half of the levels are then transposed.
    cells[every, wall] = WALL
    cells[every, wall, door] = DOORS + rng.integers(KEYS - DOORS, size=count)
    flipped = across == 1
    cells[flipped] = cells[flipped].swapaxes(1, 2)

    place = np.arange(n)
    rows, columns = (
        (place >= first[:, axis, None]) & (place < last[:, axis, None]) for axis in (0, 1)
    )
    free = (cells == EMPTY) & rows[:, :, None] & columns[:, None]
    flat, doors = cells.reshape(count, -1), ((cells >= DOORS) & (cells < KEYS)).reshape(count, -1)
    order = np.where(free.reshape(count, -1), rng.random(flat.shape), 1.0).argsort(axis=1)
    agent = AGENTS + rng.integers(4, size=count)
    others = np.array([GOAL, KEYS, BALLS, BALLS + len(COLOURS)])
    kind = rng.integers(1, 4, size=(count, OTHERS))
    kind[:, 0] = rng.integers(4, size=count)  # Two goals side by side would look like one.
    colour = rng.integers(len(COLOURS), size=(count, OTHERS))
    things = np.where(kind == 0, GOAL, others[kind] + colour)
    some = np.arange(OTHERS) < rng.integers(1, OTHERS + 1, size=(count, 1))
    numbers = np.where(doors, 1, 0).astype(np.uint8)
    for k in range(OTHERS + 1):
        thing = agent if k == 0 else np.where(some[:, k - 1], things[:, k - 1], EMPTY)
        at = every, order[:, k]
        there = thing != EMPTY
        numbers[at] = np.where(there, k + 2, numbers[at])
        flat[at] = np.where(there, thing, flat[at])
    kinds = np.array([CLASSES.index(x) for x in ("door", "agent", "goal", "key", "ball", "box")])
    classes = np.concatenate(
        [np.tile(kinds[:2], (count, 1)), np.where(some, kinds[2:][kind], 0)], axis=1
    )
    return flat.reshape(cells.shape), numbers.reshape(cells.shape), classes
