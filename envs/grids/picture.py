"""Pictures of grids and chains."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlbench.envs.grids.chains import ChainWorlds
from rlbench.envs.grids.engine import GridWorlds
from rlbench.envs.grids.worlds import Worlds

Array = NDArray[Any]

TILE = 16
"""Pixels of a cell; even, because H.264 needs pictures of even sizes."""
FLOOR, WALL, AGENT, GOOD, BAD = " ", "#", "@", "+", "-"
"""What a cell shows: an object is good if its reward is not negative."""
_COLOURS = {
    FLOOR: (245, 245, 245), WALL: (110, 110, 110), AGENT: (40, 90, 200), GOOD: (60, 170, 90), BAD: (200, 50, 50),
}  # fmt: skip


def cells(worlds: Worlds) -> list[str]:
    """Rows of the first worker of the first world: one character for each cell.

    A chain has a row for each first action, with the start in the first column of both; each row ends with a good or
    a bad object.
    """
    if isinstance(worlds, ChainWorlds):
        return _chain(worlds)
    assert isinstance(worlds, GridWorlds)
    shown = np.where(worlds.levels.wall[0].numpy(), WALL, FLOOR)
    place, rewards = worlds.object_cells()[0, 0], worlds.levels.reward[0]
    for cell, reward, present in zip(
        place.tolist(), rewards.tolist(), worlds.present[0, 0].tolist(), strict=True
    ):
        if present:
            shown[cell] = GOOD if reward >= 0 else BAD
    shown[int(worlds.cell[0, 0])] = AGENT
    return ["".join(row) for row in shown.reshape(worlds.level_set.shape)]


def _chain(worlds: ChainWorlds) -> list[str]:
    length, right = int(worlds.length[0]), int(worlds.right[0])
    step, side = int(worlds.steps[0, 0]), int(worlds.side[0, 0])
    rows = [list(FLOOR * length + (GOOD if action == right else BAD)) for action in (0, 1)]
    for action in (0, 1):
        if step == 0 or action == side:
            rows[action][step] = AGENT
    return ["".join(row) for row in rows]


def in_words(worlds: Worlds) -> str:
    """The cells as lines of text, with a frame of walls."""
    rows = cells(worlds)
    frame = WALL * (len(rows[0]) + 2)
    return "\n".join([frame, *(WALL + row + WALL for row in rows), frame])


def draw(worlds: Worlds) -> Array:
    """A picture with frame, uint8 [16 R, 16 C, 3]: walls are grey, objects green or red, the agent is a blue disc."""
    rows = in_words(worlds).splitlines()
    down, right = np.mgrid[:TILE, :TILE]
    middle = (TILE - 1) / 2
    disc = (down - middle) ** 2 + (right - middle) ** 2 <= 36
    square = (abs(down - middle) < 5) & (abs(right - middle) < 5)
    picture = np.empty((len(rows) * TILE, len(rows[0]) * TILE, 3), np.uint8)
    for row, line in enumerate(rows):
        for column, mark in enumerate(line):
            tile = picture[row * TILE : (row + 1) * TILE, column * TILE : (column + 1) * TILE]
            tile[:] = _COLOURS[WALL if mark == WALL else FLOOR]
            if mark not in (WALL, FLOOR):
                tile[disc if mark == AGENT else square] = _COLOURS[mark]
    return picture
