"""A transformer over the last inputs of an episode as a memory.

    y_t = Transformer(E x_1, ..., E x_t) at position t,   causal

The state is the inputs themselves, so that nothing in it becomes outdated when the weights of this network or of the encoder change. Once `length` inputs are
stored, the older half is dropped and the positions are counted from the oldest that remains. Between two such times every
output reads a longer prefix of the same sequence, and one causal pass gives all of them: a sequence of T steps costs
about 2 T positions instead of T `length`.

Transformer: Vaswani et al., 2017, https://arxiv.org/abs/1706.03762; in reinforcement learning Parisotto et al., 2020,
https://arxiv.org/abs/1910.06764. Big Bird: Zaheer et al., 2020, https://arxiv.org/abs/2007.14062; the causal form of its attention is
ours, see `layers.attention`. Its first block, which all later positions read, is the beginning of the episode until
inputs are dropped.

Differences from Parisotto et al.: no gates around the layers, and learned positions instead of relative ones.
"""

import torch
from torch import Tensor, nn

from rlbench.backbones.layers.transformer import Transformer
from rlbench.backbones.memories._base import Memory, forget
from rlbench.backbones.ranges import SIZE, within
from rlbench.interface import State


class _History(Memory):
    """A causal transformer over stored inputs."""

    def __init__(self, in_size: int, size: int, length: int, transformer: Transformer) -> None:
        """Stores up to `length` inputs of length `in_size`, D."""
        super().__init__()
        self.in_size, self.size, self.length = in_size, size, length
        self.dropped = length - length // 2
        """Number of inputs that are dropped at once."""
        self.embed = nn.Linear(in_size, size)
        self.transformer = transformer

    def initial_state(self, batch: int, device: torch.device) -> State:
        """See `Memory`; the first `count` rows of `inputs` are the last inputs, oldest first."""
        return {
            "inputs": torch.zeros(batch, self.length, self.in_size, device=device),
            "count": torch.zeros(batch, device=device),
        }

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """See `Memory`; a pass over all stored inputs."""
        out, state = self.unroll(x[None], state, torch.zeros_like(state["count"])[None])
        return out[0], state

    def unroll(self, x: Tensor, state: State, reset: Tensor) -> tuple[Tensor, State]:
        """See `Memory`; one pass over the inputs between two resets or times at which inputs are dropped."""
        steps, batch, _ = x.shape
        state = forget(state, reset[0])
        device, stored = x.device, state["count"].long()
        # Column b of the sequence: what was stored, in the first `length` rows, and then the new inputs.
        sequence = torch.cat([state["inputs"], x.transpose(0, 1)], dim=1)
        time = torch.arange(steps, device=device)[:, None]
        fresh = reset > 0
        begun = torch.where(fresh, time, 0).cummax(0).values
        # Of the inputs of its episode up to each step: their number, how many are dropped, and the row of the newest.
        before = torch.where(fresh.cumsum(0) - fresh[:1].long() > 0, 0, stored)
        total = time - begun + 1 + before
        gone = (total - self.length).clamp(min=0)
        gone = -(-gone // self.dropped) * self.dropped
        position = total - gone - 1
        # A pass begins with an episode, or when inputs are dropped.
        starts = (fresh | (gone != torch.cat([gone[:1], gone[:-1]]))).T
        starts[:, 0] = True
        number = starts.flatten().cumsum(0).view(batch, steps) - 1
        ends = torch.cat([starts[:, 1:], torch.ones_like(starts[:, :1])], dim=1)
        column, last = ends.nonzero(as_tuple=True)
        place = torch.arange(int(position.max()) + 1, device=device)
        within_episode = gone[last, column][:, None] + place
        old = before[last, column][:, None]
        new = self.length + begun[last, column][:, None] + within_episode - old
        row = torch.where(within_episode < old, within_episode, new)
        # Rows after the newest are arbitrary, because a causal pass does not read them for earlier ones.
        row = (column[:, None] * sequence.shape[1] + row).clamp(max=sequence[..., 0].numel() - 1)
        embedded = self.embed(sequence).flatten(0, 1)
        passed = self.transformer(
            embedded.index_select(0, row.flatten()).view(*row.shape, self.size)
        )
        where = number.T * len(place) + position
        out = passed.flatten(0, 1).index_select(0, where.flatten()).view(steps, batch, self.size)
        final = number[:, -1]
        count = position[-1] + 1
        kept = sequence.flatten(0, 1)[row[final]]
        kept = kept.masked_fill((place >= count[:, None])[..., None], 0.0)
        inputs = torch.zeros_like(state["inputs"])
        inputs[:, : len(place)] = kept
        return out, {"inputs": inputs, "count": count.to(x.dtype)}


class TransformerMemory(_History):
    """A causal transformer with full attention."""

    def __init__(
        self,
        in_size: int,
        size: int,
        *,
        length: int = 64,
        layers: int = 2,
        heads: int = 4,
        widening: int = 4,
    ) -> None:
        """From inputs of length `in_size` to outputs of length `size`.

        Args:
            in_size: Length of the inputs, D.
            size: Length of the transformer's vectors, W.
            length: Most inputs that it remembers.
            layers: Number of blocks.
            heads: Attention heads of each block.
            widening: Units between the two linear layers of a block, as a multiple of W.

        Raises:
            UserError: An option is out of range, or W is no multiple of `heads`.
        """
        within("transformer", SIZE, length=length, layers=layers, heads=heads, widening=widening)
        network = Transformer(size, layers, heads, widening * size, length, causal=True)
        super().__init__(in_size, size, length, network)


class BigBirdMemory(_History):
    """A causal transformer with Big Bird's sparse attention, for longer histories."""

    def __init__(
        self,
        in_size: int,
        size: int,
        *,
        length: int = 256,
        layers: int = 2,
        heads: int = 4,
        widening: int = 4,
        block: int = 16,
        window: int = 3,
        random: int = 3,
    ) -> None:
        """See `TransformerMemory`.

        Args:
            in_size: Length of the inputs, D.
            size: Length of the transformer's vectors, W.
            length: Most inputs that it remembers.
            layers: Number of blocks.
            heads: Attention heads of each block.
            widening: Units between the two linear layers of a block, as a multiple of W.
            block: Inputs in a block of the attention.
            window: Blocks that a block reads: itself and those before it.
            random: Earlier blocks that it also reads.

        Raises:
            UserError: An option is out of range, or W is no multiple of `heads`.
        """
        within("big-bird", SIZE, length=length, layers=layers, heads=heads, widening=widening)
        network = Transformer(
            size, layers, heads, widening * size, length, attention="big-bird", causal=True,
            block=block, window=window, random=random,
        )  # fmt: skip
        super().__init__(in_size, size, length, network)
