"""Associative retrieval: which digit came after this letter?

    c 9 k 8 j 3 f 1 ? ? c    ->    9

`assoc-retrieval-K` has K pairs of a letter and a digit, the letters all different, two question marks, and one of the
letters again. In `assoc-retrieval-1-2-4` training sequences have 1, 2 or 4 pairs, and test sequences 4: the easy ones help a
network to discover what the task is.

`assoc-retrieval-long:L` is a long form for attention: L tokens of which 2 are pairs, at random places, and all others are
fillers. A pair is one token here, such as b9. The question is at the second place, next to the first token, whose
features a model reads:

    [CLS] b? . . . . a8 . . . . . . b9 . . .    ->    9

`assoc-retrieval-far:L` is the same with the question at a random place. Neither pairs nor such a question are among the first
64 tokens.

Ba et al., 2016, https://arxiv.org/abs/1610.06258, section 4.1, for the short form; the long forms are ours.
"""

from abc import abstractmethod
from collections.abc import Mapping
from string import ascii_lowercase
from typing import Any, ClassVar, Literal

import numpy as np
from gymnasium import Space, spaces
from numpy.typing import NDArray

from rlbench.envs.examples._base import Array, Source, Split
from rlbench.errors import UserError
from rlbench.seeding import derive
from rlbench.sequences import CLS, PAD, SPECIAL, TokenSequence

DIGITS = 10
TESTS = 8
"""One sequence in 8 can only be a test sequence; a hash decides which."""
LETTERS = len(ascii_lowercase)
FIRST_LETTER, FIRST_DIGIT = len(SPECIAL), len(SPECIAL) + LETTERS
QUESTION = FIRST_DIGIT + DIGITS
WORDS = (*SPECIAL, *ascii_lowercase, *map(str, range(DIGITS)), "?")
"""Vocabulary of the short form."""

KEYS = 2
"""Letters of the long form, all of which occur in each sequence."""
NEAR = 64
"""First place of the long form at which a pair may be."""
FILLER = len(SPECIAL)
FIRST_QUESTION, FIRST_PAIR = FILLER + 1, FILLER + 1 + KEYS
LONG_WORDS = (
    *SPECIAL, ".", *(f"{letter}?" for letter in ascii_lowercase[:KEYS]),
    *(f"{letter}{digit}" for letter in ascii_lowercase[:KEYS] for digit in range(DIGITS)),
)  # fmt: skip
"""Vocabulary of the long form."""
SHORTEST, LONGEST = 128, 16_384
"""Tokens of the shortest and the longest sequence; shorter ones would often be the same."""


class Hashed(Source):
    """Random sequences whose hash decides their split, so that no sequence is in both, whatever the seeds."""

    kind = "generated"
    block: ClassVar[int]
    """Sequences drawn at once; a fixed number, so that the first examples do not depend on how many are requested."""

    @abstractmethod
    def draw(self, rng: np.random.Generator, split: Split) -> tuple[Array, Array]:
        """Sequences of a split or of the other one, uint8 [block, L], and their answers, int64 [block]."""

    def sample(self, split: Split, size: int, seed: int) -> Mapping[str, Array]:
        """See `Source`."""
        rng = np.random.default_rng(derive(seed, "assoc-retrieval", split))
        parts: list[tuple[Array, Array]] = []
        while sum(len(label) for _, label in parts) < size:
            obs, label = self.draw(rng, split)
            mine = (hashed(obs) % TESTS == 0) == (split == "test")
            parts.append((obs[mine], label[mine]))
        obs, label = (np.concatenate(column)[:size] for column in zip(*parts, strict=True))
        return {"obs": obs, "label": label}


class Retrieval(Hashed):
    """Sequences of 2 K + 4 tokens, where K is the largest number of pairs, and the digit that is asked for."""

    block = 4_096

    def __init__(self, *pairs: int) -> None:
        """`pairs`: numbers of pairs of a letter and a digit (paper: K); test sequences have the largest.

        Raises:
            UserError: There are more pairs than letters.
        """
        if max(pairs) > LETTERS:
            raise UserError(
                f"{max(pairs)} pairs need as many letters; give {LETTERS} or fewer, as in assoc-retrieval-4"
            )
        self._pairs = pairs
        self._length = 2 * max(pairs) + 4

    @property
    def fields(self) -> Mapping[str, Space[Any]]:
        """See `Source`."""
        obs = TokenSequence(WORDS, self._length)
        return {"obs": obs, "label": spaces.Discrete(DIGITS)}

    @property
    def sizes(self) -> Mapping[Split, int]:
        """See `Source`."""
        return {"train": 100_000, "test": 2_000}

    def draw(self, rng: np.random.Generator, split: Split) -> tuple[Array, Array]:
        """See `Hashed`."""
        most = max(self._pairs)
        count = rng.choice(self._pairs if split == "train" else [most], self.block)
        letters = rng.random((self.block, LETTERS)).argsort(axis=1)[:, :most]
        digits = rng.integers(DIGITS, size=(self.block, most))
        asked = rng.integers(count)
        rows = np.arange(self.block)
        obs = np.full((self.block, self._length), PAD, np.uint8)
        obs[:, 0] = CLS
        obs[:, 1:-3:2], obs[:, 2:-3:2] = FIRST_LETTER + letters, FIRST_DIGIT + digits
        # The question follows the last pair and overwrites all others.
        end = 1 + 2 * count
        obs[np.arange(self._length) >= end[:, None]] = PAD
        obs[rows, end] = obs[rows, end + 1] = QUESTION
        obs[rows, end + 2] = FIRST_LETTER + letters[rows, asked]
        return obs, digits[rows, asked]


class LongRetrieval(Hashed):
    """Sequences of L tokens, two of which are pairs, and the digit that is asked for."""

    block = 512

    def __init__(self, length: int, question: Literal["first", "anywhere"] = "first") -> None:
        """For sequences of `length` tokens.

        Raises:
            UserError: They are too short for all pairs, or very long.
        """
        if not SHORTEST <= length <= LONGEST:
            raise UserError(
                f"sequences of {length} tokens were requested; give a length from {SHORTEST} to {LONGEST:,}, as in "
                "assoc-retrieval-long:256"
            )
        self._length, self._question = length, question

    @property
    def fields(self) -> Mapping[str, Space[Any]]:
        """See `Source`."""
        obs = TokenSequence(LONG_WORDS, self._length)
        return {"obs": obs, "label": spaces.Discrete(DIGITS)}

    @property
    def sizes(self) -> Mapping[Split, int]:
        """See `Source`."""
        return {"train": 20_000, "test": 1_000}

    def draw(self, rng: np.random.Generator, split: Split) -> tuple[Array, Array]:
        """See `Hashed`."""
        digits = rng.integers(DIGITS, size=(self.block, KEYS))
        asked = rng.integers(KEYS, size=self.block)
        order = rng.random((self.block, self._length - NEAR)).argsort(axis=1)
        places, rows = NEAR + order[:, : KEYS + 1], np.arange(self.block)
        obs = np.full((self.block, self._length), FILLER, np.uint8)
        obs[:, 0] = CLS
        for key in range(KEYS):
            obs[rows, places[:, key]] = FIRST_PAIR + DIGITS * key + digits[:, key]
        obs[rows, places[:, KEYS] if self._question == "anywhere" else 1] = FIRST_QUESTION + asked
        return obs, digits[rows, asked]


def hashed(rows: Array) -> NDArray[np.uint64]:
    """Hashes of rows of bytes, uint64 [N] from uint8 [N, L] (Fowler, Noll & Vo, FNV-1a, then folded)."""
    found = np.full(len(rows), 0xCBF29CE484222325, np.uint64)
    for column in rows.T:
        found = (found ^ column) * np.uint64(0x100000001B3)
    return found ^ (found >> np.uint64(32))


def short(name: str) -> Retrieval:
    """The source of `assoc-retrieval-K`, from K or from several numbers with dashes between them."""
    words = name.split("-")
    if not all(word.isdecimal() and int(word) for word in words):
        raise UserError(
            f"assoc-retrieval-{name} has no numbers of pairs; give one or more, as in assoc-retrieval-4 or "
            "assoc-retrieval-1-2-4"
        )
    return Retrieval(*map(int, words))


def long(name: str) -> LongRetrieval:
    """The source of `assoc-retrieval-long:L`, from L."""
    return LongRetrieval(_length(name))


def far(name: str) -> LongRetrieval:
    """The source of `assoc-retrieval-far:L`, from L."""
    return LongRetrieval(_length(name), "anywhere")


def _length(name: str) -> int:
    if not name.isdecimal():
        raise UserError(
            f"{name!r} is not a length; give a whole number, as in assoc-retrieval-long:256"
        )
    return int(name)
