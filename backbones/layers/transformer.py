"""The transformer: blocks of attention and two linear layers over the positions of a sequence.

    x_0 = input + position
    x   = x + Attention(LN(x)),   x = x + W_2 gelu(W_1 LN(x))          pre-norm; a last LN follows the blocks
    x   = LN(x + Attention(x)),   x = LN(x + W_2 gelu(W_1 x))          post-norm; a first LN precedes the blocks

Vaswani et al., 2017, https://arxiv.org/abs/1706.03762; positions, GELU, initial weights and post-norm as in BERT (Devlin et al.,
2019, https://arxiv.org/abs/1810.04805) and Big Bird. Pre-norm (Xiong et al., 2020, https://arxiv.org/abs/2002.04745) is the
default, because small networks train more stably with it.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rlbench.backbones.layers.attention import Attention, Kind, Pattern
from rlbench.errors import UserError
from rlbench.seeding import derive

Norm = Literal["pre", "post"]
SPREAD = 0.02
"""Standard deviation of the initial weights, in BERT's code."""


class TransformerBlock(nn.Module):
    """Attention and two linear layers, each with a residual connection."""

    def __init__(
        self, attention: Attention, width: int, feed_forward: int, norm: Norm, dropout: float
    ) -> None:
        """For vectors of length `width`; see `Transformer`."""
        super().__init__()
        self.attention, self.pre = attention, norm == "pre"
        self.widen, self.narrow = nn.Linear(width, feed_forward), nn.Linear(feed_forward, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, padding: Tensor | None = None) -> Tensor:
        """Outputs [B, L, W] of inputs [B, L, W]; for `padding` see `Attention`."""
        attend, transform = self.norms
        if self.pre:
            x = x + self.dropout(self.attention(attend(x), padding))
            return x + self.dropout(self._transformed(transform(x)))  # type: ignore[no-any-return]
        x = attend(x + self.dropout(self.attention(x, padding)))
        out: Tensor = transform(x + self.dropout(self._transformed(x)))
        return out

    def weights(self, x: Tensor, padding: Tensor | None) -> Tensor:
        """See `Attention.weights`; for the block's inputs [B, L, W]."""
        return self.attention.weights(self.norms[0](x) if self.pre else x, padding)

    def _transformed(self, x: Tensor) -> Tensor:
        out: Tensor = self.narrow(F.gelu(self.widen(x)))
        return out


class Transformer(nn.Module):
    """A stack of blocks with learned positions, from vectors to vectors."""

    positions: Tensor

    def __init__(
        self,
        width: int,
        layers: int,
        heads: int,
        feed_forward: int,
        max_length: int,
        *,
        attention: Kind = "full",
        causal: bool = False,
        block: int = 16,
        window: int = 3,
        random: int = 3,
        norm: Norm = "pre",
        dropout: float = 0.0,
        seed: int = 0,
        positions: bool = True,
    ) -> None:
        """Initial weights are normal with standard deviation 0.02, truncated at two deviations; biases are 0.

        Args:
            width: Length of the vectors, W.
            layers: Number of blocks.
            heads: Attention heads of each block, of length W / heads.
            feed_forward: Units between the two linear layers.
            max_length: Longest sequence.
            attention: The pattern of the attention; see `layers.attention`, also for the next four.
            causal: Whether no position reads a later one.
            block: Positions in a block of a sparse pattern.
            window: Blocks in its window.
            random: Its random blocks.
            norm: LN before each layer, or after it as in BERT.
            dropout: Share of the attention weights and of each layer's outputs that is set to 0 in training.
            seed: Decides the random blocks of all layers.
            positions: Whether it learns a vector for each position; otherwise the inputs say where they are.

        Raises:
            UserError: The sizes do not fit each other.
        """
        super().__init__()
        pattern = Pattern(attention, causal, block, window, random)
        self.max_length, self.pre = max_length, norm == "pre"
        if positions:
            self.positions = nn.Parameter(torch.empty(max_length, width))
        else:
            self.register_buffer("positions", torch.zeros(1, width), persistent=False)
        extra = block if attention == "etc" else 0
        self.tokens = nn.Parameter(torch.empty(extra, width)) if extra else None
        self.blocks = nn.ModuleList(
            TransformerBlock(
                Attention(
                    width, heads, max_length + extra, pattern, dropout=dropout,
                    seed=derive(seed, "random blocks", layer),
                ),
                width, feed_forward, norm, dropout,
            )
            for layer in range(layers)
        )  # fmt: skip
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        initialise(self)

    def forward(self, x: Tensor, padding: Tensor | None = None) -> Tensor:
        """Outputs [B, L, W] of inputs [B, L, W], from each position and those that it reads.

        Args:
            x: A vector for each position; positions are added here.
            padding: True at positions that do not exist, bool [B, L]. Their outputs are meaningless.

        Raises:
            UserError: The sequence is longer than `max_length`.
        """
        x, padding = self._begin(x, padding)
        for block in self.blocks:
            x = block(x, padding)
        x = x[:, self._extra :]
        return self.norm(x) if self.pre else x

    def attention(self, x: Tensor, padding: Tensor | None = None) -> Tensor:
        """Attention weights of the last block, mean of its heads, [B, L, L], for inspection.

        The learned tokens of ETC are left out.

        Args:
            x: As in `forward`.
            padding: As in `forward`.
        """
        x, padding = self._begin(x, padding)
        for block in self.blocks[:-1]:
            x = block(x, padding)
        last = self.blocks[-1]
        assert isinstance(last, TransformerBlock)
        return last.weights(x, padding).mean(1)[:, self._extra :, self._extra :]

    @property
    def _extra(self) -> int:
        """Number of the learned tokens in front."""
        return 0 if self.tokens is None else len(self.tokens)

    def _begin(self, x: Tensor, padding: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """What the first block receives."""
        length = x.shape[1]
        if length > self.max_length:
            raise UserError(
                f"the sequence has {length} positions, but the transformer takes at most {self.max_length}; give it "
                "shorter sequences or a larger max_length"
            )
        x = x + self.positions[:length]
        if self.tokens is not None:
            x = torch.cat([self.tokens.expand(len(x), -1, -1), x], dim=1)
            padding = None if padding is None else F.pad(padding, (self._extra, 0))
        return self.dropout(x if self.pre else self.norm(x)), padding


def initialise(network: nn.Module) -> None:
    """Draws all matrices of a network from the truncated normal distribution of BERT's code; biases become 0."""
    for module in network.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.dim() > 1:
                nn.init.trunc_normal_(parameter, std=SPREAD, a=-2 * SPREAD, b=2 * SPREAD)
            elif name == "bias":
                nn.init.zeros_(parameter)
