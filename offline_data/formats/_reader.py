"""Code shared by the readers of data files: the task that a file must fit, checks and repairs."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import Space, spaces
from numpy.typing import NDArray

from rlbench.envs.contract import is_images, made
from rlbench.envs.d4rl import names as d4rl_names
from rlbench.envs.episodes import step_limit
from rlbench.envs.tasks import Task
from rlbench.errors import UserError
from rlbench.offline_data.dataset import Columns
from rlbench.storage import Layout

Array = NDArray[Any]
Progress = Callable[[int, int], None]

READER_VERSION = 2
"""Raise this with every change that alters what is read from a file."""
BLOCK = 32_768
MOST_NUMBERS = 1 << 26
"""Rows, and numbers in them, held in memory at once."""
TOLERANCE = 1e-3
"""Largest distance of an action from the box that counts as a rounding error."""


@dataclass(frozen=True)
class World:
    """What a reader must know about the task of the data."""

    task: str
    observation_space: Space[Any]
    action_space: Space[Any]
    max_episode_steps: int | None
    score: Callable[[float], float | None] = field(repr=False)
    contacts: tuple[int, int] | None = None
    """First and last column of the contact forces that older MuJoCo versions left at 0; see `d4rl_names`."""

    @classmethod
    def of(cls, task: Task) -> "World":
        """Reads the properties of one environment of the task."""
        env = made(task.name, task.make)
        try:
            return cls(
                task.name,
                env.observation_space,
                env.action_space,
                step_limit(env),
                task.score,
                d4rl_names.CONTACTS.get(task.data.family) if task.data else None,
            )
        finally:
            env.close()

    @property
    def layout(self) -> Layout:
        """Layout of the rows; raises a UserError for spaces that data sets cannot hold."""
        obs, action = self.observation_space, self.action_space
        if not (isinstance(obs, spaces.Box) and isinstance(action, spaces.Box | spaces.Discrete)):
            raise UserError(
                f"{self.task} has the spaces {obs} and {action}; data sets hold only Box "
                "observations and Box or Discrete actions, so wrap the environment (for example in "
                "gymnasium.wrappers.FlattenObservation)"
            )
        return Layout(obs.shape, action.shape or (), is_images(obs))

    @property
    def block(self) -> int:
        """Rows held in memory at once; fewer for images."""
        return max(1, min(BLOCK, MOST_NUMBERS // self.layout.width))


def warn_of_limit(file: Path, repairs: Mapping[str, Any]) -> None:
    """Warns if terminals probably mark a step limit; see `probable_limit`."""
    if found := repairs.get("probable_limit_of_steps"):
        warnings.warn(
            f"{file}: {found['terminals']} episodes end with a terminal after exactly {found['steps']} "
            "steps and none is longer, so this is probably a step limit; if so, mark those rows as "
            "time-outs",
            stacklevel=3,
        )


_NAMES = ("observations", "actions", "rewards", "terminals", "timeouts", "next_observations")
"""Names of the columns in files."""


class Checker:
    """Checks every block of rows before it is stored, and makes the repairs that are safe."""

    def __init__(self, file: Path, world: World, ends: Array | None) -> None:
        """No rows are checked yet.

        Args:
            file: The file, for messages.
            world: The task that the rows must fit.
            ends: Whether a row is the last of its episode, bool [N]; None if next observations
                were not recorded.
        """
        self._file, self._world, self._layout = file, world, world.layout
        self._next = None if ends is None else _NextChecker(file, ends)
        self._clipped = 0
        self._furthest = 0.0
        self._contacts = world.contacts is None

    def check(self, rows: Array, first: int) -> None:
        """Checks the next rows; clips actions to the box in place.

        Args:
            rows: Packed rows, [n, width].
            first: Index of the first of them in the file, for messages.

        Raises:
            UserError: They hold NaN or infinity, or discrete actions outside the action space.
        """
        columns = Columns.of(rows, self._layout)
        if not np.isfinite(rows).all():
            row, place = np.argwhere(~np.isfinite(rows))[0]
            name = _NAMES[int(np.searchsorted(np.cumsum(self._layout.widths), place, "right"))]
            raise UserError(
                f"{self._file} holds NaN or infinity, first in row {first + row} of its {name}; "
                "remove such rows and try again"
            )
        space = self._world.action_space
        if isinstance(space, spaces.Discrete):
            self._check_choices(columns.action[:, 0], first, int(space.start), int(space.n))
        elif isinstance(space, spaces.Box):
            self._clip(columns.action, space.low.ravel(), space.high.ravel())
        if not self._contacts and self._world.contacts is not None:
            begin, end = self._world.contacts
            self._contacts = bool(columns.obs[:, begin : end + 1].any())
        if self._next is not None:
            self._next.check(columns.obs, columns.next_obs, first)

    def _check_choices(self, chosen: Array, first: int, start: int, count: int) -> None:
        """Refuses discrete actions [n] that are not whole numbers from `start` to `start + count - 1`."""
        wrong = (chosen < start) | (chosen >= start + count) | (chosen % 1 != 0)
        if wrong.any():
            row = int(wrong.argmax())
            raise UserError(
                f"{self._file} has the action {chosen[row]:g} in row {first + row}, but the actions "
                f"of the task {self._world.task} are the whole numbers from {start} to "
                f"{start + count - 1}; correct the file or give the task that it was recorded on"
            )

    def _clip(self, action: Array, low: Array, high: Array) -> None:
        excess = np.maximum(low - action, action - high)
        outside = excess > 0
        if outside.any():
            self._clipped += int(outside.any(axis=1).sum())
            self._furthest = max(self._furthest, float(excess.max()))
            np.clip(action, low, high, out=action)

    def findings(self) -> dict[str, Any]:
        """The findings, for the provenance; warns if more than rounding errors were clipped."""
        if self._furthest > TOLERANCE:
            warnings.warn(
                f"{self._file}: {self._clipped} actions were up to {self._furthest:.3g} outside the "
                "action space and were clipped to it",
                stacklevel=2,
            )
        found: dict[str, Any] = {}
        if self._clipped:
            found |= {"clipped_actions": self._clipped, "clipped_by_at_most": self._furthest}
        if not self._contacts:
            found["contact_forces"] = "missing"
        return found if self._next is None else found | self._next.findings()


class _NextChecker:
    """Compares recorded next observations with the rows around them; changes nothing.

    Environments that reset themselves at the end of an episode return the first observation of the
    next one. Some recorders substitute zeros, another constant or the current observation for a missing
    one.
    """

    def __init__(self, file: Path, ends: Array) -> None:
        self._file, self._ends = file, ends
        self._last: tuple[Array, Array] | None = None
        self._other_episode = self._zero = self._apart = 0
        self._still = np.zeros((2, 2), dtype=np.int64)
        """Rows by whether they end an episode, and whether their observation stays the same."""
        self._first_end: Array | None = None
        self._alike = 0

    def check(self, obs: Array, next_obs: Array, first: int) -> None:
        """Checks the next rows, [n, D]; the first of them is row `first`."""
        over = self._ends[first : first + len(obs)]
        self._zero += int((obs[over].any(axis=1) & ~next_obs[over].any(axis=1)).sum())
        still = (next_obs == obs).all(axis=1)
        np.add.at(self._still, (over.astype(int), still.astype(int)), 1)
        if over.any():
            if self._first_end is None:
                self._first_end = next_obs[over][0].copy()
            self._alike += int((next_obs[over] == self._first_end).all(axis=1).sum())
        self._compare(obs[:-1], next_obs[:-1], obs[1:], over[:-1])
        if self._last is not None:
            self._compare(*self._last, obs[:1], self._ends[first - 1 : first])
        self._last = obs[-1:].copy(), next_obs[-1:].copy()

    def _compare(self, obs: Array, next_obs: Array, following: Array, over: Array) -> None:
        """Compares rows with the rows that follow them, [n, D]."""
        same = (next_obs == following).all(axis=1)
        moved = (next_obs[over] != obs[over]).any(axis=1)
        self._other_episode += int((same[over] & moved).sum())
        self._apart += int((~same & ~over).sum())

    def findings(self) -> dict[str, Any]:
        """The findings, for the provenance; warns if the last next observation is wrong in most episodes."""
        wrong, count = self._other_episode + self._zero, int(self._ends.sum())
        if 2 * wrong > count:
            warnings.warn(
                f"{self._file}: the last next observation of {wrong} of {count} episodes is all zeros "
                "or the first observation of the next episode; unless that is true, remove "
                "next_observations from the file, and transitions at time-outs are left out",
                stacklevel=2,
            )
        (moving, still), (_, still_ends) = self._still.tolist()
        copied = still > 0 and moving == 0 and self._apart > 0
        found = {
            "next_obs_of_the_next_episode": self._other_episode,
            "next_obs_of_zeros": self._zero,
            "next_obs_copied": (still + still_ends) * copied,
            "next_obs_copied_at_ends": still_ends
            * (2 * still_ends > count and 10 * still < moving),
            "next_obs_alike_at_ends": count
            * (self._alike == count > 2 and not self._zero and still_ends < count),
            "next_obs_apart_from_the_next_row": self._apart * (not copied),
        }
        return {name: number for name, number in found.items() if number}
