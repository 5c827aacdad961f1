"""Levels of MultiRoom drawn by hand, and a way to the goal of any level."""

from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlbench.envs.multiroom.levels import AGENT, CLOSED, DOOR, EMPTY, GOAL, Levels

Array = NDArray[Any]

LEFT, RIGHT, FORWARD, PICK_UP, DROP, TOGGLE, DONE = range(7)
STEPS = ((1, 0), (0, 1), (-1, 0), (0, -1))
SIGNS = {"#": (2, 5, 0), ".": (1, 0, 0), "D": (4, 2, 1), "G": (8, 1, 0)}
"""Grey wall, nothing, closed blue door, green goal."""


def drawn(*pictures: str) -> Levels:
    """Levels from pictures; the agent is one of > v < ^."""
    cells, at, direction = [], [], []
    for picture in pictures:
        rows = picture.split()
        for y, row in enumerate(rows):
            for x, sign in enumerate(row):
                if sign in ">v<^":
                    at.append((x, y))
                    direction.append(">v<^".index(sign))
                    rows[y] = row.replace(sign, ".")
        grid = [[SIGNS[sign] for sign in row] for row in rows]
        cells.append(np.array(grid, np.uint8).swapaxes(0, 1))
    return Levels(np.stack(cells), np.array(at), np.array(direction))


def way(obs: Array) -> list[int]:
    """Actions that lead to the goal, from what is seen at first; with the fewest turns and moves."""
    ((x, y),) = np.argwhere(obs[..., 0] == AGENT).tolist()
    start = (x, y, int(obs[x, y, 2]))
    found: dict[tuple[int, int, int], list[int]] = {start: []}
    waiting = deque([start])
    while waiting:
        x, y, direction = place = waiting.popleft()
        for turn, to in ((LEFT, (direction - 1) % 4), (RIGHT, (direction + 1) % 4)):
            if (x, y, to) not in found:
                found[x, y, to] = [*found[place], turn]
                waiting.append((x, y, to))
        ahead = (x + STEPS[direction][0], y + STEPS[direction][1])
        kind, _, state = obs[ahead].tolist()
        if kind == GOAL:
            return [*found[place], FORWARD]
        if kind in (EMPTY, DOOR) and (*ahead, direction) not in found:
            opening = [TOGGLE] if (kind, state) == (DOOR, CLOSED) else []
            found[*ahead, direction] = [*found[place], *opening, FORWARD]
            waiting.append((*ahead, direction))
    raise AssertionError("no way to the goal")
