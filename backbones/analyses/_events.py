"""Events in recorded multi-agent episodes, and values of a signal around them.

A signal is an array [N, T, ...] with an entry for each step; an event is a step in which something happened.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlbench.entities import ACTIONS
from rlbench.errors import UserError
from rlbench.experience import Examples

Array = NDArray[Any]

BEFORE, AFTER = 6, 1
"""Numbers of steps before and after an event in its window."""
WINDOW = np.arange(-BEFORE, AFTER + 1)
EARLY, LATE = slice(0, 2), slice(3, 6)
"""Positions of the steps -6 and -5, and -3 to -1, in the window; see `rise`."""


class Sums(NamedTuple):
    """Sums over the events of each example, and numbers of summands; NaNs are left out."""

    sums: Array
    """[N, ...]."""
    counts: Array

    @classmethod
    def of(cls, values: Array, example: Array, examples: int) -> "Sums":
        """Sums of the values [M, ...] of M events by `example`, the number of each event's example, int64 [M]."""
        known = np.isfinite(values)
        sums, counts = (np.zeros((examples, *values.shape[1:])) for _ in range(2))
        np.add.at(sums, example, np.where(known, values, 0.0))
        np.add.at(counts, example, known)
        return cls(sums, counts)


@dataclass(frozen=True)
class Episodes:
    """N recorded episodes of T steps, as arrays."""

    obs: Array
    """Features of V nodes, [N, T, V, D]."""
    alive: Array
    """Steps before the end of the episode, bool [N, T]."""
    taken: Array
    """Which agent took which item, bool [N, T, A, S]."""

    @classmethod
    def of(cls, examples: Examples) -> "Episodes":
        """From recorded examples; see `rlbench.envs.examples.episodes`.

        Raises:
            UserError: They are not recorded episodes.
        """
        names = ("obs", "alive", "taken")
        if not set(names) <= set(examples.columns):
            raise UserError(
                f"the examples have the columns {', '.join(examples.columns)}, but this analysis needs recorded multi-agent "
                "episodes; give a run on a task such as episodes-coin"
            )
        obs, alive, taken = (examples[name].cpu().numpy() for name in names)
        return cls(obs, alive.astype(bool), taken.astype(bool))

    @property
    def agents(self) -> int:
        """Number of agents, A."""
        return int(self.taken.shape[2])

    @cached_property
    def distance(self) -> Array:
        """Manhattan distance in cells from each agent to each node, int64 [N, T, A, V]."""
        place = self.obs[..., :2]
        cell = np.diff(np.unique(place.round(4))).min()
        apart = np.abs(place[:, :, : self.agents, None] - place[:, :, None]).sum(-1)
        cells: Array = np.rint(apart / cell).astype(np.int64)
        return cells

    @cached_property
    def available(self) -> Array:
        """Which items can be taken, bool [N, T, S]."""
        found: Array = self.obs[:, :, self.agents :, -ACTIONS - 1] > 0
        return found

    @cached_property
    def types(self) -> Array:
        """Type of each item, int64 [S]."""
        kinds: Array = self.obs[0, 0, self.agents :, 4 : -ACTIONS - 1].argmax(-1)
        return kinds

    def soon(self, happens: Array) -> Array:
        """Whether an event happens in this step or one of the next six; `happens` and the result are bool [N, T, ...]."""
        found = happens.copy()
        for ahead in range(1, BEFORE + 1):
            found[:, :-ahead] |= happens[:, ahead:]
        return found

    def events(self, happens: Array) -> tuple[Array, ...]:
        """Indices of what happens, bool [N, T, ...], where the six steps before are known, int64 [M] each.

        With earlier events, the first points of a curve would be means over other events than the last ones.
        """
        late = np.arange(happens.shape[1]).reshape(-1, *(1,) * (happens.ndim - 2)) >= BEFORE
        return np.nonzero(happens & late)

    def around(self, signal: Array, example: Array, step: Array, *place: Array) -> Array:
        """A signal in the windows of M events, [M, 8]; NaN outside the episode.

        Args:
            signal: [N, T, ...].
            example: Example of each event, int64 [M].
            step: Step of each event, int64 [M].
            place: Indices of the other dimensions, int64 [M] each.
        """
        steps = step[:, None] + WINDOW
        inside = (steps >= 0) & (steps < self.alive.shape[1])
        steps = steps.clip(0, self.alive.shape[1] - 1)
        inside &= self.alive[example[:, None], steps]
        index = (example[:, None], steps, *(x[:, None] for x in place))
        return np.where(inside, signal[index], np.nan)


def rise(values: Array) -> Array:
    """Mean of the steps -3 to -1 minus the mean of the steps -6 and -5, [M], of values [M, 8]."""
    change: Array = values[:, LATE].mean(1) - values[:, EARLY].mean(1)
    return change


def usual(signal: Array, distance: Array, where: Array) -> Array:
    """Mean of a signal in the same step of an episode and at the same distance, of the shape of the signal.

    Args:
        signal: [N, T, ...].
        distance: Of the same shape, int64.
        where: Entries that the means include, bool of the same shape; a mean over no entries is NaN.
    """
    most = int(distance.max()) + 1
    step = np.arange(signal.shape[1]).reshape(-1, *(1,) * (signal.ndim - 2))
    place = step * most + distance
    bins = signal.shape[1] * most
    total = np.bincount(place[where], signal[where], bins)
    count = np.bincount(place[where], minlength=bins)
    with np.errstate(invalid="ignore"):
        means: Array = (total / count)[place]
    return means
