"""Encoders of texts: numbers of words, [B, L] (`rlbench.packed.Words`), to features.

Zeros at the end of a text are padding: they change nothing, and those that all texts of a batch share are not read.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from rlbench.backbones.encoders._base import Kind, at_least_one
from rlbench.packed import Words


class TextLayers(nn.Module, ABC):
    """Reads words as vectors; a subclass says how."""

    one_program = False
    """The operations depend on the longest text of a batch."""

    def __init__(self, space: Words, width: int) -> None:
        """Embeds the words of a space as vectors of length `width`, W."""
        super().__init__()
        at_least_one("the text encoder", width=width)
        self.embedding = nn.Embedding(len(space.words), width)

    def forward(self, words: Tensor) -> Tensor:
        """Features [B, W] of texts, [B, L] of any dtype."""
        words = words.long()
        length = (words > 0).sum(dim=1).clamp(min=1)
        # Exported models read the whole length.
        if not (torch.jit.is_tracing() or torch.compiler.is_exporting()):  # type: ignore[attr-defined, no-untyped-call]
            words = words[:, : int(length.max())]
        return self.read(words, length)

    @abstractmethod
    def read(self, words: Tensor, length: Tensor) -> Tensor:
        """Features [B, W] of words, int64 [B, L], of which each text has the first `length`, [B]."""


class BagOfWords(TextLayers):
    """The mean of the words' vectors, without their order."""

    def __init__(self, space: Words, width: int = 64) -> None:
        """Vectors of length `width`."""
        super().__init__(space, width)

    def read(self, words: Tensor, length: Tensor) -> Tensor:
        """See `TextLayers`."""
        there = torch.arange(words.shape[1], device=words.device) < length[:, None]
        total: Tensor = (self.embedding(words) * there[..., None]).sum(dim=1)
        return total / length[:, None]


class WordGRU(TextLayers):
    """The state of gated recurrent units after the last word, as in BabyAI's agents.

    Chevalier-Boisvert et al., 2019, https://arxiv.org/abs/1810.08272, section 4
    """

    def __init__(self, space: Words, width: int = 64) -> None:
        """Vectors and state of length `width`."""
        super().__init__(space, width)
        self.gru = nn.GRU(width, width, batch_first=True)

    def read(self, words: Tensor, length: Tensor) -> Tensor:
        """See `TextLayers`."""
        states, _ = self.gru(self.embedding(words))
        last = (length - 1)[:, None, None].expand(-1, 1, states.shape[2])
        return states.gather(1, last).squeeze(1)  # type: ignore[no-any-return]


BAG_OF_WORDS = Kind(BagOfWords, "words")
WORD_GRU = Kind(WordGRU, "words")
