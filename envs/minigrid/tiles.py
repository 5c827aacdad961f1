"""MiniGrid's tiles in small pictures, to draw many grids at once.

The pictures are the package's own. Its drawing of a grid loops over the cells; here one lookup draws a batch of grids.
"""

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

TILE = 8
"""Pixels of a side of a tile."""
KINDS = ("background", "wall", "door", "key", "ball", "box", "goal", "agent")
COLOURS = ("red", "green", "blue", "purple", "yellow", "grey")
STATES = ("open", "closed", "locked")
EMPTY, WALL, GOAL = range(3)
"""Numbers of tiles; see `tiles`."""
DOORS = 3
KEYS = DOORS + len(COLOURS) * len(STATES)
BALLS = KEYS + len(COLOURS)
"""Followed by the boxes."""
AGENTS = BALLS + 2 * len(COLOURS)


def drawn(cells: Array, tiles: Array) -> Array:
    """Pictures [N, 8 side, 8 side, ...] of levels [N, side, side], drawn with tiles [T, 8, 8, ...]."""
    count, side = cells.shape[:2]
    return tiles[cells].swapaxes(2, 3).reshape(count, side * TILE, side * TILE, *tiles.shape[3:])


@cache
def tiles(side: int = TILE) -> tuple[Array, Array]:
    """Pictures of all tiles, uint8 [T, side, side, 3], and the kind of each of their pixels, uint8 [T, side, side].

    A pixel belongs to a thing if it differs from the empty tile.
    """
    from minigrid.core.grid import Grid
    from minigrid.core.world_object import Ball, Box, Door, Goal, Key, Wall

    things: list[tuple[str, Any, int | None]] = [
        ("background", None, None), ("wall", Wall(), None), ("goal", Goal(), None),
    ]  # fmt: skip
    for colour in COLOURS:
        for state in STATES:
            door = Door(colour, is_open=state == "open", is_locked=state == "locked")
            things.append(("door", door, None))
    for kind, thing in (("key", Key), ("ball", Ball), ("box", Box)):
        things += [(kind, thing(colour), None) for colour in COLOURS]
    things += [("agent", None, direction) for direction in range(4)]
    drawings = [Grid.render_tile(thing, facing, tile_size=side) for _, thing, facing in things]
    pictures = np.stack(drawings).astype(np.uint8)
    differs = (pictures != pictures[EMPTY]).any(axis=-1)
    numbers = np.array([KINDS.index(kind) for kind, _, _ in things], np.uint8)
    return pictures, differs * numbers[:, None, None]
