"""Observation spaces of sequences that are chosen token by token: the tokens chosen so far.

An episode chooses L tokens; token number t has `choices[t]` values. A space keeps `choices`, so that environments can
write observations and agents can read them without knowing each other. Tokens that are not chosen yet are -1.
"""

from collections.abc import Sequence

import numpy as np
import torch
from gymnasium.spaces import Box, MultiDiscrete
from numpy.typing import NDArray
from torch import Tensor


class OneHotTokens(Box):
    """One-hot tokens, each with a class for "not chosen yet", then the one-hot number of the next token.

    Vectors of length L (N + 2), where N is the largest number of choices. After the last token, the number is all zeros.
    """

    def __init__(self, choices: Sequence[int]) -> None:
        """The space of sequences with these numbers of choices, [L]."""
        self.choices = tuple(choices)
        super().__init__(0.0, 1.0, (len(self.choices) * (max(self.choices) + 2),), dtype=np.float32)

    def encode(self, tokens: NDArray[np.int64]) -> NDArray[np.float32]:
        """Observations [B, D] of tokens [B, L]."""
        length, most = len(self.choices), max(self.choices)
        classes = np.eye(most + 1, dtype=np.float32)[np.where(tokens < 0, most, tokens)]
        # The last row is all zeros, for sequences that are complete.
        places = np.eye(length + 1, length, dtype=np.float32)[(tokens >= 0).sum(axis=1)]
        return np.concatenate([classes.reshape(len(tokens), -1), places], axis=1)

    def decode(self, obs: Tensor) -> Tensor:
        """Tokens, int64 [B, L], of observations [B, D]."""
        length, most = len(self.choices), max(self.choices)
        classes = obs[:, : length * (most + 1)].reshape(-1, length, most + 1).argmax(-1)
        return classes.masked_fill(classes == most, -1)


class TokenNumbers(MultiDiscrete):
    """The number of each token plus 1, with 0 for "not chosen yet", then the number of the next token, [L + 1]."""

    def __init__(self, choices: Sequence[int]) -> None:
        """The space of sequences with these numbers of choices, [L]."""
        self.choices = tuple(choices)
        super().__init__([*(n + 1 for n in self.choices), len(self.choices) + 1])

    def encode(self, tokens: NDArray[np.int64]) -> NDArray[np.int64]:
        """Observations [B, L + 1] of tokens [B, L]."""
        return np.concatenate([tokens + 1, (tokens >= 0).sum(axis=1, keepdims=True)], axis=1)

    def decode(self, obs: Tensor) -> Tensor:
        """Tokens, int64 [B, L], of observations [B, L + 1]."""
        return obs[:, :-1].to(torch.int64) - 1
