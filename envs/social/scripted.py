"""Scripted policies for data and as partners; a policy chooses the actions of all agents in all environments.

    assignment   coopnav: each agent to its tile, so that the sum of distances is smallest
    own-colour   coin: to the nearest coin of the good colour that the agent knows
    hunt         stag, markov: the two agents closest to a stag go to it if 5/(d + 1) > 1/(d' + 1), else to the nearest
                 apple, as do all others. The stag is the one whose second-closest agent is nearest, at the distance d;
                 d' is the smallest distance of the two to an apple
    apples       stag, markov: to the nearest apple
    wait         stag: to a stag that is drawn in each episode, and stays there, even when the stag has been taken
    random       uniform random actions
    stay         no moves

Agents walk along the axis on which they have farther to go, at equal distances vertically first. All random numbers come from
the seed of the episode, so a policy needs no state.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlbench.entities import ACTIONS
from rlbench.envs.social import chance
from rlbench.envs.social.engine import DOWN, LEFT, RIGHT, STAY, UP, GridGame
from rlbench.envs.social.names import COIN, COOPNAV, MARKOV, STAG

Array = NDArray[Any]
Policy = Callable[[GridGame], Array]
"""Actions, int64 [E, A], for the current state of the game."""

_FAR = 1000
"""Larger than any distance."""
KINDS = {
    "assignment": (COOPNAV,), "own-colour": (COIN,), "hunt": (STAG, MARKOV), "apples": (STAG, MARKOV),
    "wait": (STAG,), "stay": (COOPNAV, COIN, STAG), "random": (COOPNAV, COIN, STAG, MARKOV),
}  # fmt: skip
"""Policy to the kinds of games that it plays."""
TEAMS = {COOPNAV: "assignment", COIN: "own-colour", STAG: "hunt", MARKOV: "hunt"}
"""Kind of game to the policy if all agents are scripted."""
PARTNERS = {**TEAMS, STAG: "wait"}
"""Kind of game to the policy of the partners of one learner, who can find out where a waiting partner is."""


class Scripted:
    """A scripted policy, optionally with some random actions."""

    def __init__(self, name: str, epsilon: float = 0.0, hidden_ties: bool = False) -> None:
        """Stores the name and the options.

        Args:
            name: A key of `KINDS`.
            epsilon: Probability that an agent's action is drawn uniformly from all actions.
            hidden_ties: At equal distances on both axes, each agent prefers one axis, which is drawn in each episode.

        Raises:
            ValueError: There is no such policy.
        """
        if name not in KINDS:
            raise ValueError(f"no policy {name!r}; expected one of {', '.join(KINDS)}")
        self.name, self.epsilon, self.hidden_ties = name, epsilon, hidden_ties

    def __call__(self, game: GridGame) -> Array:
        """Actions of all agents, int64 [E, A]."""
        if game.game.kind not in KINDS[self.name]:
            raise ValueError(f"the policy {self.name!r} does not play {game.game.kind!r}")
        first = game.game.first_action
        if self.name == "random":
            return _uniform_actions(game, chance.STRAY_ACTIONS)
        cells = len(game.place)
        walks = _walks(game.game.side)
        where = game.agent_cells * (cells + 1) + _TARGETS[self.name](game)
        if self.hidden_ties:
            where = where + _once(game, chance.TIES, game.agents, 2) * (cells * (cells + 1))
        action = walks.take(where)
        if first > STAY:
            action = np.where(action == STAY, _uniform_actions(game, chance.RESTLESS), action)
        if self.epsilon:
            strays = _drawn(game, chance.STRAYS, game.agents) < self.epsilon
            action = np.where(strays, _uniform_actions(game, chance.STRAY_ACTIONS), action)
        return action


@cache
def _walks(side: int) -> Array:
    """Actions from each cell to each target, a flat [2, C, C + 1]: vertical or horizontal first at ties; target C is to stay."""
    cell = np.arange(side**2)
    down, right = (x[None, :] - x[:, None] for x in (cell // side, cell % side))
    vertical, horizontal = np.where(down < 0, UP, DOWN), np.where(right < 0, LEFT, RIGHT)
    tables = np.full((2, len(cell), len(cell) + 1), STAY)
    for table, upright in zip(
        tables, (abs(down) >= abs(right), abs(down) > abs(right)), strict=True
    ):
        table[:, :-1] = np.where(upright, vertical, horizontal)
        table[cell, cell] = STAY
    return tables.reshape(-1)


def _drawn(game: GridGame, purpose: int, count: int) -> Array:
    """Random numbers for the next step, [E, count]."""
    return chance.uniform(game.key, game.steps, purpose, count)


def _once(game: GridGame, purpose: int, count: int, below: int) -> Array:
    """Integers that stay the same during an episode, int64 [E, count]."""
    return (chance.uniform(game.key, 0 * game.steps, purpose, count) * below).astype(np.int64)


def _uniform_actions(game: GridGame, purpose: int) -> Array:
    first = game.game.first_action
    drawn = _drawn(game, purpose, game.agents)
    return first + ((ACTIONS - first) * drawn).astype(np.int64)


def _distances(game: GridGame, first: int, last: int) -> Array:
    """Distances of agents to the items from `first` to before `last`, [E, A, n]; _FAR to those that are taken."""
    items = game.item_cells[:, first:last]
    far = game.distance.take(game.agent_cells[:, :, None] * len(game.place) + items[:, None])
    return np.where(game.available[:, None, first:last], far, _FAR)


def _nearest(game: GridGame, far: Array, first: int) -> tuple[Array, Array]:
    """Cells of the nearest items, C for none, and their distances, int64 [E, A] each; at ties the smallest item number."""
    item = far.argmin(-1)
    least = np.take_along_axis(far, item[..., None], -1)[..., 0]
    cell = np.take_along_axis(game.item_cells, item + first, 1)
    return np.where(least < _FAR, cell, len(game.place)), least


def _assignment(game: GridGame) -> Array:
    far = game.distance[game.agent_cells[:, :, None], game.item_cells[:, None]]
    crossed = far[:, 0, 1] + far[:, 1, 0] < far[:, 0, 0] + far[:, 1, 1]
    return np.where(crossed[:, None], game.item_cells[:, ::-1], game.item_cells)


def _own_colour(game: GridGame) -> Array:
    far = _distances(game, 0, game.statics)
    other = game.types != game.goals[:, : game.agents, None]
    return _nearest(game, np.where(other, _FAR, far), 0)[0]


def _apples(game: GridGame) -> Array:
    stags = game.game.items[0]
    return _nearest(game, _distances(game, stags, game.statics), stags)[0]


def _hunt(game: GridGame) -> Array:
    stags, envs = game.game.items[0], np.arange(game.num_envs)
    apple, to_apple = _nearest(game, _distances(game, stags, game.statics), stags)
    # Distance and number of the agent as one integer, so that pairs are unique at ties.
    ranked = _distances(game, 0, stags) * game.agents + np.arange(game.agents)[:, None]
    ranked = np.sort(ranked, 1)[:, :2]
    distance = ranked[:, 1] // game.agents
    stag = distance.argmin(-1)
    pair = ranked[envs, :, stag] % game.agents
    d, apart = distance[envs, stag], to_apple[envs[:, None], pair].min(-1)
    goes = game.game.stag_reward * (apart + 1) > game.game.apple_reward * (d + 1)
    goes &= d < _FAR
    hunts = (np.arange(game.agents) == pair[..., None]).any(1) & goes[:, None]
    return np.where(hunts, game.item_cells[envs, stag][:, None], apple)


def _wait(game: GridGame) -> Array:
    chosen = _once(game, chance.CHOICES, game.agents, game.game.items[0])
    return np.take_along_axis(game.item_cells, chosen, 1)


def _stay(game: GridGame) -> Array:
    return np.full_like(game.agent_cells, len(game.place))


_TARGETS: dict[str, Policy] = {
    "assignment": _assignment, "own-colour": _own_colour, "hunt": _hunt, "apples": _apples, "wait": _wait,
    "stay": _stay,
}  # fmt: skip
"""Policy to the target cells of agents, int64 [E, A]; C, the number of cells, is to stay."""
