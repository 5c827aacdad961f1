"""Draws steps in proportion to their priorities, by a sum tree (Schaul et al., 2016, appendix B.2.1).

The leaves of a binary tree are the priorities, every other node is the sum of its two children. A draw descends
from the root to a leaf; drawing and changing a batch take one vectorised operation for each level.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class Priorities:
    """The priorities of the last `capacity` steps; a step that has not been drawn yet has the largest one so far."""

    def __init__(self, capacity: int) -> None:
        """No steps yet."""
        self._capacity = capacity
        self._levels = (capacity - 1).bit_length()
        self._width = 2**self._levels
        # The root is node 1, the children of node i are 2 i and 2 i + 1; the leaf of a step is its number mod capacity.
        self._nodes = np.zeros(2 * self._width)
        self._largest = 1.0
        self._steps = 0

    def draw(self, size: int, steps: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draws from the last `capacity` of `steps` steps: one from each of `size` equal parts of the total priority.

        Returns:
            Numbers of the steps, int64 [size], and how often each is drawn compared with uniform draws, [size].
        """
        new = np.arange(max(self._steps, steps - self._capacity), steps)
        self._set(new % self._capacity, np.full(len(new), self._largest))
        self._steps = steps
        drawn = torch.rand(size, generator=generator, dtype=torch.float64, device=generator.device)
        total = self._nodes[1]
        rest = (np.arange(size) + drawn.cpu().numpy()) / size * total
        node = np.ones(size, np.int64)
        for _ in range(self._levels):
            node *= 2
            left = self._nodes[node]
            # Rounding may make the rest reach the total of a subtree: never descend into an empty one.
            right = (rest >= left) & (self._nodes[node + 1] > 0)
            rest -= left * right
            node += right
        numbers = steps - 1 - (steps - 1 - (node - self._width)) % self._capacity
        frequency = min(steps, self._capacity) * self._nodes[node] / total
        return torch.from_numpy(numbers), torch.from_numpy(frequency.astype(np.float32))

    def update(self, steps: Tensor, priority: Tensor) -> None:
        """Changes the priorities of steps that were drawn, [B] each."""
        new = priority.cpu().numpy().astype(np.float64)
        self._largest = max(self._largest, float(new.max()))
        self._set(steps.numpy() % self._capacity, new)

    def _set(self, leaves: NDArray[Any], priority: NDArray[Any]) -> None:
        node = leaves + self._width
        self._nodes[node] = priority
        for _ in range(self._levels):
            node //= 2
            self._nodes[node] = self._nodes[2 * node] + self._nodes[2 * node + 1]

    def state_dict(self) -> dict[str, Any]:
        """The leaves, from which the sums follow, and two numbers."""
        leaves = self._nodes[self._width : self._width + self._capacity]
        return {
            "leaves": torch.from_numpy(leaves),
            "largest": self._largest,
            "steps": self._steps,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues from `state_dict`, with the same sums to the last bit."""
        self._largest, self._steps = float(state["largest"]), int(state["steps"])
        self._set(np.arange(self._capacity), state["leaves"].cpu().numpy())
