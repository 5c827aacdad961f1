"""A transformer over sequences of tokens.

    x_i = E[token_i],   y = Transformer(x),   features = y_1, at the token [CLS]

It reads both sides of each token, as in BERT (Devlin et al., 2019, https://arxiv.org/abs/1810.04805). With `reads=past` a token reads
only itself and those before it, and the features are those of the last token that is not padding. `attention=big-bird` and others are the
sparse patterns of `layers/attention.py` for long sequences.

An observation is a row of token numbers, see `rlbench.sequences`. The default sizes are for vocabularies of some dozens of
words. BERT's base model has a width of 768, 12 layers, 12 heads, 3,072 units, post-norm and dropout 0.1.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from rlbench.backbones.encoders._base import Kind, at_least_one
from rlbench.backbones.layers.attention import Kind as AttentionKind
from rlbench.backbones.layers.transformer import Norm, Transformer, initialise
from rlbench.errors import UserError
from rlbench.sequences import PAD


class TokenTransformer(nn.Module):
    """A transformer over embeddings of tokens."""

    def __init__(self, embedding: nn.Embedding, transformer: Transformer, *, causal: bool) -> None:
        """Reads only earlier tokens if `causal`."""
        super().__init__()
        self.embedding, self.transformer, self.causal = embedding, transformer, causal

    def places(self, tokens: Tensor) -> Tensor:
        """Features of every place, [B, L, W], of tokens [B, L]; meaningless where the token is `PAD`."""
        tokens = tokens.long()
        features: Tensor = self.transformer(self.embedding(tokens), tokens == PAD)
        return features

    def forward(self, tokens: Tensor) -> Tensor:
        """Features of each sequence, [B, W], at its first token or, if causal, at its last that is not `PAD`."""
        places = self.places(tokens)
        if not self.causal:
            return places[:, 0]
        last = (tokens != PAD).sum(dim=1).sub(1).clamp(min=0)
        return places[torch.arange(len(tokens), device=tokens.device), last]


def transformer_layers(
    channels: int,
    width: int = 64,
    layers: int = 2,
    heads: int = 4,
    units: int = 256,
    attention: AttentionKind = "full",
    reads: Literal["both", "past"] = "both",
    block: int = 16,
    window: int = 3,
    random: int = 3,
    norm: Norm = "pre",
    dropout: float = 0.0,
    length: int = 128,
    words: int = 256,
) -> nn.Module:
    """The layers from token numbers [B, L] to features [B, width].

    Args:
        channels: Not used.
        width: Length of a token's vector.
        layers: Blocks of attention and two linear layers.
        heads: Attention heads.
        units: Units between the two linear layers of a block.
        attention: Which tokens a token reads; see `layers/attention.py`, also for the next four.
        reads: Tokens on both sides, or only earlier ones.
        block: Tokens in a block of a sparse pattern.
        window: Blocks in its window.
        random: Its random blocks.
        norm: Normalisation before or after each layer.
        dropout: Share of outputs that is set to 0 in training.
        length: Tokens of the longest sequence.
        words: Size of the largest vocabulary.
    """
    at_least_one(
        "transformer",
        width=width,
        layers=layers,
        heads=heads,
        units=units,
        length=length,
        words=words,
    )
    if not 0 <= dropout < 1:
        raise UserError(f"dropout of transformer is {dropout}; give 0 or more and below 1")
    embedding = nn.Embedding(words, width)
    initialise(embedding)
    # The initial weights' generator also decides the random blocks.
    seed = int(torch.randint(2**31, ()))
    causal = reads == "past"
    transformer = Transformer(
        width, layers, heads, units, length, attention=attention, causal=causal, block=block, window=window,
        random=random, norm=norm, dropout=dropout, seed=seed,
    )  # fmt: skip
    return TokenTransformer(embedding, transformer, causal=causal)


TRANSFORMER = Kind(transformer_layers, "anything")
