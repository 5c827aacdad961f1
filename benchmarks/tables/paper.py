"""What a paper module declares: which runs, which published figures, which claims.

A paper module holds one `PAPER`. Everything in it is data, save the claims, which are predicates over
results. `rlbench table NAME` does the rest.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from rlbench.benchmarks.tables.jobs import Job
from rlbench.benchmarks.tables.results import Results
from rlbench.benchmarks.training.config import RunConfig
from rlbench.benchmarks.training.run_folder import folder_name

Scale = Literal["small", "full"]


@dataclass(frozen=True)
class Method:
    """A column of the table: a learner with settings."""

    name: str
    """What the paper calls it, such as BEAR-KL."""
    learner: str
    """As in `rlbench list`."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Where they differ from the learner's preset for the task."""
    run: Mapping[str, Any] = field(default_factory=dict)
    """Fields of RunConfig, where the grid says nothing of them."""


@dataclass(frozen=True)
class Grid:
    """Runs that share their lengths: methods x tasks x seeds."""

    methods: tuple[Method, ...]
    tasks: tuple[str, ...]
    seeds: int
    run: Mapping[str, Any]
    """Fields of RunConfig: updates, data_size, eval_every, ..."""

    def jobs(self, folder: Path) -> Iterator[tuple[str, Job]]:
        """Each run with the name of its method; run folders lie in `folder`."""
        for task in self.tasks:
            for method in self.methods:
                for seed in range(self.seeds):
                    out = folder / folder_name(f"{method.name}-{task}-s{seed}")
                    run = {**method.run, **self.run}
                    config = RunConfig(env=task, seed=seed, out=out, **run)
                    yield method.name, Job(method.learner, method.settings, config)


@dataclass(frozen=True)
class Figure:
    """A published result, in the unit of the table."""

    method: str
    task: str
    """With the version of the data set, such as halfcheetah-medium-v0."""
    value: float
    std: float | None
    """Standard deviation over seeds, where it was published."""
    source: str
    """Publication or repository, and what was run."""


@dataclass(frozen=True)
class Verdict:
    """What our results say of a claim."""

    holds: bool | None
    """None where the figures are only reported."""
    evidence: str
    """The figures that decide, in words."""


@dataclass(frozen=True)
class Claim:
    """Something that a paper says, and what our results must show for it to hold."""

    name: str
    """Short, such as B1."""
    text: str
    """What the paper says."""
    criterion: str
    """What must be seen, in words."""
    judge: Callable[[Results], Verdict]
    """The criterion over results; it may raise `Missing`."""
    scales: tuple[Scale, ...] = ("small", "full")
    """Where it can be judged."""


@dataclass(frozen=True)
class Paper:
    """A paper whose table can be made again."""

    name: str
    """On the command line."""
    title: str
    reference: str
    """Authors, year, address."""
    method: str
    """The method that the paper proposes, which the others are compared with."""
    grids: Mapping[Scale, tuple[Grid, ...]]
    minutes: Mapping[Scale, float]
    """What the runs of a scale took on two cores, or an estimate."""
    claims: tuple[Claim, ...]
    figures: tuple[Figure, ...] = ()
    notes: str = ""
    """What a reader of the table must know."""

    def jobs(self, scale: Scale, folder: Path) -> list[tuple[str, Job]]:
        """All runs of a scale, each with the name of its method."""
        return [job for grid in self.grids[scale] for job in grid.jobs(folder)]
