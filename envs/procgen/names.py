"""Names of the Procgen tasks; standard library only.

Every game is a task by its name (`coinrun`), with the endings `-hard` for Procgen's hard distribution
of levels and `-held-out` for levels that training never sees (`coinrun-hard-held-out`).

Cobbe et al., 2019, https://arxiv.org/abs/1912.01588
"""

from dataclasses import dataclass
from typing import Any

GAMES = (
    "bigfish", "bossfight", "caveflyer", "chaser", "climber", "coinrun", "dodgeball", "fruitbot",
    "heist", "jumper", "leaper", "maze", "miner", "ninja", "plunder", "starpilot",
)  # fmt: skip

ONE_REWARD = frozenset({"coinrun", "heist", "jumper", "leaper", "maze", "ninja"})
"""Games whose only reward is for completing a level (openai/procgen, src/games)."""

CARRIES_OVER = frozenset({"dodgeball"})
"""Games in which an episode depends on the one before: the player still faces its last direction
(`last_move_action` of openai/procgen outlives a reset), until it moves."""

TRAIN_LEVELS = 500
"""Levels 0 to 499 are for training, as in IBAC-SNI (https://arxiv.org/abs/1910.12911, CoinRun)."""
HELD_OUT_LEVELS = 100_000
"""Number of held-out levels, from level 500 on: too many to memorise."""

HARD, HELD_OUT = "-hard", "-held-out"


@dataclass(frozen=True)
class ProcgenName:
    """A game and its levels."""

    game: str
    """One of `GAMES`."""
    hard: bool = False
    """Procgen's hard distribution instead of its easy one."""
    held_out: bool = False
    """The held-out levels instead of those for training."""

    def __str__(self) -> str:
        """The name of the task."""
        return self.game + HARD * self.hard + HELD_OUT * self.held_out

    @property
    def env_id(self) -> str:
        """EnvPool's id, such as CoinrunEasy-v0."""
        return f"{self.game.capitalize()}{'Hard' if self.hard else 'Easy'}-v0"

    @property
    def options(self) -> dict[str, Any]:
        """EnvPool's options."""
        options = {
            "start_level": TRAIN_LEVELS if self.held_out else 0,
            "num_levels": HELD_OUT_LEVELS if self.held_out else TRAIN_LEVELS,
        }
        # CoinRun's agents see no past frames, so its authors paint the velocity into a corner.
        return {**options, "paint_vel_info": True} if self.game == "coinrun" else options


def parse(name: str) -> ProcgenName | None:
    """The game of a name; None for any other name.

    >>> parse("coinrun-held-out")
    ProcgenName(game='coinrun', hard=False, held_out=True)
    >>> parse("coinrun-held-out-hard") is None
    True
    """
    rest = name.removesuffix(HELD_OUT)
    game = rest.removesuffix(HARD)
    if game not in GAMES:
        return None
    return ProcgenName(game, hard=rest.endswith(HARD), held_out=name.endswith(HELD_OUT))


def names() -> list[str]:
    """All names: each game, hard, held out, both."""
    return [
        game + hard + held_out
        for game in GAMES
        for hard in ("", HARD)
        for held_out in ("", HELD_OUT)
    ]


def lines() -> list[str]:
    """The games and the possible endings of their names, for `rlbench list`."""
    half = len(GAMES) // 2
    return [
        f"{{{','.join(GAMES[:half])},",
        f" {','.join(GAMES[half:])}}}",
        f"each also with {HARD} and {HELD_OUT}, as in coinrun{HARD}{HELD_OUT}",
    ]
