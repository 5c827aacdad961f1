"""Pairs of observations of one episode, a few steps apart: which observation comes after this one?

    obs        an observation
    next_obs   the observation four steps later

Actions are uniformly random. Every pair is from an episode of its own, after up to `LONGEST_LEAD` steps (see `moment_sets`); training and
tests have different episodes.
"""

from collections.abc import Mapping
from typing import Any

from gymnasium import Space

from rlbench.envs.examples._base import Array, Split
from rlbench.envs.examples.moment_sets import MomentSets

APART = 4
"""Steps between both observations."""


class MomentPairs(MomentSets):
    """Pairs of observations; see the module."""

    @property
    def fields(self) -> Mapping[str, Space[Any]]:
        """See `Source`."""
        return {"obs": self._seen, "next_obs": self._seen}

    @property
    def sizes(self) -> Mapping[Split, int]:
        """See `Source`."""
        return {"train": 2_000, "test": 400}

    def sample(self, split: Split, size: int, seed: int) -> Mapping[str, Array]:
        """See `Source`."""
        sets = self._moments(split, size, seed)
        return {"obs": sets[:, 0], "next_obs": sets[:, APART]}
