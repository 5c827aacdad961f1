"""The words of the missions of MiniGrid and BabyAI, and their numbers; needs NumPy only.

    "go to the red ball"  ->  [CLS] go to the red ball [PAD] [PAD] ...

The number of a word is its place in `WORDS`. Trained weights depend on the numbers: append new words at the end.
"""

import re

import numpy as np
from numpy.typing import NDArray

from rlbench.errors import UserError
from rlbench.sequences import CLS, MASK, PAD, SPECIAL

__all__ = ["CLS", "MASK", "PAD", "WORDS", "encode"]

WORDS: tuple[str, ...] = (
    *SPECIAL, ",",
    # Every BabyAI level.
    "a", "after", "and", "ball", "behind", "blue", "box", "door", "front", "go", "green", "grey", "in", "key", "left",
    "next", "object", "of", "on", "open", "pick", "purple", "put", "red", "right", "the", "then", "to", "up", "yellow",
    "you", "your",
    # The other levels of MiniGrid.
    "at", "avoid", "end", "fetch", "find", "from", "get", "goal", "hallway", "lava", "matching", "must", "near",
    "opening", "reach", "room", "rooms", "square", "traverse", "unlock", "use",
)  # fmt: skip
"""Words by number."""
NUMBERS = {word: number for number, word in enumerate(WORDS)}
LONGEST = 73
"""Tokens of the longest possible mission of BabyAI: four times "put the red key in front of you next to the red key in
front of you", with "and" twice and ", then" between them."""


def encode(mission: str, length: int = LONGEST) -> NDArray[np.uint8]:
    """Numbers of the words of a mission, uint8 [length]: first `CLS`, at the end `PAD`.

    Raises:
        UserError: The mission has a word that is not in `WORDS`, or too many words.

    >>> [WORDS[number] for number in encode("go to the red ball", 7)]
    ['[CLS]', 'go', 'to', 'the', 'red', 'ball', '[PAD]']
    """
    words = re.findall(r"[^\s,]+|,", mission.lower())
    if len(words) + 1 > length:
        raise UserError(
            f"the mission {mission!r} has {len(words)} words, expected {length - 1} or fewer; use a level with "
            "shorter missions"
        )
    numbers = np.full(length, PAD, np.uint8)
    numbers[0] = CLS
    for place, word in enumerate(words, start=1):
        number = NUMBERS.get(word, PAD)
        if number < len(SPECIAL):
            raise UserError(
                f"the mission {mission!r} contains the word {word!r}, expected words of MiniGrid's and BabyAI's "
                "missions; use a level of minigrid or observations without missions"
            )
        numbers[place] = number
    return numbers
