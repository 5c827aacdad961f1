"""Memory-augmented neural network (MANN): an LSTM that binds vectors in a table and finds them by content.

At each step the LSTM reads the input and what it read from the table at the last step. For each of R heads it emits a key
k = tanh(...), a vector to write a = tanh(...) and a gate g = sigmoid(...):

    w_lu    one-hot at the least used slots of the last step: the i-th head writes to the i-th of them
    w_w = g w_r(t-1) + (1 - g) w_lu         a head writes to what it read last, or to a slot that is hardly used
    M = (M(t-1) with the least used slot emptied) + sum over heads of w_w a^T
    w_r = softmax(beta cos(k, M)),   r = w_r M
    w_u = gamma w_u(t-1) + sum of w_r + sum of w_w

Writing is by usage and reading by content (least recently used access, LRUA), so where a vector is stored does not depend on
what it holds. The choice of slots and their emptying have no gradient. The output is a linear layer of the LSTM's output and of all r.

Santoro et al., 2016, "Meta-learning with memory-augmented neural networks", http://proceedings.mlr.press/v48/santoro16.html; details as in
https://github.com/tristandeleu/ntm-one-shot, whose sizes are the defaults.

Differences from that code: the linear layer maps to the memory's output size and not to classes; initial weights are PyTorch's.
With beta = 1 the softmax over 128 slots is nearly flat, because cosines are at most 1; `sharpness=learned` is the
beta = 1 + softplus(...) of the neural Turing machine (Graves et al., 2014, https://arxiv.org/abs/1410.5401), not of this paper.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rlbench.backbones.memories._base import Memory
from rlbench.backbones.ranges import SHARE, SIZE, within
from rlbench.errors import UserError
from rlbench.interface import State

EMPTY = 1e-6
"""Initial value of the table."""


class MANN(Memory):
    """An LSTM with a table."""

    def __init__(
        self,
        in_size: int,
        size: int,
        *,
        slots: int = 128,
        width: int = 40,
        heads: int = 4,
        decay: float = 0.95,
        sharpness: Literal["none", "learned"] = "none",
    ) -> None:
        """From inputs of length `in_size` to outputs of length `size`.

        Args:
            in_size: Length of the inputs.
            size: Units of the LSTM, and length of the output.
            slots: Rows of the table, N.
            width: Length of a row, M.
            heads: Number of heads, R, each of which reads and writes.
            decay: gamma, of the usage.
            sharpness: Whether the softmax has a learned beta.

        Raises:
            UserError: An option is out of range.
        """
        super().__init__()
        within("mann", SIZE, slots=slots, width=width, heads=heads)
        within("mann", SHARE, decay=decay)
        if heads > slots:
            raise UserError(
                f"mann has {heads} heads and {slots} slots; give at least as many slots as heads"
            )
        self.size, self.decay = size, decay
        self.slots, self.width, self.heads = slots, width, heads
        self.cell = nn.LSTMCell(in_size + heads * width, size)
        self.keys = nn.Linear(size, heads * width)
        self.values = nn.Linear(size, heads * width)
        self.gates = nn.Linear(size, heads)
        self.sharpness = nn.Linear(size, heads) if sharpness == "learned" else None
        self.outputs = nn.Linear(size + heads * width, size)

    def initial_state(self, batch: int, device: torch.device) -> State:
        """See `Memory`; `step` replaces the table and the weights of an episode that has not begun."""
        shapes = {
            "hidden": (self.size,),
            "cell": (self.size,),
            "table": (self.slots, self.width),
            "weight": (self.heads, self.slots),
            "read": (self.heads * self.width,),
            "usage": (self.slots,),
            "begun": (),
        }
        return {name: torch.zeros(batch, *shape, device=device) for name, shape in shapes.items()}

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """See `Memory`."""
        fresh = state["begun"] == 0
        first = F.one_hot(torch.zeros_like(fresh, dtype=torch.long), self.slots).to(x.dtype)
        table = torch.where(fresh[:, None, None], EMPTY, state["table"])
        weight = torch.where(fresh[:, None, None], first[:, None], state["weight"])
        usage = torch.where(fresh[:, None], first, state["usage"])

        inputs = torch.cat([x, state["read"]], dim=-1)
        hidden, cell = self.cell(inputs, (state["hidden"], state["cell"]))
        key, value = (
            each(hidden).tanh().unflatten(1, (self.heads, self.width))
            for each in (self.keys, self.values)
        )
        gate = self.gates(hidden).sigmoid()[..., None]
        # A stable order, because at the start all slots but the first are equally used.
        least = usage.detach().sort(dim=1, stable=True).indices[:, : self.heads]
        unused = F.one_hot(least, self.slots).to(x.dtype)
        written = gate * weight + (1 - gate) * unused
        table = table * (1 - unused[:, 0, :, None]) + written.transpose(1, 2) @ value
        weight = (self._beta(hidden) * cosine(key, table)).softmax(-1)
        read = (weight @ table).flatten(1)
        usage = self.decay * usage + weight.sum(1) + written.sum(1)
        out = self.outputs(torch.cat([hidden, read], dim=-1))
        return out, {
            "hidden": hidden, "cell": cell, "table": table, "weight": weight, "read": read,
            "usage": usage, "begun": torch.ones_like(state["begun"]),
        }  # fmt: skip

    def _beta(self, hidden: Tensor) -> Tensor | float:
        """Sharpness of each head's softmax, [B, R, 1]."""
        if self.sharpness is None:
            return 1.0
        return 1 + F.softplus(self.sharpness(hidden))[..., None]


def cosine(key: Tensor, table: Tensor) -> Tensor:
    """Cosines of keys [B, R, M] and the rows of a table [B, N, M], [B, R, N]; near 0 for rows near 0."""
    squares = key.square().sum(-1)[:, :, None] * table.square().sum(-1)[:, None]
    return key @ table.transpose(1, 2) * (squares + 1e-6).rsqrt()
