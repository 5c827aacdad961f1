"""Pictures of multi-agent games."""

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlbench.envs.social.engine import UP, GridGame
from rlbench.envs.social.names import COIN

Array = NDArray[Any]

TILE = 24
"""Width of a cell in pixels; even, because H.264 needs pictures of even size."""
_FLOOR, _LINE = (245, 245, 245), (215, 215, 215)
Colour = tuple[int, int, int]
AGENTS = (
    (40, 90, 200), (235, 140, 30), (130, 70, 180), (60, 60, 60), (0, 150, 160), (220, 80, 160),
)  # fmt: skip
"""Colours of the agents; each agent has its own part of a cell, so that agents in the same cell are all visible."""
ITEMS = ((200, 50, 50), (60, 170, 90), (225, 185, 40))
"""Colours of the types of items."""


def in_words(game: GridGame, env: int = 0) -> str:
    """One environment as text: in each cell the letter of the item, lower-case if taken, and the numbers of the agents."""
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


def draw(game: GridGame, env: int = 0, predictions: Array | None = None) -> Array:
    """One environment as a picture, uint8 [24 H, 24 H, 3]: items are squares, hollow if taken; agents are discs.

    Args:
        game: E environments.
        env: Number of the environment.
        predictions: Probabilities of the next action of each agent but the first, [A - 1, 5]. A move is drawn as an arrow in
            its target cell, staying as a light spot on the disc; likely actions are more opaque. A move across the edge
            counts as staying.
    """
    side = game.game.side
    down, right = np.mgrid[:TILE, :TILE]
    picture = np.empty((side * TILE, side * TILE, 3), np.uint8)
    picture[:] = _FLOOR
    picture[::TILE] = picture[:, ::TILE] = _LINE
    from_edge = np.minimum(np.minimum(down, right), TILE - 1 - np.maximum(down, right))
    square, hollow = from_edge >= 4, (from_edge >= 4) & (from_edge < 6)
    across = 2 if game.agents <= 4 else 3
    slot = TILE // across

    def tile(cell: int) -> Array:
        row, column = divmod(cell, side)
        return picture[row * TILE : (row + 1) * TILE, column * TILE : (column + 1) * TILE]

    def mark(cell: int, agent: int, shape: Array, colour: Colour, share: float = 1.0) -> None:
        """Paints a shape in the agent's slot of a cell."""
        row, column = (slot * x for x in divmod(agent, across))
        within = tile(cell)[row : row + slot, column : column + slot]
        within[shape] = np.rint((1 - share) * within[shape] + share * np.array(colour))

    for cell, kind, there in zip(
        game.item_cells[env], game.types, game.available[env], strict=True
    ):
        tile(int(cell))[square if there else hollow] = ITEMS[kind]
    disc, spot, *arrows = _shapes(slot)
    for agent, cell in enumerate(game.agent_cells[env].tolist()):
        mark(cell, agent, disc, AGENTS[agent])
    for agent, shares in enumerate([] if predictions is None else predictions, start=1):
        own = int(game.agent_cells[env, agent])
        staying = 0.0
        for action, (share, cell) in enumerate(zip(shares.tolist(), game.moves(own), strict=True)):
            if cell == own:
                staying += share
            else:
                mark(cell, agent, arrows[action - UP], AGENTS[agent], share)
        mark(own, agent, spot, _FLOOR, staying)
    return picture


@cache
def _shapes(slot: int) -> tuple[Array, ...]:
    """A disc, a spot and arrows up, down, left and right, bool [slot, slot] each."""
    middle = (slot - 1) / 2
    y, x = np.mgrid[:slot, :slot] - middle
    distance = np.square(y) + np.square(x)
    up = (np.abs(x) <= (y + middle) / 2) & (np.abs(y) < middle)
    arrows = (up, up[::-1], up.T, up.T[:, ::-1])
    return distance <= (slot / 2 - 1) ** 2, distance <= (slot / 4) ** 2, *arrows
