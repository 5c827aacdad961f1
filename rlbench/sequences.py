"""Spaces of sequences of tokens, such as the words of a sentence, and the numbers of special tokens.

    [CLS] go to the red ball [PAD] [PAD]    ->    1 13 32 29 27 7 0 0

The space keeps the vocabulary, so that sources can write sequences and models can read them without knowing each other.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray

PAD, CLS, MASK = 0, 1, 2
"""Numbers of the padding at the end, of the first token of every sequence, and of a hidden token."""
SPECIAL = ("[PAD]", "[CLS]", "[MASK]")
"""The special tokens by number; every vocabulary begins with them."""


class TokenSequence(Box):
    """Whole numbers [L] of tokens: first `CLS`, then tokens of the vocabulary, at the end `PAD`."""

    def __init__(self, words: Sequence[str], length: int) -> None:
        """The space of sequences of `length` tokens.

        Args:
            words: The vocabulary by number; it begins with `SPECIAL`.
            length: Tokens of a sequence with its padding, L.

        Raises:
            ValueError: The vocabulary begins with other tokens, or the length is below 1.
        """
        self.words = tuple(words)
        if self.words[: len(SPECIAL)] != SPECIAL or length < 1:
            raise ValueError(
                f"a sequence of {length} tokens from {self.words[:4]} was given; expected 1 token or more, from a "
                f"vocabulary that begins with {SPECIAL}"
            )
        largest = len(self.words) - 1
        kind = np.uint8 if largest <= np.iinfo(np.uint8).max else np.int64
        super().__init__(0, largest, (length,), kind)

    def contains(self, x: Any) -> bool:
        """Whether x are numbers of tokens, [L], with padding only at the end."""
        return super().contains(x) and bool(padded_at_end(np.asarray(x)))

    def sample(self, *args: Any, **kwargs: Any) -> NDArray[Any]:
        """Random tokens, [L]; see `Box`. Padding is moved to the end."""
        tokens = super().sample(*args, **kwargs)
        return tokens[np.argsort(tokens == PAD, kind="stable")]

    def __repr__(self) -> str:
        """The space in errors."""
        return (
            f"TokenSequence of {self.shape[0]} numbers below {len(self.words)}, 0 only at the end"
        )

    def text(self, tokens: NDArray[np.integer]) -> str:
        """The tokens [L] as words, without the padding."""
        return " ".join(self.words[token] for token in tokens.tolist() if token != PAD)


def padded_at_end(tokens: NDArray[Any]) -> NDArray[np.bool_]:
    """Whether each sequence, [..., L], has no token after its padding, [...].

    >>> padded_at_end(np.array([[1, 3, 0, 0], [1, 0, 3, 0]])).tolist()
    [True, False]
    """
    padding = tokens == PAD
    found: NDArray[np.bool_] = ~(padding[..., :-1] & ~padding[..., 1:]).any(-1)
    return found
