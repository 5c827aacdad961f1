"""Views of an agent that has only been in the first room of MultiRoom's levels, and views from their other rooms.

    obs     the grid of a level from above, as in the tasks multiroom-nK: type, colour and state of each cell
    novel   1 if the agent is in a room other than the first

The four levels are like those of multiroom-n3, with two or three rooms. In the first room, the agent is in any place and looks in any
direction, and the door that leads on is open or closed; in another room, all doors on the way are open. Training examples are visits to
first rooms only. Half of the test examples are such visits too, with places, directions and doors that training does not have.
"""

from collections.abc import Mapping
from itertools import count
from typing import Any

import numpy as np
from gymnasium import Space, spaces

from rlbench.envs.examples._base import Array, Source, Split
from rlbench.envs.multiroom.levels import AGENT, CLOSED, DOOR, OPEN, RED, WALL, level
from rlbench.envs.multiroom.names import FLOORS
from rlbench.seeding import derive

FLOOR = FLOORS["multiroom-n3"]
LEVELS = 4
TEST_SHARE = 0.25
"""Share of the visits to first rooms that are test examples."""
SIZES: Mapping[Split, int] = {"train": 4_000, "test": 80}
STEPS = ((1, 0), (-1, 0), (0, 1), (0, -1))


class RoomVisits(Source):
    """Grids [11, 11, 3] of bytes; see the module."""

    kind = "generated"
    cached = True

    @property
    def fields(self) -> Mapping[str, Space[Any]]:
        """See `Source`."""
        side = FLOOR.side
        return {"obs": spaces.Box(0, 255, (side, side, 3), np.uint8), "novel": spaces.Discrete(2)}

    @property
    def sizes(self) -> Mapping[Split, int]:
        """See `Source`."""
        return SIZES

    def sample(self, split: Split, size: int, seed: int) -> Mapping[str, Array]:
        """See `Source`; training visits are drawn with replacement, test examples without."""
        first, others, levels = [], [], 0
        for n in count():
            cells, start, _ = level(FLOOR, derive(seed, "room-visits", "level", n))
            if not (cells[..., 0] == DOOR).any():
                continue
            seen, new = visits(cells, start)
            first += seen
            others += new
            levels += 1
            if levels == LEVELS:
                break
        rng = np.random.default_rng(derive(seed, "room-visits", "order"))
        visited, novel = (np.stack(x)[rng.permutation(len(x))] for x in (first, others))
        held_out = int(TEST_SHARE * len(visited))
        if split == "train":
            rng = np.random.default_rng(derive(seed, "room-visits", "train"))
            chosen = rng.integers(held_out, len(visited), size)
            return {"obs": visited[chosen], "novel": np.zeros(size, np.int64)}
        old = (size + 1) // 2
        obs = np.empty((size, *visited.shape[1:]), np.uint8)
        obs[::2], obs[1::2] = visited[:held_out][:old], novel[: size - old]
        return {"obs": obs, "novel": np.arange(size) % 2}


def visits(cells: Array, start: tuple[int, int]) -> tuple[list[Array], list[Array]]:
    """All grids of a level with the agent in the first room, and all with the agent in another one.

    Args:
        cells: The level without the agent, with closed doors, uint8 [W, H, 3].
        start: Column and row of the agent in the first room.
    """
    opened, groups = cells.copy(), []
    inside, border = {start}, [start]
    while True:
        room, doors = _room(opened, border, inside)
        groups.append([grid for x in room for grid in _looking(opened, x)])
        if not doors:
            return groups[0], [grid for group in groups[1:] for grid in group]
        opened[doors[0]] = (DOOR, opened[doors[0]][1], OPEN)
        if len(groups) == 1:
            groups[0] += [grid for x in room for grid in _looking(opened, x)]
        inside.add(doors[0])
        border = [doors[0]]


def _room(
    cells: Array, border: list[tuple[int, int]], inside: set[tuple[int, int]]
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Cells of a room and its closed doors, found from cells of it or from the door that leads into it; `inside` grows by the cells."""
    room = [x for x in border if cells[x][0] != DOOR]
    doors: list[tuple[int, int]] = []
    while border:
        x, y = border.pop()
        for right, down in STEPS:
            to = (x + right, y + down)
            if to in inside or cells[to][0] == WALL:
                continue
            if cells[to][0] == DOOR:
                doors += [to] * (cells[to][2] == CLOSED and to not in doors)
                continue
            inside.add(to)
            room.append(to)
            border.append(to)
    return room, doors


def _looking(cells: Array, at: tuple[int, int]) -> list[Array]:
    """Grids with the agent in a place, one for each direction."""
    grids = []
    for direction in range(4):
        grid = cells.copy()
        grid[at] = (AGENT, RED, direction)
        grids.append(grid)
    return grids
