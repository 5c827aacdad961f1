"""The interface of analyses and of their results."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar
from warnings import catch_warnings, simplefilter

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

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
class Moments:
    """Steps of an agent: what it observed, and what was true."""

    obs: Tensor
    """Observations, [N, ...], in order of time."""
    state: Mapping[str, Tensor] | None
    """Recurrent states before the steps, [N, ...]; None if the agent has none."""
    facts: Mapping[str, Tensor]
    """Facts by name: classes, int64 [N], or numbers, [N]."""
    train: int
    """Number of the first rows, whole episodes, from which a probe may learn; the other rows are of other episodes."""


@dataclass(frozen=True)
class Findings:
    """Results of an analysis."""

    numbers: Mapping[str, float]
    """The main results."""
    panels: Sequence[Panel] = ()
    columns: Mapping[str, Array] = field(default_factory=dict)
    """Raw results for each example, [N, ...]."""
    files: Mapping[str, str | bytes] = field(default_factory=dict)
    """Contents of further files, by name."""


class Analysis(ABC):
    """An analysis of finished runs; a subclass sets `Config` and `runs`, and implements `analyse`."""

    Config: ClassVar[type]
    """Frozen dataclass of the settings."""
    runs: ClassVar[tuple[str, ...]]
    """Description of each run that the analysis needs, in words."""

    history: Callable[[], Iterator[tuple[int, Any]]]
    """The first run's learner at each of its snapshots, with the number of updates; set before `analyse` is called."""
    task: str
    """Name of the task of the runs; set before `analyse` is called."""
    play: Callable[..., Mapping[str, Array]]
    """Plays the first run's agent on a task for a number of episodes, with exploration noise if the third argument is true, and
    returns every measure, [E] values each; see `rlbench.benchmarks.training.playing.play` for the further arguments. With `run=1` the
    second run's learner plays, and so on. Set before `analyse` is called."""
    observations: Callable[[int], Tensor]
    """Observations of the first run's agent in its own episodes, in order, [N, ...]. Set before
    `analyse` is called, unless it is the run of a model."""
    moments: Callable[[int], Moments]
    """Steps of the first run's agent, with facts about its environment; half of the actions are random. Set before `analyse` is called, unless it is
    the run of a model."""
    untrained: Callable[[], Any]
    """Makes the first run's learner as it was before its training, in evaluation mode. Set before `analyse` is called."""
    environment: Callable[[], Any]
    """Makes an environment of the first run's task; set before `analyse` is called."""
    say: Callable[[str], object]
    """Call it with results that are known before the end of a long analysis, in words."""
    folders: Sequence[Path]
    """Folder of each run; set before `analyse` is called."""
    several: ClassVar[bool] = False
    """Whether more runs like the last of `runs` may follow."""
    agents: ClassVar[bool] = False
    """Whether the runs may be runs of agents."""

    def __init__(self, config: Any) -> None:
        """Stores the settings."""
        self.config = config
        self.say = lambda _: None

    @property
    def other_tasks(self) -> tuple[str, ...]:
        """Tasks whose test examples are needed, other than the task of the runs."""
        return ()

    @abstractmethod
    def analyse(self, learners: Sequence[Any], examples: Mapping[str, Examples]) -> Findings:
        """Analyses trained learners.

        Args:
            learners: One for each of `runs`, in evaluation mode.
            examples: Test examples by task: the task of the runs, then `other_tasks`; none for agents.

        Raises:
            UserError: The learners or the examples do not suit this analysis.
        """


def bootstrap(sums: Array, counts: Array, *, draws: int = 1_000) -> tuple[Array, Array, Array]:
    """Means with 95 % bootstrap intervals over examples; NaN if nothing was counted.

    Args:
        sums: Sums of each example, [N, ...].
        counts: Numbers of summands, [N, ...].
        draws: Number of resamples.

    Returns:
        Means, lower bounds and upper bounds, [...] each.
    """
    rng = np.random.default_rng(0)
    picked = rng.multinomial(len(sums), np.full(len(sums), 1 / len(sums)), draws).astype(float)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = sums.sum(0) / counts.sum(0)
        drawn = np.tensordot(picked, sums, 1) / np.tensordot(picked, counts, 1)
    # If nothing was counted, the bounds are NaN, about which NumPy would warn.
    with np.errstate(invalid="ignore"), catch_warnings():
        simplefilter("ignore", RuntimeWarning)
        low, high = np.nanpercentile(drawn, [2.5, 97.5], axis=0)
    return mean, low, high
