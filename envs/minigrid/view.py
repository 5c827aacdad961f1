"""A fast view for the environments of the package minigrid.

Most of a step of minigrid (3.2) goes into copying the cells around the agent, one by one, into a new
grid and turning it up to four times. Here one lookup takes them in the order of the view. Levels,
rules and rewards are the package's; a test checks that the view is equal to its view, byte for byte.
"""

from collections.abc import Sequence
from functools import cache, lru_cache, partial
from operator import itemgetter
from typing import Any

import gymnasium as gym
import numpy as np
from minigrid.core.world_object import Wall
from minigrid.minigrid_env import MiniGridEnv

_UNSEEN, _EMPTY = bytes((0, 0, 0)), bytes((1, 0, 0))
"""Type, colour and state of a cell that the agent does not see, and of an empty cell."""
_OUTSIDE = Wall()
"""The cell outside the grid."""


def quicken(env: gym.Env[Any, Any]) -> None:
    """Makes an environment of minigrid, with or without wrappers, use `observe`.

    An environment whose class has a custom view keeps it.
    """
    bare: Any = env.unwrapped
    if all(
        getattr(type(bare), name) is getattr(MiniGridEnv, name)
        for name in ("gen_obs", "gen_obs_grid")
    ):
        bare.gen_obs = partial(observe, bare)


def observe(env: Any) -> dict[str, Any]:
    """The same as `MiniGridEnv.gen_obs` of an environment.

    Returns:
        `image`, the view, uint8 [V, V, 3] with type, colour and state of each cell, where the agent
        stands at [V // 2, V - 1] and looks along falling second indices; `direction`; `mission`.
    """
    grid, size = env.grid, env.agent_view_size
    x, y = map(int, env.agent_pos)
    look = _look(grid.width, grid.height, size, x, y, int(env.agent_dir))
    cells = look((*grid.grid, _OUTSIDE))
    codes = [_UNSEEN] * len(cells)
    lit, everything = 1 << size // 2, (1 << size) - 1
    for row in reversed(range(size)):
        in_row = cells[row::size]
        if env.see_through_walls:
            seen = everything
        else:
            seen, lit = _spread(lit, _clear(in_row), size)
        for column in _bits(seen):
            codes[column * size + row] = _code(in_row[column])
    codes[size // 2 * size + size - 1] = _code(env.carrying)
    image = np.frombuffer(bytearray(b"".join(codes)), np.uint8).reshape(size, size, 3)
    return {"image": image, "direction": env.agent_dir, "mission": env.mission}


def _code(cell: Any) -> bytes:
    return _EMPTY if cell is None else bytes(cell.encode())


def _clear(row: Sequence[Any]) -> int:
    """The transparent cells of a row, as bits."""
    return sum(1 << i for i, cell in enumerate(row) if cell is None or cell.see_behind())


@lru_cache(maxsize=1 << 14)
def _look(width: int, height: int, size: int, x: int, y: int, direction: int) -> "itemgetter[Any]":
    """Selects the cells of a view, columns first, from the cells of a grid followed by the outside."""
    ahead = ((1, 0), (0, 1), (-1, 0), (0, -1))[direction]
    right = (-ahead[1], ahead[0])
    places = []
    for column in range(size):
        for row in range(size):
            aside, far = column - size // 2, size - 1 - row
            at_x = x + right[0] * aside + ahead[0] * far
            at_y = y + right[1] * aside + ahead[1] * far
            inside = 0 <= at_x < width and 0 <= at_y < height
            places.append(at_y * width + at_x if inside else width * height)
    return itemgetter(*places)


@lru_cache(maxsize=1 << 16)
def _spread(lit: int, clear: int, size: int) -> tuple[int, int]:
    """How far the agent sees in a row, by the package's rule.

    Args:
        lit: Cells that are seen from the row nearer to the agent, as bits.
        clear: Transparent cells, as bits.
        size: Cells in the row.

    Returns:
        The cells that are seen, and those that are seen from them in the row behind.
    """
    seen, behind = lit, 0
    for cells, step in ((range(size - 1), 1), (range(size - 1, 0, -1), -1)):
        for i in cells:
            if seen & clear & 1 << i:
                seen |= 1 << i + step
                behind |= 1 << i | 1 << i + step
    return seen, behind


@cache
def _bits(number: int) -> tuple[int, ...]:
    return tuple(i for i in range(number.bit_length()) if number >> i & 1)
