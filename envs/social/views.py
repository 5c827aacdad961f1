"""Observations of an agent in a game: a vector, planes of the grid or the nodes of a graph."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray

from rlbench.entities import ACTIONS, Entities
from rlbench.envs.social.engine import COLOURS, ONE_HOT, GridGame
from rlbench.envs.social.names import COIN

Array = NDArray[Any]

MODES = ("vector", "grid", "graph")
"""Kinds of observations."""


def observe(game: GridGame, mode: str, agents: Sequence[int] | None = None) -> Array:
    """Observations of some or all agents; no agent sees the goal of another.

    Args:
        game: E environments.
        mode: One of `MODES`.
        agents: Numbers of k agents; None for all.

    Returns:
        See `vectors`, `planes` and `graphs`.
    """
    chosen = list(range(game.agents) if agents is None else agents)
    if mode == "vector":
        return vectors(game, chosen)
    if mode == "grid":
        return planes(game, chosen)
    return graphs(game, chosen)


def observation_space(game: GridGame, mode: str) -> Box:
    """The space of one agent's observations.

    Raises:
        ValueError: There is no such mode.
    """
    if mode not in MODES:
        raise ValueError(f"no observations {mode!r}; expected one of {', '.join(MODES)}")
    if mode == "graph":
        return Entities(game.layout(observed=True))
    one = observe(game, mode, [0])[0, 0]
    low = -1 if mode == "vector" else 0
    return Box(low, 1, one.shape, one.dtype.type)


def vectors(game: GridGame, agents: Sequence[int]) -> Array:
    """Observations relative to each agent, float32 [E, k, 2 + 7 (A - 1) + 3 S], in Coin Game 3 more.

    A vector has the agent's row and column; for each other agent, beginning with the next number, its relative row and column
    and its one-hot last action; for each type the items by distance, each with its relative row and column and 1 if it
    can be taken; in Coin Game the one-hot good colour that the agent knows. Rows and columns are divided by H - 1.
    """
    envs, count = game.num_envs, len(agents)
    who = np.array(agents)
    scaled = game.scaled
    here = game.cells[:, who]
    own = scaled.take(here, axis=0)
    others = (who[:, None] + np.arange(1, game.agents)) % game.agents
    company = np.concatenate([
        scaled.take(game.cells[:, others], axis=0) - own[:, :, None], ONE_HOT[game.last[:, others]],
    ], -1)  # fmt: skip
    far = game.distance[here[:, :, None], game.item_cells[:, None]]
    # Type, distance and number as one integer: sorting it is faster than a stable argsort.
    number = np.arange(game.statics)
    order = np.sort((game.types * 1024 + far) * 256 + number, -1) % 256
    row = np.arange(envs)[:, None, None]
    items = np.empty((envs, count, game.statics, 3), np.float32)
    items[..., :2] = scaled.take(game.item_cells[row, order], axis=0) - own[:, :, None]
    items[..., 2] = game.available[row, order]
    parts = [own, company.reshape(envs, count, -1), items.reshape(envs, count, -1)]
    if game.game.kind == COIN:
        parts.append(COLOURS[game.goals[:, who]])
    return np.concatenate(parts, -1)


def graphs(game: GridGame, agents: Sequence[int]) -> Array:
    """The nodes of `GridGame.graph`, but with each agent's own node first, float32 [E, k, N, D].

    The other agents follow in the order of `vectors`, then the items.
    """
    everyone, items = np.arange(game.agents), np.arange(game.agents, game.nodes)
    orders = [np.concatenate([np.roll(everyone, -agent), items]) for agent in agents]
    seen = [game.graph(agent)[:, order] for agent, order in zip(agents, orders, strict=True)]
    return np.stack(seen, 1)


def foretold(nodes: Array, actions: Array) -> Array:
    """Nodes with the actions that the other agents will take in this step, float32 [E, N, D + 5].

    Args:
        nodes: Nodes for one agent, see `graphs`, [E, N, D].
        actions: Actions of the other agents, in the order of their nodes, int64 [E, A - 1].
    """
    following = np.zeros((*nodes.shape[:2], ACTIONS), np.float32)
    following[:, 1 : 1 + actions.shape[1]] = ONE_HOT[actions]
    return np.concatenate([nodes, following], -1)


def planes(game: GridGame, agents: Sequence[int]) -> Array:
    """The grid with a channel for each kind of object, 1 at its cells, uint8 [E, k, H, H, C].

    Channels: the agent; other agents; for each type the items that can be taken; taken items; in Coin Game one for each
    colour, which is 1 everywhere for the good colour that the agent knows.
    """
    envs, side, kinds = game.num_envs, game.game.side, len(game.game.items)
    goals = 3 * (game.game.kind == COIN)
    grid = np.zeros((envs, len(agents), side**2, 3 + kinds + goals), np.uint8)
    row = np.arange(envs)[:, None]
    channel = np.where(game.available, 2 + game.types, 2 + kinds)
    for index, agent in enumerate(agents):
        others = [other for other in range(game.agents) if other != agent]
        seen = grid[:, index]
        seen[row[:, 0], game.cells[:, agent], 0] = 1
        seen[row, game.cells[:, others], 1] = 1
        seen[row, game.item_cells, channel] = 1
        if goals:
            seen[row[:, 0], :, 3 + kinds + game.goals[:, agent]] = 1
    return grid.reshape(envs, len(agents), side, side, -1)
