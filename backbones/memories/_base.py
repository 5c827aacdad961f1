"""Memories of past observations, for tasks in which one observation does not determine the state."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from rlbench.interface import State


class Memory(nn.Module, ABC):
    """Reads a vector at each step; its state is a flat dict of batch-first tensors."""

    size: int
    """Length of its output, H."""

    def __init__(self) -> None:
        """Reads vectors directly; `make_memory` can give it an encoder."""
        super().__init__()
        self.reader: nn.Module = nn.Identity()

    def read(self, obs: Tensor, *others: Tensor) -> Tensor:
        """The vectors that it receives: features of observations [..., *obs_shape], and others [..., X]."""
        return torch.cat([self.reader(obs), *others], dim=-1)

    @abstractmethod
    def initial_state(self, batch: int, device: torch.device) -> State:
        """The state before the first step of an episode: zeros."""

    @abstractmethod
    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """One step: inputs [B, D] to outputs [B, H] and the state after it."""

    def unroll(self, x: Tensor, state: State, reset: Tensor) -> tuple[Tensor, State]:
        """Many steps.

        Args:
            x: Inputs, [T, B, D].
            state: State before the first step.
            reset: 1.0 where an episode begins, so that the memory is reset before the step, [T, B].

        Returns:
            Outputs, [T, B, H], and the state after the last step.
        """
        outputs = []
        for at, fresh in zip(x, reset, strict=True):
            state = forget(state, fresh)
            out, state = self.step(at, state)
            outputs.append(out)
        return torch.stack(outputs), state


def forget(state: State, fresh: Tensor) -> State:
    """The state with zeros where an episode begins; `fresh` [B] is above 0 there."""
    return {
        name: x.masked_fill((fresh > 0).reshape(-1, *[1] * (x.dim() - 1)), 0.0)
        for name, x in state.items()
    }
