"""Pictures of games of several agents."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlbench.envs.social.engine import GridGame
from rlbench.envs.social.names import COIN

Array = NDArray[Any]

TILE = 24
"""Pixels of a cell; even, because H.264 needs pictures of even sizes."""
_FLOOR, _LINE = (245, 245, 245), (215, 215, 215)
AGENTS = ((40, 90, 200), (235, 140, 30), (130, 70, 180), (60, 60, 60))
"""Colours of the agents; each has its own quarter of a cell, so that agents who share one can be seen."""
ITEMS = ((200, 50, 50), (60, 170, 90), (225, 185, 40))
"""Colours of the types of items."""


def in_words(game: GridGame, env: int = 0) -> str:
    """One environment as text: in each cell the letter of the item, small if it is taken, and the numbers of the agents."""
    width = 1 + game.agents
    cells = [[" "] for _ in game.place]
    for cell, kind, there in zip(
        game.item_cells[env], game.types, game.available[env], strict=True
    ):
        mark = game.game.marks[kind]
        cells[cell][0] = mark if there else mark.lower()
    for agent, cell in enumerate(game.agent_cells[env]):
        cells[cell].append(str(agent))
    side = game.game.side
    frame = "+" + "-" * (side * width) + "+"
    texts = ["".join(cell).ljust(width) for cell in cells]
    rows = ["|" + "".join(texts[r * side : (r + 1) * side]) + "|" for r in range(side)]
    lines = [frame, *rows, frame]
    if game.game.kind == COIN:
        known = (game.game.marks[colour] for colour in game.goals[env, : game.agents])
        lines.append(", ".join(f"agent {agent} knows {mark}" for agent, mark in enumerate(known)))
    return "\n".join(lines)


def draw(game: GridGame, env: int = 0) -> Array:
    """One environment as a picture, uint8 [24 H, 24 H, 3]: items are squares, hollow if taken; agents are discs."""
    side = game.game.side
    down, right = np.mgrid[:TILE, :TILE]
    picture = np.empty((side * TILE, side * TILE, 3), np.uint8)
    picture[:] = _FLOOR
    picture[::TILE] = picture[:, ::TILE] = _LINE
    from_edge = np.minimum(np.minimum(down, right), TILE - 1 - np.maximum(down, right))
    square, hollow = from_edge >= 4, (from_edge >= 4) & (from_edge < 6)

    def tile(cell: int) -> Array:
        row, column = divmod(cell, side)
        return picture[row * TILE : (row + 1) * TILE, column * TILE : (column + 1) * TILE]

    for cell, kind, there in zip(
        game.item_cells[env], game.types, game.available[env], strict=True
    ):
        tile(int(cell))[square if there else hollow] = ITEMS[kind]
    quarter = TILE // 2
    for agent, cell in enumerate(game.agent_cells[env]):
        middle = (quarter * np.array(divmod(agent, 2)) + (quarter - 1) / 2)[:, None, None]
        disc = np.square(np.stack([down, right]) - middle).sum(0) <= 25
        tile(int(cell))[disc] = AGENTS[agent]
    return picture
