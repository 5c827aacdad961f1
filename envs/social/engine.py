"""Multi-agent games on a grid, with all environments stepped as one batch.

Order of one step: all agents move simultaneously; items are captured; rewards are given; taken items become unavailable; items
that were unavailable before the step may return, those just taken not before the next step. A move across the edge of the grid
has no effect, and agents may share a cell.

    coopnav   +1 for both agents when both tiles are covered in one step, which ends the episode
    coin      for each coin that is taken: +1 for both agents if its colour is one of the two good ones, -1 if it is the bad one;
              colours are drawn anew in each episode. Squared: at the end n_self^2 + n_other^2 - n_bad^2 instead, where
              n counts the coins of a colour that either agent has taken
    stag      +1 for each agent on an apple, even if there are several; +5 for each agent on a stag if there are at least two;
              a single agent gets nothing from a stag, and the stag stays
    markov    the stag moves first, towards the nearest agent (agent 1 at equal distances); then +5 for both agents
              if both are on the stag, -5 for one that is alone with it, +1 for each agent on a plant and not on the
              stag. A captured stag and taken plants immediately reappear in free cells

The arrays are NumPy's: with 512 environments on one core, the same step takes 10 % longer in PyTorch.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlbench.entities import ACTIONS, GOALS, Layout
from rlbench.envs.social import chance
from rlbench.envs.social.names import COIN, COOPNAV, GAMES, MARKOV, STAG, Game

Array = NDArray[Any]

STAY, UP, DOWN, LEFT, RIGHT = range(5)
"""Actions; Markov Stag Hunt has no STAY."""
_OFFSETS = np.array([(0, 0), (-1, 0), (1, 0), (0, -1), (0, 1)])
ONE_HOT = np.concatenate([np.eye(ACTIONS), np.zeros((1, ACTIONS))]).astype(np.float32)
"""One-hot rows of the actions; the last row, which the index -1 reads, is for no action."""
COLOURS = np.eye(GOALS, dtype=np.float32)
"""One-hot rows of the goals, which are colours."""


class GridGame:
    """E environments of one game with A agents and S items each.

    The arrays below are the whole state. Most change in place, so copy what you keep.
    """

    def __init__(self, game: str | Game, num_envs: int, seed: int = 0) -> None:
        """Begins an episode in each environment.

        Args:
            game: A name in `rlbench.envs.social.names.GAMES`, or the parameters of a game.
            num_envs: Number of environments, E.
            seed: Environment e gets the seed `seed + e`.
        """
        self.game = game = GAMES[game] if isinstance(game, str) else game
        self.num_envs, self.agents, self.statics = num_envs, game.agents, sum(game.items)
        self.nodes = self.agents + self.statics
        """Number of nodes of the graph, N."""
        self.types = np.array(game.types)
        """Type of each item, int64 [S]."""
        stags = self.types == 0
        self._needed = np.where(stags, 2, 1).astype(np.int8)
        self._worth = np.where(stags, game.stag_reward, game.apple_reward).astype(np.float32)
        side = game.side
        cell = np.arange(side**2)
        self.place = np.stack([cell // side, cell % side], -1)
        """Row and column of each cell, int64 [H*H, 2]."""
        self.scaled = (self.place / (side - 1)).astype(np.float32)
        """`place` divided by H - 1, float32 [H*H, 2]."""
        self.distance = np.abs(self.place[:, None] - self.place).sum(-1)
        """Manhattan distances between cells, int64 [H*H, H*H]."""
        moved = np.clip(self.place[:, None] + _OFFSETS, 0, side - 1)
        self._moves = (moved @ (side, 1)).reshape(-1)
        """Cell after an action, [H*H * 5]."""
        self.cells = np.zeros((num_envs, self.nodes), np.int64)
        """Cells of agents, then of items, row * H + column; int64 [E, N]."""
        self.available = np.ones((num_envs, self.statics), bool)
        """Which items can be taken now, bool [E, S]."""
        self.steps = np.zeros(num_envs, np.int64)
        """Steps of the current episode, int64 [E]."""
        self.last = np.full((num_envs, self.agents), -1)
        """Last actions, -1 at the start of an episode; int64 [E, A]."""
        self.goals = np.zeros((num_envs, GOALS), np.int64)
        """Coin Game: the good colour that agent 0 knows, the one that agent 1 knows, the bad one; int64 [E, 3]."""
        self.on: Array = np.zeros((num_envs, self.agents, self.statics), bool)
        """Which agent stood on which available item in the last step, bool [E, A, S]."""
        self.taken: Array = np.zeros((num_envs, self.statics), bool)
        """Which items were taken in the last step, bool [E, S]."""
        self.key = chance.keys(range(seed, seed + num_envs))
        """Decides all random numbers of the current episode, uint64 [E]."""
        self._rule = {
            COOPNAV: self._cover,
            COIN: self._collect,
            STAG: self._hunt,
            MARKOV: self._chase,
        }[game.kind]
        self._blank = self._template()
        self.reset(seeds=range(seed, seed + num_envs))

    @property
    def agent_cells(self) -> Array:
        """A view of the part of `cells` for agents, [E, A]."""
        return self.cells[:, : self.agents]

    @property
    def item_cells(self) -> Array:
        """A view of the part of `cells` for items, [E, S]."""
        return self.cells[:, self.agents :]

    @property
    def ids(self) -> tuple[str, ...]:
        """Names of the agents, agent_0 and so on."""
        return tuple(f"agent_{index}" for index in range(self.agents))

    def moves(self, cell: int) -> list[int]:
        """The cells to which the five actions lead from a cell."""
        cells: list[int] = self._moves[cell * ACTIONS : (cell + 1) * ACTIONS].tolist()
        return cells

    def reset(self, mask: Array | None = None, seeds: Sequence[int] | None = None) -> None:
        """Begins episodes.

        Args:
            mask: Which environments begin an episode, bool [E]; all if None.
            seeds: Seeds of the environments in `mask`, in their order; a seed alone decides the episode. If None, the next
                episode is decided by the previous one.
        """
        rows = np.arange(self.num_envs) if mask is None else np.flatnonzero(mask)
        if seeds is not None and len(seeds) != len(rows):
            raise ValueError(f"got {len(seeds)} seeds for {len(rows)} environments")
        if not len(rows):
            return
        key = chance.following(self.key[rows]) if seeds is None else chance.keys(seeds)
        start = np.zeros(len(rows), np.int64)
        self.key[rows], self.steps[rows], self.last[rows] = key, 0, -1
        self.available[rows], self.on[rows], self.taken[rows] = True, False, False
        order = chance.uniform(key, start, chance.PLACES, len(self.place))
        if self.game.kind == MARKOV:
            side = self.game.side
            fixed = [
                0,
                side - 1,
                (side // 2) * (side + 1),
            ]  # Two corners, and the stag in the middle.
            order[:, fixed] = [-3.0, -2.0, -1.0]
        self.cells[rows] = order.argsort(-1)[:, : self.nodes]
        if self.game.kind == COIN:
            self.goals[rows] = chance.uniform(key, start, chance.COLOURS, 3).argsort(-1)

    def step(self, actions: Array) -> tuple[Array, Array, Array]:
        """One step of every environment.

        Args:
            actions: 0 stay, 1 up, 2 down, 3 left, 4 right; int64 [E, A].

        Returns:
            Rewards, float32 [E, A]; terminated, bool [E]; truncated, bool [E].
        """
        if actions.shape != self.last.shape:
            raise ValueError(f"actions have the shape {actions.shape}, expected {self.last.shape}")
        first = self.game.first_action
        if actions.min() < first or actions.max() >= ACTIONS:
            raise ValueError(f"actions are from {first} to {ACTIONS - 1}, got {actions.tolist()}")
        if self.game.kind == MARKOV:
            self._move_stag()
        self.agent_cells[:] = self._moves.take(self.agent_cells * ACTIONS + actions)
        self.last[:] = actions
        self.steps += 1
        self.on = self.agent_cells[:, :, None] == self.item_cells[:, None]
        self.on &= self.available[:, None]
        reward, terminated = self._rule()
        return reward, terminated, (self.steps >= self.game.limit) & ~terminated

    def layout(self, observed: bool = False) -> Layout:
        """The layout of `graph`; in Coin Game, an observing agent also knows a goal."""
        game = self.game
        return Layout(game.agents, game.items, goals=observed and game.kind == COIN)

    def graph(self, observer: int | None = None) -> Array:
        """Features of the nodes, agents first, float32 [E, N, D]; see `rlbench.entities`.

        Rows and columns are divided by H - 1, and a coin's type is its colour.

        Args:
            observer: Number of the observing agent, whose goal in Coin Game is the good colour that it knows. Without an
                observer, goals are hidden.
        """
        layout = self.layout(observer is not None)
        nodes = np.empty((self.num_envs, self.nodes, layout.features), np.float32)
        nodes[:] = self._blank[:, : layout.features]
        nodes[..., layout.place] = self.scaled.take(self.cells, axis=0)
        nodes[:, self.agents :, layout.available] = self.available
        nodes[:, : self.agents, layout.last_action] = ONE_HOT[self.last]
        if layout.goals:
            nodes[:, observer, layout.goal] = COLOURS[self.goals[:, observer]]
        return nodes

    def edges(self, agent_to_static: bool = False) -> tuple[Array, Array, Array]:
        """The edges of the graph, the same in all environments and steps.

        First each ordered pair of different agents, then each item to each agent; with `agent_to_static` also each
        agent to each item.

        Returns:
            Senders, int64 [K]; receivers, int64 [K]; features, float32 [K, 1], 1 between agents, which are one team.
        """
        agents, items = range(self.agents), range(self.agents, self.nodes)
        pairs = [(s, r) for r in agents for s in agents if s != r]
        among = len(pairs)
        pairs += [(s, r) for r in agents for s in items]
        if agent_to_static:
            pairs += [(s, r) for r in items for s in agents]
        senders, receivers = np.array(pairs, np.int64).T
        features = (np.arange(len(pairs)) < among).astype(np.float32)[:, None]
        return senders, receivers, features

    def _template(self) -> Array:
        """Features that never change, float32 [N, D], with zeros for goals and for all others."""
        layout = self.layout(observed=True)
        blank = np.zeros((self.nodes, layout.goal.stop), np.float32)
        blank[: self.agents, [2, layout.available]] = 1
        blank[self.agents :, 3] = 1
        blank[np.arange(self.agents, self.nodes), layout.kind.start + self.types] = 1
        return blank

    def _draw(self, purpose: int, count: int) -> Array:
        """Random numbers of this step, [E, count]."""
        return chance.uniform(self.key, self.steps, purpose, count)

    def _cover(self) -> tuple[Array, Array]:
        """Cooperative Navigation: rewards [E, A] and terminated [E]."""
        covered = _all(_any(self.on, 1), -1)
        return np.repeat(covered[:, None], self.agents, 1).astype(np.float32), covered

    def _collect(self) -> tuple[Array, Array]:
        """Coin Game: rewards [E, A] and terminated [E]."""
        self.taken = _any(self.on, 1)
        self.available &= ~self.taken
        sign = np.ones((self.num_envs, 3), np.float32)
        sign[np.arange(self.num_envs), self.goals[:, 2]] = -1
        if self.game.squared:
            left = self.available.reshape(self.num_envs, 3, -1)
            count = (~left).sum(-1) * (self.steps >= self.game.limit)[:, None]
            paid = (sign * count**2).sum(-1)
        else:
            paid = (sign[:, self.types] * self.taken).sum(-1)
        reward = np.repeat(paid[:, None], self.agents, 1).astype(np.float32)
        return reward, np.zeros(self.num_envs, bool)

    def _hunt(self) -> tuple[Array, Array]:
        """Stag Hunt: rewards [E, A] and terminated [E]."""
        self.taken = self.on.sum(1, dtype=np.int8) >= self._needed
        reward = (self.on * (self.taken * self._worth)[:, None]).sum(-1)
        back = ~self.available & (self._draw(chance.RESPAWN, self.statics) < self.game.respawn)
        self.available &= ~self.taken
        self.available |= back
        return reward, np.zeros(self.num_envs, bool)

    def _chase(self) -> tuple[Array, Array]:
        """Markov Stag Hunt: rewards [E, A] and terminated [E]."""
        met = self.on[..., 0]
        both = _all(met, -1)
        plants = self.on[..., 1:] & ~met[..., None]
        game = self.game
        found = np.where(both, game.stag_reward, game.mauling)[:, None] * met
        reward = found + game.apple_reward * _any(plants, -1)
        self.taken = np.concatenate([both[:, None], _any(plants, 1)], 1)
        for item in np.flatnonzero(self.taken.any(0)).tolist():
            self._put_elsewhere(np.flatnonzero(self.taken[:, item]), item)
        return reward.astype(np.float32), np.zeros(self.num_envs, bool)

    def _move_stag(self) -> None:
        """One step of the stag towards the nearest agent, along one of the axes that bring it closer."""
        apart = self.place[self.agent_cells] - self.place[self.item_cells[:, :1]]
        far = np.square(apart).sum(-1)
        nearest = np.where(far[:, 0] < far[:, 1], 0, 1)
        down, right = apart[np.arange(self.num_envs), nearest].T
        vertical = np.where(down < 0, UP, DOWN)
        horizontal = np.where(right < 0, LEFT, RIGHT)
        drawn = self._draw(chance.STAG_MOVES, 1)[:, 0]
        upright = np.where((down != 0) & (right != 0), drawn < 0.5, down != 0)
        move = np.where(upright, vertical, horizontal)
        # In the cell of the nearest agent it moves at random; at an edge it may stay there.
        move = np.where((down == 0) & (right == 0), UP + (4 * drawn).astype(np.int64), move)
        self.item_cells[:, 0] = self._moves.take(self.item_cells[:, 0] * ACTIONS + move)

    def _put_elsewhere(self, rows: Array, item: int) -> None:
        """Moves an item to a random cell without agents or items; its own old cell counts as occupied."""
        numbers = chance.uniform(
            self.key[rows], self.steps[rows], chance.MOVED + item, len(self.place)
        )
        np.put_along_axis(numbers, self.cells[rows], -1.0, 1)
        self.item_cells[rows, item] = numbers.argmax(1)


def _any(mask: Array, axis: int) -> Array:
    """Whether any is true along an axis; always an array, unlike the type of `mask.any`."""
    return np.asarray(mask.any(axis))


def _all(mask: Array, axis: int) -> Array:
    """Whether all are true along an axis."""
    return np.asarray(mask.all(axis))
