"""Encoders of sequences of tokens, [B, L] (`rlbench.sequences.TokenSequence`), to features.

`PAD` at the end of a sequence changes nothing; the padding that all sequences of a batch share is not read.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from rlbench.backbones.encoders._base import Kind, at_least_one
from rlbench.sequences import PAD, TokenSequence


class TokenLayers(nn.Module, ABC):
    """Replaces tokens with learned vectors, which a subclass turns into features."""

    def __init__(self, space: TokenSequence, width: int) -> None:
        """Vectors of length `width`, W, for the tokens of a space."""
        super().__init__()
        at_least_one("the encoder of tokens", width=width)
        self.embedding = nn.Embedding(len(space.words), width)

    @property
    def trims(self) -> bool:
        """Whether the padding that all sequences of a batch share is cut off."""
        return True

    @property
    def one_program(self) -> bool:
        """Whether the operations are the same for all observations; they are not if they depend on the longest one of a batch."""
        return not self.trims

    def forward(self, tokens: Tensor) -> Tensor:
        """Features [B, W] of sequences, [B, L] of any dtype."""
        tokens = tokens.long()
        length = (tokens != PAD).sum(dim=1).clamp(min=1)
        # An exported model reads the whole length.
        if self.trims and not (torch.jit.is_tracing() or torch.compiler.is_exporting()):  # type: ignore[attr-defined, no-untyped-call]
            tokens = tokens[:, : int(length.max())]
        return self.read(tokens, length)

    @abstractmethod
    def read(self, tokens: Tensor, length: Tensor) -> Tensor:
        """Features [B, W] of tokens, int64 [B, L], of which each sequence has the first `length`, [B]."""


class BagOfWords(TokenLayers):
    """The mean of the tokens' vectors, without their order."""

    def __init__(self, space: TokenSequence, width: int = 64) -> None:
        """Vectors of length `width`."""
        super().__init__(space, width)

    def read(self, tokens: Tensor, length: Tensor) -> Tensor:
        """See `TokenLayers`."""
        total: Tensor = (self.embedding(tokens) * (tokens != PAD)[..., None]).sum(dim=1)
        return total / length[:, None]


class TokenGRU(TokenLayers):
    """The state of gated recurrent units after the last token, as in BabyAI's agents.

    Chevalier-Boisvert et al., 2019, https://arxiv.org/abs/1810.08272, section 4
    """

    def __init__(self, space: TokenSequence, width: int = 64) -> None:
        """Vectors and state of length `width`."""
        super().__init__(space, width)
        self.gru = nn.GRU(width, width, batch_first=True)

    def read(self, tokens: Tensor, length: Tensor) -> Tensor:
        """See `TokenLayers`."""
        states, _ = self.gru(self.embedding(tokens))
        return at(states, length - 1)


def at(x: Tensor, place: Tensor) -> Tensor:
    """The vectors [B, W] of [B, L, W] at one place of each sequence, int64 [B]."""
    return x.gather(1, place[:, None, None].expand(-1, 1, x.shape[2])).squeeze(1)


BAG_OF_WORDS = Kind(BagOfWords, "tokens")
TOKEN_GRU = Kind(TokenGRU, "tokens")
