"""Recorded multi-agent episodes, from which models learn to predict the next action of each agent.

The agents follow a scripted policy with some random actions, in which each agent breaks ties between directions in its own
way, so that no model can predict everything; or they follow trained actor-critic policies. An `obs` is the state before an
action, with the previous action of each agent but never the action to predict. Goals are not shown.

Episodes that end early are padded with steps for which `alive` is 0.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import Space, spaces

from rlbench.entities import ACTIONS
from rlbench.envs.examples._base import Array, Source, Split
from rlbench.envs.social.engine import GridGame
from rlbench.envs.social.names import GAMES
from rlbench.envs.social.scripted import TEAMS, Policy, Scripted
from rlbench.envs.social.trained import Trained
from rlbench.errors import UserError
from rlbench.seeding import derive

EPSILON = 0.05
"""Probability of a random action of a scripted agent; if it were larger, runs of correct predictions would be short for
any model."""
PLAYED_AT_ONCE = 500
TRAINED = "-trained"
"""Suffix of the names of episodes of trained agents."""
LONGEST = 100
"""Number of steps of the longest episodes that can be recorded."""


class Episodes(Source):
    """Episodes of one game, T steps of A agents among S items.

    Columns: `obs`, features of the N nodes, float32 [T, N, D], see `rlbench.entities`; `action`, int64 [T, A];
    `reward`, float32 [T, A]; `alive`, 1 for steps of the episode, uint8 [T]; `taken`, 1 if an agent took an item in a
    step, uint8 [T, A, S].
    """

    kind = "generated"
    cached = True

    def __init__(self, game: str, policy: Policy | None = None) -> None:
        """Stores the game and the policy.

        Args:
            game: A name in `rlbench.envs.social.names.GAMES`.
            policy: Chooses the actions of all agents; by default the scripted policy for teams.

        Raises:
            UserError: The episodes of this game are too long.
        """
        numbers = GAMES[game]
        if numbers.limit > LONGEST:
            raise UserError(
                f"episodes of {game} have {numbers.limit:,} steps, which is too long for recording; give one of "
                f"{', '.join(name for name, x in GAMES.items() if x.limit <= LONGEST)}"
            )
        self._game, self._numbers = game, numbers
        self._policy = policy or Scripted(TEAMS[numbers.kind], EPSILON, hidden_ties=True)

    @property
    def fields(self) -> Mapping[str, Space[Any]]:
        """See `Source`."""
        steps, agents, items = self._numbers.limit, self._numbers.agents, sum(self._numbers.items)
        layout = GridGame(self._numbers, 1).layout()
        return {
            "obs": spaces.Box(0, 1, (steps, layout.nodes, layout.features), np.float32),
            "action": spaces.Box(0, ACTIONS - 1, (steps, agents), np.int64),
            "reward": spaces.Box(-np.inf, np.inf, (steps, agents), np.float32),
            "alive": spaces.Box(0, 1, (steps,), np.uint8),
            "taken": spaces.Box(0, 1, (steps, agents, items), np.uint8),
        }

    @property
    def sizes(self) -> Mapping[Split, int]:
        """See `Source`."""
        return {"train": 50_000, "test": 500}

    def sample(self, split: Split, size: int, seed: int) -> Mapping[str, Array]:
        """See `Source`."""
        columns = {
            name: np.zeros((size, *(space.shape or ())), space.dtype)
            for name, space in self.fields.items()
        }
        for first in range(0, size, PLAYED_AT_ONCE):
            rows = range(first, min(size, first + PLAYED_AT_ONCE))
            seeds = [derive(seed, "episodes", self._game, split, row) for row in rows]
            self._play(seeds, {name: x[first : rows.stop] for name, x in columns.items()})
        return columns

    def _play(self, seeds: list[int], columns: Mapping[str, Array]) -> None:
        """Plays an episode for each of E seeds and writes them to columns [E, ...]."""
        game = GridGame(self._numbers, len(seeds))
        game.reset(seeds=seeds)
        alive = np.ones(len(seeds), bool)
        for step in range(self._numbers.limit):
            columns["obs"][:, step] = game.graph()
            columns["alive"][:, step] = alive
            action = self._policy(game)
            columns["action"][:, step] = action
            reward, terminated, _ = game.step(action)
            columns["reward"][:, step] = reward * alive[:, None]
            columns["taken"][:, step] = game.on & (game.taken & alive[:, None])[:, None]
            alive = alive & ~terminated


def recorded(name: str) -> Episodes:
    """Episodes of scripted agents in a game, such as `coin`, or of trained agents, such as `coin-trained`.

    Raises:
        UserError: There is no such game, or no agents were trained for it.
    """
    game = name.removesuffix(TRAINED)
    if game not in GAMES:
        raise UserError(
            f"there is no game {game!r} for recorded episodes; give episodes-GAME with one of {', '.join(GAMES)}"
        )
    return Episodes(game, Trained(game) if name.endswith(TRAINED) else None)
