"""Classes of what Procgen's games draw, by colour; standard library only.

With `use_monochrome_assets` Procgen draws every object as a rectangle, whose colour depends only on the number of its
type and on its theme, and with `restrict_themes` almost every theme is 0 (openai/procgen, src/basic-abstract-game.cpp;
the numbers are in src/games). A table names these types by what they mean, so that several types, such as the
pictures of a walking agent, may form one class. Class 0 is the background.

`python -m rlbench.envs.examples.frames_procgen GAME` counts the colours of a game, to check or write a table.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from rlbench.envs.procgen.names import GAMES
from rlbench.errors import UserError

BACKGROUND, AGENT = "background", "agent"
LEVELS = 4
"""Levels of each of the three channels, hence 64 colours."""


def colour(kind: int, theme: int = 0) -> int:
    """The colour of a type of objects, as 0xRRGGBB.

    >>> hex(colour(0))
    '0x7fff7f'
    """
    number = (29 * (kind + 1) + 19 * theme) % LEVELS**3
    red, green, blue = number // LEVELS**2, number // LEVELS % LEVELS, number % LEVELS
    return sum(
        (256 // LEVELS * (x + 1) - 1) << shift for x, shift in ((red, 16), (green, 8), (blue, 0))
    )


def _types(*kinds: int, themes: int = 1) -> tuple[int, ...]:
    """The colours of types, each with the themes from 0 to `themes` - 1."""
    return tuple(colour(kind, theme) for kind in kinds for theme in range(themes))


@dataclass(frozen=True)
class Classes:
    """What a game draws."""

    scenery: Mapping[str, tuple[int, ...]]
    """Colours of the agent, of its surroundings and of effects that do not matter to it."""
    objects: Mapping[str, tuple[int, ...]]
    """Colours of what the agent should look for or avoid."""
    agent_beyond: bool = False
    """Whether the agent's picture is larger than its rectangle; if so, pixels outside all rectangles belong to the agent."""
    restricted: bool = True
    """Whether the game stays the same with `restrict_themes`; in some games objects take their size from the theme."""
    hard: bool = True
    """Whether the table is also right for the hard levels."""

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names of the classes, from class 0 on."""
        return (BACKGROUND, *self.scenery, *self.objects)

    @cached_property
    def by_colour(self) -> dict[int, int]:
        """Colour to class; black is the background."""
        every = {**self.scenery, **self.objects}
        return {0: 0} | {x: i for i, name in enumerate(every, 1) for x in every[name]}


_WALKING = _types(0, 9, 12, 13)
_EXPLOSION = _types(54, 55, 56, 57, 58)

CLASSES = {
    "bigfish": Classes({AGENT: _types(0)}, {"fish": _types(2, themes=6)}, restricted=False),
    "caveflyer": Classes(
        {AGENT: _types(0), "wall": _types(8), "shot": _types(4), "effect": _types(9) + _EXPLOSION},
        {"goal": _types(1), "obstacle": _types(2), "target": _types(3), "enemy": _types(5)},
    ),
    "chaser": Classes(
        {AGENT: _types(0), "wall": _types(5), "orb": (0x00FF00,)},
        {
            "large orb": _types(2), "weak enemy": _types(3), "egg": _types(4), "enemy": _types(6, 7, 8),
        },
    ),
    "climber": Classes(
        {AGENT: _WALKING, "wall": _types(15, 16)}, {"coin": _types(1), "enemy": _types(6, 7)}
    ),
    "coinrun": Classes(
        {AGENT: _WALKING, "wall": _types(15, 16), "effect": _types(59)},
        {
            "coin": _types(1), "saw": _types(2, 3), "enemy": _types(6, 7), "lava": _types(17, 18),
            "crate": _types(20),
        },
        agent_beyond=True,
    ),
    "dodgeball": Classes(
        {AGENT: _types(0), "wall": _types(1, 10), "ball": _types(3), "effect": _types(8)},
        {"enemy": _types(4), "enemy's ball": _types(6), "door": _types(5), "open door": _types(7)},
    ),
    "fruitbot": Classes(
        {AGENT: _types(0), "wall": _types(1, 2), "key": _types(3)},
        {
            "bad food": _types(4, themes=2), "good food": _types(7, themes=2), "door": _types(10, 11),
            "present": _types(12, themes=3),
        },
        restricted=False, hard=False,
    ),
    "heist": Classes(
        {AGENT: _types(0), "wall": _types(51)},
        {"gem": _types(9), "key": _types(2, themes=3), "door": _types(1, themes=3)},
    ),
    "leaper": Classes(
        {AGENT: _types(0, themes=5), "road": _types(2), "water": _types(3)},
        {"log": _types(1), "car": _types(4), "finish": _types(5)},
        agent_beyond=True,
    ),
    "maze": Classes({AGENT: _types(0), "wall": _types(51)}, {"cheese": _types(2)}),
    "miner": Classes(
        {AGENT: _types(0), "dirt": _types(9), "wall": _types(10)},
        {"boulder": _types(1), "diamond": _types(2), "exit": _types(6)},
    ),
    "ninja": Classes(
        {AGENT: _WALKING, "wall": _types(20), "star": _types(7), "fire": _types(14), "charge": (0x42F587,),
         "effect": _EXPLOSION},
        {"goal": _types(1), "bomb": _types(6)},
    ),
    "starpilot": Classes(
        {AGENT: _types(0), "shot": _types(1), "effect": _EXPLOSION},
        {
            "bullet": _types(2, 3), "flyer": _types(4, 8), "meteor": _types(5), "cloud": _types(6),
            "turret": _types(7), "finish": _types(9),
        },
    ),
}  # fmt: skip
"""Classes of each game. The others draw over their objects (jumper, bossfight), or draw the agent like an object (plunder)."""


def classes_of(game: str, hard: bool) -> Classes:
    """The classes of a game.

    Raises:
        UserError: There is no such game, or no unambiguous table for it.
    """
    if game not in GAMES:
        raise UserError(f"Procgen has no game {game!r}; give one of {', '.join(CLASSES)}")
    found = CLASSES.get(game)
    if found is None:
        raise UserError(
            f"the colours of {game} do not determine the classes of its objects; give one of {', '.join(CLASSES)}"
        )
    if hard and not found.hard:
        raise UserError(
            f"the colours of {game} do not determine the classes of its objects in hard levels; give {game} without -hard"
        )
    return found
