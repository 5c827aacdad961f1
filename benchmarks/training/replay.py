"""A replay buffer in a memory-mapped file, so that a checkpoint need not copy it."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rlbench.experience import Transitions
from rlbench.files import explaining_os_errors
from rlbench.storage import Layout, TransitionTable


class ReplayFile:
    """The last `capacity` of the transitions written; position in the file = step mod size."""

    def __init__(self, path: Path, layout: Layout, capacity: int, slack: int) -> None:
        """Opens the file, or makes one with room for capacity + slack transitions."""
        self.path = path
        self.capacity = capacity
        self.size = capacity + slack
        shape = (self.size, layout.width)
        length = self.size * layout.width * 4
        with explaining_os_errors(path):
            self.fresh = not path.exists() or path.stat().st_size != length
            """The file was made just now: there is nothing to resume from."""
            if self.fresh:
                _reserve(path, length)
            self._rows = np.memmap(path, np.float32, "r+", shape=shape)
        self._table = TransitionTable(torch.from_numpy(self._rows), layout)
        self._offsets = np.cumsum((0, *layout.widths))

    def write(
        self, step: int, obs: Any, action: Any, reward: float, terminated: bool,
        truncated: bool, next_obs: Any,
    ) -> None:  # fmt: skip
        """Writes the transition of environment step `step`, counted from 0."""
        row = self._rows[step % self.size]
        _, a, r, _, _, n, end = self._offsets
        row[:a] = np.ravel(obs)
        row[a:r] = np.ravel(action)
        row[r : r + 3] = reward, terminated, truncated
        row[n:end] = np.ravel(next_obs)

    def sample(
        self, size: int, steps: int, generator: torch.Generator, device: torch.device
    ) -> Transitions:
        """`size` transitions, uniformly from the last `capacity` of `steps` steps."""
        ages = torch.randint(
            min(steps, self.capacity), (size,), generator=generator, device=generator.device
        )
        rows = self._table.rows.index_select(0, ((steps - 1 - ages) % self.size).cpu())
        return self._table.layout.unpack(rows.to(device))

    def outcome(self, step: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Action of a step, and the observation it led to."""
        row = self._rows[step % self.size]
        _, a, r, _, _, n, end = self._offsets
        layout = self._table.layout
        return (
            row[a:r].copy().reshape(layout.action_shape),
            row[n:end].copy().reshape(layout.obs_shape),
        )

    def flush(self) -> None:
        """Forces the content to disk."""
        self._rows.flush()


def _reserve(path: Path, length: int) -> None:
    """Makes a file whose blocks all exist: a full disk shows now and not as a crash later."""
    with path.open("wb") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, length)
        else:
            file.truncate(length)
