"""Measures: named numbers per episode or example, by which a learner is scored. Standard library only."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Measure:
    """What a number of an evaluation means."""

    name: str
    unit: str = ""
    """Such as `nats`; empty for a plain number."""
    higher_is_better: bool = True

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> "Measure":
        """The measure that `dataclasses.asdict` made plain values of."""
        return cls(str(plain["name"]), str(plain["unit"]), bool(plain["higher_is_better"]))

    @property
    def title(self) -> str:
        """Name and unit, as above a column of a table."""
        return f"{self.name} ({self.unit})" if self.unit else self.name


RETURN = Measure("return")
"""Undiscounted return of an episode: what every agent is scored by."""
