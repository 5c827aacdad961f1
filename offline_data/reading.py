"""What the readers of data files share: the world that a file must fit, checks and repairs."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import Space, spaces
from numpy.typing import NDArray

from rlbench.envs.tasks import Task
from rlbench.errors import UserError
from rlbench.offline_data.dataset import Columns
from rlbench.storage import Layout

Array = NDArray[Any]
Progress = Callable[[int, int], None]

READER_VERSION = 1
"""To be raised with every change that alters what is read from a file."""
BLOCK = 32_768
"""Rows in memory at once."""
TOLERANCE = 1e-3
"""How far outside the box an action may lie by rounding alone."""


@dataclass(frozen=True)
class World:
    """What a reader must know of the task whose data it reads."""

    task: str
    observation_space: Space[Any]
    action_space: Space[Any]
    max_episode_steps: int | None
    score: Callable[[float], float | None] = field(repr=False)

    @classmethod
    def of(cls, task: Task) -> "World":
        """Makes one environment of the task and looks at it."""
        env = task.make()
        try:
            limit = env.spec.max_episode_steps if env.spec else None
            return cls(task.name, env.observation_space, env.action_space, limit, task.score)
        finally:
            env.close()

    @property
    def layout(self) -> Layout:
        """Layout of the rows; a UserError for spaces that are no arrays."""
        obs, action = self.observation_space.shape, self.action_space.shape
        if obs is None or action is None:
            raise UserError(
                f"{self.task} has the spaces {self.observation_space} and {self.action_space}; "
                "data sets need arrays, so wrap the environment "
                "(gymnasium.wrappers.FlattenObservation)"
            )
        return Layout(obs, action)


_NAMES = ("observations", "actions", "rewards", "terminals", "timeouts", "next_observations")
"""What files call the columns of a row."""


class Checker:
    """Looks at every block of rows before it is stored, and puts right what is safe."""

    def __init__(self, file: Path, world: World) -> None:
        """Messages name `file`."""
        self._file, self._layout = file, world.layout
        box = world.action_space
        self._box = (box.low.ravel(), box.high.ravel()) if isinstance(box, spaces.Box) else None
        self._clipped = 0
        self._furthest = 0.0

    def check(self, rows: Array, first: int) -> None:
        """Refuses NaN and infinity in rows [n, width]; clips actions to the box in place.

        Args:
            rows: Packed rows.
            first: Where they stand in the file, for the message.
        """
        columns = Columns.of(rows, self._layout)
        if not np.isfinite(rows).all():
            row, place = np.argwhere(~np.isfinite(rows))[0]
            name = _NAMES[int(np.searchsorted(np.cumsum(self._layout.widths), place, "right"))]
            raise UserError(
                f"{self._file} holds NaN or infinity, first in row {first + row} of its {name}; "
                "remove such rows and try again"
            )
        if self._box is not None:
            low, high = self._box
            excess = np.maximum(low - columns.action, columns.action - high)
            outside = excess > 0
            if outside.any():
                self._clipped += int(outside.any(axis=1).sum())
                self._furthest = max(self._furthest, float(excess.max()))
                np.clip(columns.action, low, high, out=columns.action)

    def repairs(self) -> dict[str, Any]:
        """What was clipped, for the provenance; warns where it was more than rounding."""
        if self._furthest > TOLERANCE:
            warnings.warn(
                f"{self._file}: {self._clipped} actions lay up to {self._furthest:.3g} outside the "
                "action space and were clipped to it",
                stacklevel=2,
            )
        if not self._clipped:
            return {}
        return {"clipped_actions": self._clipped, "clipped_by_at_most": self._furthest}
