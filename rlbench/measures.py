"""Measures: named numbers per episode or example, by which a learner is scored. Standard library only."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Measure:
    """The meaning of a number in an evaluation."""

    name: str
    unit: str = ""
    """Unit, such as `nats`; empty for a plain number."""
    higher_is_better: bool = True

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> "Measure":
        """The inverse of `dataclasses.asdict`."""
        return cls(str(plain["name"]), str(plain["unit"]), bool(plain["higher_is_better"]))

    @property
    def title(self) -> str:
        """Name and unit, as in the heading of a table."""
        return f"{self.name} ({self.unit})" if self.unit else self.name


RETURN = Measure("return")
"""Undiscounted return of an episode, the measure of every agent."""
