"""The interface of analyses, and what they find."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar
from warnings import catch_warnings, simplefilter

import numpy as np
from numpy.typing import NDArray

from rlbench.experience import Examples

Array = NDArray[Any]


@dataclass(frozen=True)
class Line:
    """A curve with a 95 % interval at each point."""

    name: str
    x: Sequence[float]
    value: Array
    """[K]."""
    low: Array
    high: Array


@dataclass(frozen=True)
class Panel:
    """Curves on common axes."""

    title: str
    x_label: str
    lines: Sequence[Line]


@dataclass(frozen=True)
class Findings:
    """What an analysis found."""

    numbers: Mapping[str, float]
    """The most important results."""
    panels: Sequence[Panel] = ()
    columns: Mapping[str, Array] = field(default_factory=dict)
    """Raw results for each example, [N, ...]."""


class Analysis(ABC):
    """A function of finished runs; a subclass sets `Config` and `runs`, and implements `analyse`."""

    Config: ClassVar[type]
    """Frozen dataclass of the settings."""
    runs: ClassVar[tuple[str, ...]]
    """What each of its runs is, in words."""

    history: Callable[[], Iterator[tuple[int, Any]]]
    """The first run's learner at each of its snapshots, with the number of updates; set before `analyse` is called."""

    def __init__(self, config: Any) -> None:
        """Stores the settings."""
        self.config = config

    @property
    def other_tasks(self) -> tuple[str, ...]:
        """Tasks, besides that of the runs, whose test examples are needed."""
        return ()

    @abstractmethod
    def analyse(self, learners: Sequence[Any], examples: Mapping[str, Examples]) -> Findings:
        """Analyses trained learners.

        Args:
            learners: One for each of `runs`, in evaluation mode.
            examples: Test examples by task: of the runs, and of `other_tasks`.

        Raises:
            UserError: The learners or the examples do not suit this analysis.
        """


def bootstrap(sums: Array, counts: Array, *, draws: int = 1_000) -> tuple[Array, Array, Array]:
    """Means with 95 % intervals from resampled examples; NaN where nothing was counted.

    Args:
        sums: Sums of each example, [N, ...].
        counts: Number of summands, of the same shape.
        draws: Number of resamples.

    Returns:
        Mean, lower and upper bound, [...] each.
    """
    rng = np.random.default_rng(0)
    picked = rng.multinomial(len(sums), np.full(len(sums), 1 / len(sums)), draws).astype(float)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = sums.sum(0) / counts.sum(0)
        drawn = np.tensordot(picked, sums, 1) / np.tensordot(picked, counts, 1)
    # Without any known value there is no interval, about which NumPy would warn.
    with np.errstate(invalid="ignore"), catch_warnings():
        simplefilter("ignore", RuntimeWarning)
        low, high = np.nanpercentile(drawn, [2.5, 97.5], axis=0)
    return mean, low, high
