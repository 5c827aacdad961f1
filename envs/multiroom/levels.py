"""Levels of MultiRoom: the seed of a level decides all of it.

A level is a chain of rooms; the agent begins in the first, the goal is in the last, and between two
rooms is a closed door. Seed for seed these are the levels of `MultiRoomEnv` in the package minigrid
(3.2), as a test checks, but made without that package and three times as fast.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import count
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlbench.envs.multiroom.names import Floor

Array = NDArray[Any]

EMPTY, WALL, DOOR, GOAL, AGENT = 1, 2, 4, 8, 10
"""First number of a cell: its type. All numbers are MiniGrid's."""
RED, GREEN, BLUE, PURPLE, YELLOW, GREY = range(6)
"""Second number of a cell: its colour."""
OPEN, CLOSED = 0, 1
"""Third number of a door; for an agent it is the direction, otherwise 0."""

FIRST_HELD_OUT = 1_000_000
"""First seed of the held-out levels; training levels have seeds from 0 on."""

_DOOR_COLOURS = (BLUE, GREEN, GREY, PURPLE, RED, YELLOW)  # minigrid sorts their names
_SMALLEST = 4
_TRIES = 8
_RIGHT, _DOWN, _LEFT, _UP = range(4)


Level = tuple[Array, tuple[int, int], int]
"""Cells uint8 [W, H, 3] without the agent, column and row of the agent, its direction."""


@dataclass(frozen=True)
class Levels:
    """Levels of one size, one per row."""

    cells: Array
    """Type, colour and state of each cell without the agent, uint8 [N, W, H, 3]."""
    at: Array
    """Column and row where the agent begins, int64 [N, 2]."""
    direction: Array
    """Direction of the agent: 0 right, 1 down, 2 left, 3 up; int64 [N]."""


class _Room(NamedTuple):
    """A rectangle of cells with walls around it, and the cell of the door that leads into it."""

    x: int
    y: int
    width: int
    height: int
    door: tuple[int, int]


@cache
def level_set(floor: Floor, held_out: bool) -> Levels:
    """The levels of a task.

    Seeds go up from 0, or from FIRST_HELD_OUT, and skip duplicates: levels that occurred before and,
    among the held-out ones, levels whose grid is that of a training level, wherever the agent begins.
    """
    if floor.levels is None:
        raise ValueError("a task with a fresh level in every episode has no set of levels")
    trained_on = {x.tobytes() for x in level_set(floor, False).cells} if held_out else set()
    chosen: dict[tuple[Any, ...], Level] = {}
    for seed in count(FIRST_HELD_OUT if held_out else 0):
        cells, at, direction = level(floor, seed)
        if cells.tobytes() not in trained_on:
            chosen.setdefault((cells.tobytes(), at, direction), (cells, at, direction))
        if len(chosen) == (floor.held_out if held_out else floor.levels):
            break
    return stacked(list(chosen.values()))


def stacked(levels: list[Level]) -> Levels:
    """Stacks levels, one per row."""
    cells, at, direction = zip(*levels, strict=True)
    return Levels(np.stack(cells), np.array(at), np.array(direction))


def level(floor: Floor, seed: int) -> Level:
    """The level of a seed."""
    draws = Draws(seed)
    wanted = draws.between(1, floor.most_rooms + 1)
    rooms: list[_Room] = []
    while len(rooms) < wanted:
        chain = _chain(draws, floor, wanted)
        rooms = max(rooms, chain, key=len)
    cells = np.zeros((floor.side, floor.side, 3), np.uint8)
    cells[..., 0] = EMPTY
    colour = None
    for index, room in enumerate(rooms):
        right, below = room.x + room.width - 1, room.y + room.height - 1
        cells[room.x : right + 1, [room.y, below]] = (WALL, GREY, 0)
        cells[[room.x, right], room.y : below + 1] = (WALL, GREY, 0)
        if index > 0:
            free = [x for x in _DOOR_COLOURS if x != colour]
            colour = free[draws.between(0, len(free))]
            cells[room.door] = (DOOR, colour, CLOSED)
    start = _free_cell(draws, rooms[0], cells)
    direction = draws.between(0, 4)
    goal = _free_cell(draws, rooms[-1], cells, start)
    cells[goal] = (GOAL, GREEN, 0)
    return cells, start, direction


def _chain(draws: "Draws", floor: Floor, wanted: int) -> list[_Room]:
    """Rooms, each behind a door of the previous one, until all are placed or the next does not fit."""
    corner = (draws.between(0, floor.side - 2), draws.between(0, floor.side - 2))
    width, height = _size(draws, floor)
    entry, rooms = _LEFT, [_Room(*corner, width, height, corner)]
    if not _fits(rooms[0], [], floor.side):
        return []
    while len(rooms) < wanted:
        for _ in range(_TRIES):
            walls = [wall for wall in range(4) if wall != entry]
            wall = walls[draws.between(0, 3)]
            room = _behind(draws, floor, rooms[-1], wall)
            if _fits(room, rooms[:-1], floor.side):
                rooms.append(room)
                entry = (wall + 2) % 4
                break
        else:
            break
    return rooms


def _behind(draws: "Draws", floor: Floor, room: _Room, wall: int) -> _Room:
    """A room behind a door in a wall of another; it may be anywhere, even outside the grid."""
    along = draws.between(1, (room.height if wall in (_RIGHT, _LEFT) else room.width) - 1)
    width, height = _size(draws, floor)
    if wall in (_RIGHT, _LEFT):
        x, y = room.x + (room.width - 1 if wall == _RIGHT else 0), room.y + along
        left = x if wall == _RIGHT else x - width + 1
        return _Room(left, draws.between(y - height + 2, y), width, height, (x, y))
    x, y = room.x + along, room.y + (room.height - 1 if wall == _DOWN else 0)
    top = y if wall == _DOWN else y - height + 1
    return _Room(draws.between(x - width + 2, x), top, width, height, (x, y))


def _size(draws: "Draws", floor: Floor) -> tuple[int, int]:
    width = draws.between(_SMALLEST, floor.largest + 1)
    return width, draws.between(_SMALLEST, floor.largest + 1)


def _fits(room: _Room, others: list[_Room], side: int) -> bool:
    """Whether a room is inside the grid and overlaps no other.

    minigrid leaves the lowest row free, and a column or row between rooms on one side only.
    """
    right, below = room.x + room.width, room.y + room.height
    return (
        room.x >= 0 and room.y >= 0 and right <= side and below < side
        and all(
            right < other.x or other.x + other.width <= room.x
            or below < other.y or other.y + other.height <= room.y
            for other in others
        )
    )  # fmt: skip


def _free_cell(
    draws: "Draws", room: _Room, cells: Array, taken: tuple[int, int] | None = None
) -> tuple[int, int]:
    """Column and row of an empty cell of a room."""
    while True:
        x = draws.between(room.x, room.x + room.width)
        y = draws.between(room.y, room.y + room.height)
        if cells[x, y, 0] == EMPTY and (x, y) != taken:
            return x, y


class Draws:
    """The draws of np.random.default_rng(seed).integers(low, high), several times as fast.

    They are computed from the words of the bit generator, which NumPy promises never to change; it
    does not promise this for the numbers that its generators derive from them.
    """

    def __init__(self, seed: int) -> None:
        """`seed`: 0 or more."""
        self._words = _words(np.random.PCG64(seed))

    def between(self, low: int, high: int) -> int:
        """A whole number from low to high - 1, all equally likely (Lemire, arXiv 1805.10941)."""
        span = high - low
        if span == 1:
            return low
        product = next(self._words) * span
        while product & 0xFFFFFFFF < (1 << 32) % span:
            product = next(self._words) * span
        return low + (product >> 32)


def _words(bits: np.random.PCG64) -> Iterator[int]:
    """32 bits at a time, the lower half of each word first."""
    while True:
        yield from bits.random_raw(64).astype("<u8").view("<u4").tolist()
