"""Long short-term memory."""

import torch
from torch import Tensor, nn

from rlbench.backbones.memories._base import Memory
from rlbench.interface import State


class LSTM(Memory):
    """One layer of long short-term memory (Hochreiter & Schmidhuber, 1997)."""

    def __init__(self, in_size: int, size: int) -> None:
        """From inputs of length `in_size` to outputs of length `size`."""
        super().__init__()
        self.cell = nn.LSTMCell(in_size, size)
        self.size = size

    def initial_state(self, batch: int, device: torch.device) -> State:
        """See `Memory`."""
        return {name: torch.zeros(batch, self.size, device=device) for name in ("hidden", "cell")}

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """See `Memory`."""
        hidden, cell = self.cell(x, (state["hidden"], state["cell"]))
        return hidden, {"hidden": hidden, "cell": cell}
