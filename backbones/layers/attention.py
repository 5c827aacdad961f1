"""Multi-head attention over a sequence, full or sparse.

    head_h(i) = sum over j in A_h(i) of softmax_j(q_i . k_j / sqrt(d)) v_j

A_h(i), the positions that position i reads, is the pattern. A sparse pattern cuts the sequence into blocks of b
positions, and each block of queries reads

    window      the `window` blocks around it
    big-bird    also `random` blocks, drawn for each head, and the global blocks: the first and the last, which
                read everything themselves (the paper's internal construction, ITC)
    etc         also the `random` blocks and one global block, the first, which holds b learned tokens that
                `layers.transformer` puts in front (the paper's extended construction, ETC)

Each query then has at most (window + random + 2) b keys, however long the sequence is. The fast form gathers them into one
array, so that its time and memory are linear in the length; the reference is full attention with a dense mask, which
is also faster if a query would gather as many keys as there are. Both give the same numbers.

Attention: Vaswani et al., 2017, https://arxiv.org/abs/1706.03762. Big Bird: Zaheer et al., 2020,
https://arxiv.org/abs/2007.14062; the blocks are chosen as in the authors' code (https://github.com/google-research/bigbird),
whose defaults are the defaults here.

Differences from the authors' code: there, the second block never draws the second-to-last one, nor vice versa. The
causal form is ours: position i reads no position after it, so that the window is the block itself and those before it, random blocks
are earlier ones, and only the first block is global.
"""

from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rlbench.errors import UserError

Kind = Literal["full", "window", "big-bird", "etc"]


@dataclass(frozen=True)
class Pattern:
    """The positions that each position reads."""

    kind: Kind = "full"
    causal: bool = False
    """Whether no position reads a later one."""
    block: int = 16
    """Positions in a block, b."""
    window: int = 3
    """Blocks in the window: around the block of the query, or in the causal form up to it."""
    random: int = 3
    """Random blocks of each block of queries."""

    def __post_init__(self) -> None:
        """Refuses sizes that do not make a pattern.

        Raises:
            UserError: There is no such pattern, or a size is out of range.
        """
        if self.kind not in get_args(Kind):
            raise UserError(
                f"there is no attention {self.kind!r}; give one of {', '.join(get_args(Kind))}"
            )
        if min(self.block, self.window) < 1 or self.random < 0:
            raise UserError(
                f"block, window and random are {self.block}, {self.window} and {self.random}; give whole numbers of at "
                "least 1, 1 and 0"
            )
        if not (self.causal or self.window % 2):
            raise UserError(f"window is {self.window}; give an odd number, or causal attention")

    def everyone(self, count: int) -> list[int]:
        """The global blocks of `count` blocks."""
        first = self.kind in ("big-bird", "etc")
        last = self.kind == "big-bird" and not self.causal and count > 1
        return [0] * first + [count - 1] * last

    def reads(self, count: int, ranks: Tensor) -> Tensor:
        """Whether a block of queries reads a block of keys, bool [H, count, count].

        Args:
            count: Number of blocks.
            ranks: Distinct random numbers below 1 for at least as many blocks, [H, N, N]; of the blocks that remain, a
                row reads those with the smallest numbers.
        """
        query, key = torch.meshgrid(*[torch.arange(count, device=ranks.device)] * 2, indexing="ij")
        past = key <= query if self.causal else torch.ones_like(key, dtype=torch.bool)
        if self.kind == "full":
            return past.expand(len(ranks), -1, -1)
        most = self.window - 1 if self.causal else self.window // 2
        near = (query - key).abs() <= most
        everyone = torch.zeros_like(near)
        everyone[:, self.everyone(count)] = True
        fixed = near | everyone
        drawn = torch.zeros(len(ranks), count, count, dtype=torch.bool, device=ranks.device)
        if self.kind != "window":
            free = ranks[:, :count, :count].masked_fill(fixed | ~past, 1.0)
            smallest, where = free.topk(min(self.random, count), largest=False)
            drawn = drawn.scatter(2, where, smallest < 1)
        return (fixed | everyone.T | drawn) & past


class Attention(nn.Module):
    """Multi-head attention of a sequence to itself."""

    ranks: Tensor

    def __init__(
        self,
        width: int,
        heads: int,
        max_length: int,
        pattern: Pattern | None = None,
        *,
        dropout: float = 0.0,
        seed: int = 0,
    ) -> None:
        """Draws the random blocks, which are saved with the weights.

        Args:
            width: Length of each position's vector, W.
            heads: Number of heads, H.
            max_length: Longest sequence.
            pattern: Full attention by default.
            dropout: Share of the attention weights that is set to 0 in training.
            seed: Decides the random blocks.

        Raises:
            UserError: `width` is not a multiple of `heads`.
        """
        super().__init__()
        if heads < 1 or width % heads:
            raise UserError(
                f"the width is {width} and the number of heads {heads}; give a width (of a memory: --memory-size) that is a "
                "multiple of the heads"
            )
        self.heads, self.dropout = heads, dropout
        self.pattern = Pattern() if pattern is None else pattern
        self.inputs = nn.Linear(width, 3 * width)
        self.outputs = nn.Linear(width, width)
        count = -(-max_length // self.pattern.block) if self.pattern.kind != "full" else 0
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.rand(heads, count, count, generator=generator)
        self.register_buffer("ranks", drawn)
        self._known: dict[Any, tuple[Tensor, ...]] = {}
        """Patterns by number of blocks and device; computed from `ranks`."""
        self.register_load_state_dict_post_hook(  # type: ignore[no-untyped-call]
            lambda module, _: module._known.clear()
        )

    def forward(self, x: Tensor, padding: Tensor | None = None) -> Tensor:
        """Outputs [B, L, W] of inputs [B, L, W].

        Args:
            x: A vector for each position.
            padding: True at positions that do not exist, bool [B, L]; nothing reads them. A position that
                has nothing to read receives zeros from the heads.
        """
        query, key, value = (
            part.unflatten(2, (self.heads, -1)).transpose(1, 2)
            for part in self.inputs(x).chunk(3, dim=-1)
        )
        if self.pattern.kind == "full" and padding is None:
            out = F.scaled_dot_product_attention(
                query, key, value, dropout_p=self._dropped, is_causal=self.pattern.causal
            )
        elif self._worth_gathering(x.shape[1]):
            out = self._gathered(query, key, value, padding)
        else:
            out = self._dense(query, key, value, padding)
        mixed: Tensor = self.outputs(out.transpose(1, 2).flatten(2))
        return mixed

    def weights(self, x: Tensor, padding: Tensor | None = None) -> Tensor:
        """Attention weights, softmax(q_i . k_j / sqrt(d)), [B, H, L, L], for inspection; `forward` does not use them.

        Args:
            x: As in `forward`.
            padding: As in `forward`. Rows of positions that have nothing to read are zeros.
        """
        query, key = (
            part.unflatten(2, (self.heads, -1)).transpose(1, 2)
            for part in self.inputs(x).chunk(3, dim=-1)[:2]
        )
        mask = self.mask(x.shape[1])[None]
        if padding is not None:
            mask = mask & ~padding[:, None, None]
        scores: Tensor = query @ key.transpose(2, 3) / query.shape[-1] ** 0.5
        return scores.masked_fill(~mask, -torch.inf).softmax(-1).nan_to_num(0.0)

    def mask(self, length: int) -> Tensor:
        """Whether a position reads another, bool [H, length, length]."""
        pattern, device = self.pattern, self.ranks.device
        if pattern.kind == "full":
            read = torch.ones(1, length, length, dtype=torch.bool, device=device)
        else:
            read = self._blocks_read(self._count(length))
            read = read.repeat_interleave(pattern.block, 1).repeat_interleave(pattern.block, 2)
        read = read[:, :length, :length]
        return read.tril() if pattern.causal else read

    @property
    def _dropped(self) -> float:
        return self.dropout if self.training else 0.0

    def _count(self, length: int) -> int:
        """Number of blocks of a sequence; the last may not be full."""
        return -(-length // self.pattern.block)

    def _most(self, count: int) -> int:
        """The largest number of blocks that a block of queries reads, unless it is global."""
        few = self.pattern.window + len(self.pattern.everyone(count))
        return min(count, few + (self.pattern.random if self.pattern.kind != "window" else 0))

    def _worth_gathering(self, length: int) -> bool:
        count = self._count(length)
        return self.pattern.kind != "full" and self._most(count) < count

    def _blocks_read(self, count: int) -> Tensor:
        """`Pattern.reads` of `count` blocks, bool [H, count, count]."""
        return self._pattern_of(count)[0]

    def _pattern_of(self, count: int) -> tuple[Tensor, ...]:
        """`_blocks_read` and, for each block of queries, which blocks it reads, int64 [H, count, most], and whether it does.

        Computed once; the blocks are in order, and some rows have fewer than others.
        """
        known = (count, self.ranks.device)
        if known not in self._known:
            read = self.pattern.reads(count, self.ranks)
            # True comes first.
            does, table = read.byte().sort(dim=-1, descending=True, stable=True)
            most = self._most(count)
            self._known[known] = (read, table[..., :most], does[..., :most] > 0)
        return self._known[known]

    def _dense(self, query: Tensor, key: Tensor, value: Tensor, padding: Tensor | None) -> Tensor:
        """The heads' outputs [B, H, L, d], computed with a mask for all pairs of positions."""
        mask = self.mask(query.shape[2])[None]
        if padding is not None:
            mask = mask & ~padding[:, None, None]
        return _attend(query, key, value, mask, self._dropped)

    def _gathered(
        self, query: Tensor, key: Tensor, value: Tensor, padding: Tensor | None
    ) -> Tensor:
        """The same as `_dense`, computed with the keys that each block of queries reads."""
        pattern, (batch, heads, length, _) = self.pattern, query.shape
        count, block = self._count(length), pattern.block
        extra = count * block - length
        query, key, value = (F.pad(x, (0, 0, 0, extra)) for x in (query, key, value))
        if padding is None:
            padding = torch.zeros(1, length, dtype=torch.bool, device=query.device)
        exists = ~F.pad(padding, (0, extra), value=True)
        # In the causal form the global block, which has none before it, reads only itself.
        everyone = [] if pattern.causal else pattern.everyone(count)
        begin, end = min(len(everyone), 1), count - max(len(everyone) - 1, 0)
        table, read = (x[:, begin:end] for x in self._pattern_of(count)[1:])
        rows = (table + count * torch.arange(heads, device=table.device)[:, None, None]).flatten()

        def gathered(x: Tensor) -> Tensor:
            """Keys or values of each block of queries, [B, H * blocks, keys, d]."""
            blocks = x.unflatten(2, (count, block)).flatten(1, 2)
            keys: Tensor = blocks.index_select(1, rows)
            return keys.view(batch, heads * (end - begin), -1, x.shape[-1])

        def reading_all(x: Tensor) -> Tensor:
            """The heads' outputs for global queries [B, H, block, d]."""
            return _attend(x, key, value, exists[:, None, None], self._dropped)

        # [B or 1, H, blocks, 1, keys]
        mask = exists.unflatten(1, (count, block))[:, table] & read[..., None]
        mask = mask.flatten(3)[..., None, :]
        if pattern.causal:
            within = torch.arange(block, device=table.device)
            at = (table[..., None] * block + within).flatten(2)
            now = torch.arange(begin * block, end * block, device=table.device).view(-1, block)
            mask = mask & (at[:, :, None] <= now[..., None])
        inner = query[:, :, begin * block : end * block]
        out = _attend(
            inner.unflatten(2, (-1, block)).flatten(1, 2),
            gathered(key),
            gathered(value),
            mask.flatten(1, 2),
            self._dropped,
        )
        parts = [out.view_as(inner)]
        if begin > 0:
            parts.insert(0, reading_all(query[:, :, :block]))
        if end < count:
            parts.append(reading_all(query[:, :, -block:]))
        return torch.cat(parts, dim=2)[:, :, :length]


def _attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, dropout: float) -> Tensor:
    """Attention to the keys where `mask` [..., queries or 1, keys] is True; zeros where it is nowhere."""
    some = mask.any(-1, keepdim=True)
    # A softmax over nothing would be NaN, also in the gradient.
    out = F.scaled_dot_product_attention(query, key, value, mask | ~some, dropout)
    return out.masked_fill(~some, 0.0)
