"""A transformer over sequences of tokens.

    x_i = E[token_i],   y = Transformer(x),   features = mean of y_i over all tokens but the padding

It reads both sides of each token, as in BERT (Devlin et al., 2019, https://arxiv.org/abs/1810.04805); with `reads=past` a
token reads only itself and earlier ones. With `pool=token` a single token, which has read all others, gives the features: the
first one, [CLS], as in BERT, or with `reads=past` the last one. This is useful only if the training had a loss at that token;
predicting hidden words has none there. `attention=big-bird` and others are the sparse patterns of `layers/attention.py` for long
sequences.

An observation is a row of token numbers, see `rlbench.sequences`. The default sizes are for vocabularies of a few dozen
words. BERT's base model has a width of 768, 12 layers, 12 heads, 3,072 units, post-norm and dropout 0.1.
"""

from typing import Literal

import torch
from torch import Tensor

from rlbench.backbones.encoders._base import Kind, at_least_one
from rlbench.backbones.encoders.tokens import TokenLayers, at
from rlbench.backbones.layers.attention import Kind as AttentionKind
from rlbench.backbones.layers.transformer import Norm, Transformer, initialise
from rlbench.errors import UserError
from rlbench.sequences import PAD, TokenSequence


class TokenTransformer(TokenLayers):
    """A transformer over embeddings of tokens."""

    def __init__(
        self,
        space: TokenSequence,
        width: int = 64,
        layers: int = 2,
        heads: int = 4,
        units: int = 256,
        attention: AttentionKind = "full",
        reads: Literal["both", "past"] = "both",
        pool: Literal["mean", "token"] = "mean",
        block: int = 16,
        window: int = 3,
        random: int = 3,
        norm: Norm = "pre",
        dropout: float = 0.0,
        length: int = 128,
    ) -> None:
        """For sequences of a space.

        Args:
            space: The space of the sequences.
            width: Length of a token's vector, W.
            layers: Blocks of attention and two linear layers.
            heads: Attention heads.
            units: Units between the two linear layers of a block.
            attention: Which tokens a token reads; see `layers/attention.py`, also for the next four.
            reads: Tokens on both sides, or only earlier ones.
            pool: The features are the mean over all tokens, or come from the one token that has read all others.
            block: Tokens in a block of a sparse pattern.
            window: Blocks in its window.
            random: Its random blocks.
            norm: Normalisation before or after each layer.
            dropout: Share of outputs that is set to 0 in training.
            length: Number of learned positions, at least as many as the sequences have tokens: an encoder can be pretrained on
                sequences of another length with the same `length`.

        Raises:
            UserError: An option is out of range.
        """
        super().__init__(space, width)
        at_least_one(
            "transformer", layers=layers, heads=heads, units=units, length=length
        )  # fmt: skip
        if not 0 <= dropout < 1:
            raise UserError(f"dropout of transformer is {dropout}; give 0 or more and below 1")
        initialise(self.embedding)
        # The initial weights' generator also decides the random blocks.
        seed = int(torch.randint(2**31, ()))
        self.pool = pool
        self.causal, self.sparse = reads == "past", attention != "full"
        self.transformer = Transformer(
            width, layers, heads, units, max(length, space.shape[0]), attention=attention, causal=self.causal,
            block=block, window=window, random=random, norm=norm, dropout=dropout, seed=seed,
        )  # fmt: skip

    @property
    def trims(self) -> bool:
        """See `TokenLayers`; the blocks of a sparse pattern depend on the length."""
        return not self.sparse

    def places(self, tokens: Tensor) -> Tensor:
        """Features of every place, [B, L, W], of tokens [B, L]; meaningless where the token is `PAD`."""
        tokens = tokens.long()
        features: Tensor = self.transformer(self.embedding(tokens), tokens == PAD)
        return features

    def attention(self, tokens: Tensor) -> Tensor:
        """Attention weights of the last layer, mean of its heads, [B, L, L], for tokens [B, L]."""
        tokens = tokens.long()
        return self.transformer.attention(self.embedding(tokens), tokens == PAD)

    def read(self, tokens: Tensor, length: Tensor) -> Tensor:
        """The mean of the places that are not `PAD`, or the first place or, if it reads the past only, the last one."""
        places = self.places(tokens)
        if self.pool == "mean":
            kept = (tokens != PAD).to(places.dtype)[..., None]
            return (places * kept).sum(1) / kept.sum(1).clamp(min=1)
        return at(places, length - 1 if self.causal else torch.zeros_like(length))


TRANSFORMER = Kind(TokenTransformer, "tokens")
