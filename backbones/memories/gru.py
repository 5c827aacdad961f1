"""Gated recurrent units."""

import torch
from torch import Tensor, nn

from rlbench.backbones.memories._base import Memory
from rlbench.interface import State


class GRU(Memory):
    """One layer of gated recurrent units (Cho et al., 2014, https://arxiv.org/abs/1406.1078)."""

    def __init__(self, in_size: int, size: int) -> None:
        """From inputs of length `in_size` to outputs of length `size`."""
        super().__init__()
        self.cell = nn.GRUCell(in_size, size)
        self.size = size

    def initial_state(self, batch: int, device: torch.device) -> State:
        """See `Memory`."""
        return {"hidden": torch.zeros(batch, self.size, device=device)}

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """See `Memory`."""
        hidden = self.cell(x, state["hidden"])
        return hidden, {"hidden": hidden}
