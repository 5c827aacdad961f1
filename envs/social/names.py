"""Names of the multi-agent games; standard library only.

`coopnav` is Cooperative Navigation (Lowe et al., 2017, https://arxiv.org/abs/1706.02275), `coin` the Coin Game (Raileanu
et al., 2018, https://arxiv.org/abs/1802.09640), `stag-hunt` Stag Hunt (Peysakhovich and Lerer, 2017,
https://arxiv.org/abs/1709.02865). Coins, their grid and `coin-squared` follow OpenSpiel, `markov-stag-hunt` the public
package Gym-Stag-Hunt; all other sizes and rules are our own choice.
"""

from dataclasses import dataclass, replace

COOPNAV, COIN, STAG, MARKOV = "coopnav", "coin", "stag", "markov"
"""Kinds of games, each with its own rules."""


@dataclass(frozen=True)
class Game:
    """The parameters of a game."""

    kind: str
    """COOPNAV, COIN, STAG or MARKOV."""
    agents: int
    """Number of agents, A."""
    side: int
    """Rows and columns of the grid, H."""
    items: tuple[int, ...]
    """Numbers of items of each type; S is their sum."""
    limit: int
    """Steps after which an episode is truncated."""
    squared: bool = False
    """Whether the reward for coins is given at the end, by the squares of their numbers."""
    stag_reward: float = 5.0
    """Reward of each agent that captures a stag together with another agent."""
    apple_reward: float = 1.0
    """Reward for an apple or a plant."""
    mauling: float = -5.0
    """Reward of an agent that is alone with the stag (MARKOV only)."""
    respawn: float = 0.05
    """Probability in each step that a taken item returns (STAG only)."""

    @property
    def first_action(self) -> int:
        """The smallest action: 0 (stay), or 1 if agents cannot stay."""
        return 1 if self.kind == MARKOV else 0

    @property
    def types(self) -> tuple[int, ...]:
        """The type of each item, S numbers; items of one type are next to each other."""
        return tuple(kind for kind, count in enumerate(self.items) for _ in range(count))

    @property
    def marks(self) -> str:
        """A letter for each type."""
        return {COOPNAV: "T", COIN: "XYZ", STAG: "SA", MARKOV: "SP"}[self.kind]


_COIN = Game(COIN, agents=2, side=8, items=(4, 4, 4), limit=10)
GAMES = {
    "coopnav": Game(COOPNAV, agents=2, side=7, items=(2,), limit=20),
    "coin": _COIN,
    "coin-squared": replace(_COIN, squared=True),
    "stag-hunt": Game(STAG, agents=2, side=8, items=(2, 6), limit=32),
    "stag-hunt-4p": Game(STAG, agents=4, side=6, items=(2, 6), limit=32),
    "stag-hunt-6p": Game(STAG, agents=6, side=6, items=(2, 6), limit=32),
    "stag-hunt-full": Game(STAG, agents=2, side=10, items=(3, 12), limit=32),
    "stag-hunt-4p-full": Game(STAG, agents=4, side=10, items=(3, 12), limit=32),
    "markov-stag-hunt": Game(MARKOV, agents=2, side=5, items=(1, 2), limit=1000),
}
"""Name to game."""
SOLVED_ABOVE = {"coopnav": 0.0}
"""Return above which an episode counts as solved: only covering both tiles is rewarded."""
_WORDS = {
    "coopnav": "both tiles must be covered in the same step",
    "coin": "three colours; each agent knows one of the two good ones",
    "coin-squared": "as coin, but with the reward at the end, by squared numbers of coins",
    "markov-stag-hunt": "the stag moves and mauls agents that are alone; Gym-Stag-Hunt's rules",
}


def names() -> list[str]:
    """All names."""
    return list(GAMES)


def lines() -> list[str]:
    """One line per game, with a description."""
    return [f"{name:<17}  {_in_words(name, game)}" for name, game in GAMES.items()]


def _in_words(name: str, game: Game) -> str:
    size = f"{game.agents} agents in {game.side}x{game.side}"
    if game.kind == STAG:
        return f"{size}, {game.items[0]} stags for two hunters each, {game.items[1]} apples"
    return f"{size}, {_WORDS[name]}"
