"""A picture of a MultiRoom grid from above."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlbench.envs.multiroom.levels import (
    AGENT,
    BLUE,
    CLOSED,
    DOOR,
    EMPTY,
    GOAL,
    GREEN,
    GREY,
    PURPLE,
    RED,
    YELLOW,
)

Array = NDArray[Any]

TILE = 16
"""Pixels of a cell; even, because H.264 needs pictures of even sizes."""
COLOURS = {
    RED: (200, 50, 50), GREEN: (60, 170, 90), BLUE: (40, 90, 200), PURPLE: (130, 70, 180),
    YELLOW: (225, 185, 40), GREY: (110, 110, 110),
}  # fmt: skip
_FLOOR = (245, 245, 245)


def draw(obs: Array) -> Array:
    """Draws walls, doors (open ones hollow), goal and agent (an arrow in its direction).

    Args:
        obs: Observation, uint8 [W, H, 3].

    Returns:
        Picture, uint8 [16 H, 16 W, 3].
    """
    columns, rows = obs.shape[:2]
    picture = np.empty((rows * TILE, columns * TILE, 3), np.uint8)
    for x in range(columns):
        for y in range(rows):
            kind, colour, state = obs[x, y].tolist()
            tile = picture[y * TILE : (y + 1) * TILE, x * TILE : (x + 1) * TILE]
            tile[:] = _FLOOR
            if kind != EMPTY:
                tile[_shape(kind, state)] = COLOURS[colour]
    return picture


def _shape(kind: int, state: int) -> Array:
    """Pixels of a tile, [16, 16], that have the colour of its object."""
    down, right = np.mgrid[:TILE, :TILE]
    from_edge = np.minimum(np.minimum(down, right), TILE - 1 - np.maximum(down, right))
    shape: Array = from_edge >= (2 if kind == GOAL else 0)
    if kind == DOOR:
        shape = (from_edge >= 1) & ((from_edge < 3) | (state == CLOSED))
    elif kind == AGENT:  # An arrow head to the right, turned clockwise.
        head = (right >= 3) & (right <= 12) & (np.abs(2 * down - TILE + 1) <= 13 - right)
        shape = np.rot90(head, -state)
    return shape
