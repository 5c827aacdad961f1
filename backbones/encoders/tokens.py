"""Encoders of sequences of tokens, [B, L] (`rlbench.sequences.TokenSequence`), to features.

`PAD` at the end of a sequence changes nothing; the padding that all sequences of a batch share is not read.
"""

from abc import ABC, abstractmethod
from typing import Literal

import torch
from torch import Tensor, nn

from rlbench.backbones.encoders._base import Kind, at_least_one
from rlbench.backbones.layers.attention import Kind as Pattern
from rlbench.backbones.layers.transformer import SPREAD, Transformer
from rlbench.sequences import PAD, TokenSequence


class TokenLayers(nn.Module, ABC):
    """Reads tokens as learned vectors; a subclass says how."""

    def __init__(self, space: TokenSequence, width: int) -> None:
        """Vectors of length `width`, W, for the tokens of a space."""
        super().__init__()
        at_least_one("the encoder of tokens", width=width)
        self.embedding = nn.Embedding(len(space.words), width)

    @property
    def one_program(self) -> bool:
        """Whether the operations are the same for all observations: not if they depend on the longest one of a batch."""
        return not self.trims

    @property
    def trims(self) -> bool:
        """Whether the padding that all sequences of a batch share is cut off."""
        return True

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


class TokenTransformer(TokenLayers):
    """A transformer: the output at the first token, which is [CLS], or at the last one if it reads from left to right.

    Devlin et al., 2019, https://arxiv.org/abs/1810.04805, section 3
    """

    def __init__(
        self,
        space: TokenSequence,
        width: int = 64,
        layers: int = 2,
        heads: int = 4,
        direction: Literal["both", "left-to-right"] = "both",
        attention: Pattern = "full",
        block: int = 16,
        random: int = 3,
        dropout: float = 0.0,
    ) -> None:
        """Blocks whose linear layers have 4 x `width` units in between.

        Args:
            space: The space of the sequences.
            width: Length of the vectors.
            layers: Number of blocks.
            heads: Attention heads.
            direction: Whether a token reads the tokens on both sides or only those before it.
            attention: Pattern of the attention; see `layers/attention.py`, also for the next two.
            block: Tokens in a block of a sparse pattern.
            random: Random blocks of a sparse pattern.
            dropout: Share of attention weights and outputs that is set to 0 in training.
        """
        super().__init__(space, width)
        nn.init.trunc_normal_(self.embedding.weight, std=SPREAD, a=-2 * SPREAD, b=2 * SPREAD)
        self.causal, self.sparse = direction == "left-to-right", attention != "full"
        self.transformer = Transformer(
            width, layers, heads, 4 * width, space.shape[0], attention=attention, causal=self.causal,
            block=block, random=random, dropout=dropout,
        )  # fmt: skip

    @property
    def trims(self) -> bool:
        """See `TokenLayers`; the blocks of a sparse pattern depend on the length."""
        return not self.sparse

    def hidden(self, tokens: Tensor) -> Tensor:
        """The output at each token, [B, L, W], of int64 [B, L]."""
        out: Tensor = self.transformer(self.embedding(tokens), tokens == PAD)
        return out

    def read(self, tokens: Tensor, length: Tensor) -> Tensor:
        """See `TokenLayers`."""
        return at(self.hidden(tokens), length - 1 if self.causal else torch.zeros_like(length))


def at(x: Tensor, place: Tensor) -> Tensor:
    """The vectors [B, W] of [B, L, W] at one place of each sequence, int64 [B]."""
    return x.gather(1, place[:, None, None].expand(-1, 1, x.shape[2])).squeeze(1)


BAG_OF_WORDS = Kind(BagOfWords, "tokens")
TOKEN_GRU = Kind(TokenGRU, "tokens")
TOKEN_TRANSFORMER = Kind(TokenTransformer, "tokens")
