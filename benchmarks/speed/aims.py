"""Targets for the speed of updates compared with other libraries.

Batch 256, hidden layers 256-256, peers' defaults, medians of one run. All libraries leave matrix products to the same few kernels, and the
share of an update that these take depends on the CPU. So a target never exceeds `SHARE` of the ratio that our products alone would reach. `--check`
fails if a ratio is below `SLACK` of its target: machines differ, but a larger loss should be noticed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median

SLACK = 0.7
SHARE = 0.95


@dataclass(frozen=True)
class Aim:
    """One target."""

    threads: int
    """Threads of each process; processes of `at-once` have one each."""
    agent: str
    peer: str
    """Name of the peer in the benchmark."""
    ratio: float
    subject: str = "rlbench"
    per_step: int = 1
    """Number of our updates in one update of the peer."""

    def reached(self, rates: Mapping[str, list[float]]) -> float | None:
        """Median over rounds of the ratio within a round; None if one was not measured."""
        return self._ratio(self.subject, rates)

    def limit(self, rates: Mapping[str, list[float]]) -> float | None:
        """The ratio that the matrix products of one process alone would reach."""
        return self._ratio("products", rates) if self.subject == "rlbench" else None

    def target(self, rates: Mapping[str, list[float]]) -> float:
        """The ratio to reach on this machine."""
        limit = self.limit(rates)
        return self.ratio if limit is None else min(self.ratio, SHARE * limit)

    def _ratio(self, subject: str, rates: Mapping[str, list[float]]) -> float | None:
        mine, theirs = (rates.get(f"{name} {self.agent}") for name in (subject, self.peer))
        if not mine or not theirs:
            return None
        return median(a / (b * self.per_step) for a, b in zip(mine, theirs, strict=True))


AIMS = (
    Aim(1, "td3-bc", "corl", 2.5),
    Aim(1, "td3-bc", "jax-corl", 1.15),
    Aim(1, "td3-bc", "unifloral", 1.0, per_step=2),
    Aim(2, "td3-bc", "corl", 2.0),
    Aim(2, "td3-bc", "corl", 3.4, subject="at-once 2"),
    Aim(1, "bear", "d3rlpy", 2.9),
    Aim(2, "bear", "d3rlpy", 3.2),
    Aim(1, "crr", "d3rlpy", 2.2),
    Aim(2, "crr", "d3rlpy", 2.5),
    Aim(1, "bcq", "d3rlpy", 3.5),
    Aim(1, "iql", "corl", 2.3),
    Aim(1, "iql", "unifloral", 0.9),
    Aim(1, "awac", "jax-corl", 1.0),
    Aim(1, "cql", "d3rlpy", 1.8),
    Aim(1, "bc", "unifloral", 1.0),
)
