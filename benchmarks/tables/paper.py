"""Declarations of a paper module: runs, published figures, claims.

A paper module holds one `PAPER`. Everything in it is data, except the claims, which are predicates
over results. `rlbench table NAME` does the rest.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from rlbench.benchmarks.tables.jobs import Job
from rlbench.benchmarks.tables.results import Results
from rlbench.benchmarks.training.analysing import AnalysisJob
from rlbench.benchmarks.training.config import RunConfig
from rlbench.benchmarks.training.run_folder import folder_name
from rlbench.trust import Trust, texts, with_names

Scale = Literal["small", "full"]


def run_name(method: str, task: str, seed: int) -> str:
    """Name of a run's folder within the folder of a table."""
    return folder_name(f"{method}-{task}-s{seed}")


@dataclass(frozen=True)
class Method:
    """A column of the table: a learner with settings."""

    name: str
    """Its name in the paper, such as BEAR-KL."""
    learner: str
    """As in `rlbench list`."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Settings that differ from the learner's preset for the task."""
    run: Mapping[str, Any] = field(default_factory=dict)
    """Fields of RunConfig that the grid does not set."""
    pretrained: tuple[str, str] | None = None
    """Method and task of an earlier grid whose encoder it starts from, seed by seed."""


@dataclass(frozen=True)
class Recording:
    """A task for models: what agents of earlier grids saw and did, recorded for each seed; see `rlbench data examples`."""

    name: str
    """Name of the task."""
    runs: tuple[tuple[str, str], ...]
    """Method and task of each agent."""
    size: int
    """Number of training examples."""
    clients: int = 0
    """Clients of federated learning to whom the examples belong; 0: there are none, and one agent."""

    def file(self, folder: Path, seed: int) -> Path:
        """The file of a seed in the folder of a table."""
        return folder / f"{folder_name(self.name)}-s{seed}.npz"

    def agents(self, folder: Path, seed: int) -> list[Path]:
        """Folders of the runs of the agents."""
        return [folder / run_name(*run, seed) for run in self.runs]


@dataclass(frozen=True)
class Grid:
    """Runs of equal length, in updates or in environment steps: methods x tasks x seeds."""

    methods: tuple[Method, ...]
    tasks: tuple[str, ...]
    seeds: int
    run: Mapping[str, Any]
    """Fields of RunConfig: updates, data_size, eval_every, ..."""
    steps: int | None = None
    """Environment steps of each run, if these give its length; then `updates` has it in updates."""
    updates: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """Updates by name of the method and task; all others have the `updates` of `run`."""
    recordings: tuple[Recording, ...] = ()
    """The tasks that earlier grids record."""

    @property
    def names(self) -> frozenset[str]:
        """Names of learners, tasks, settings and options of runs, all of which may be custom code."""
        of_methods = [(method.learner, *texts(method.settings)) for method in self.methods]
        return frozenset(self.tasks).union(texts(self.run), *of_methods)

    def jobs(self, folder: Path, trust: Trust = ()) -> Iterator[tuple[str, Job]]:
        """Each run with the name of its method; run folders are in `folder`.

        Args:
            folder: Where the run folders are.
            trust: Further names that they may import, or True for all; see `Job.trust`.
        """
        trust = with_names(trust, self.names)
        recordings = {recording.name: recording for recording in self.recordings}
        for task in self.tasks:
            for method in self.methods:
                for seed in range(self.seeds):
                    out = folder / run_name(method.name, task, seed)
                    run = {**method.run, **self.run}
                    if (method.name, task) in self.updates:
                        run["updates"] = self.updates[method.name, task]
                    if method.pretrained is not None:
                        run["pretrained"] = str(folder / run_name(*method.pretrained, seed))
                    recorded = task if task in recordings else ""
                    env = str(recordings[task].file(folder, seed)) if recorded else task
                    config = RunConfig(env=env, seed=seed, out=out, **run)
                    yield (
                        method.name,
                        Job(method.learner, method.settings, config, method.name, trust, recorded),
                    )


@dataclass(frozen=True)
class AnalysisGrid:
    """An analysis of the runs of a grid: one for each task and seed."""

    analysis: str
    """As in `rlbench list`."""
    methods: tuple[str, ...]
    """Names of the methods whose runs it needs, in order."""
    tasks: tuple[str, ...]
    seeds: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Settings that differ from the defaults."""
    neighbours: tuple[str, ...] = ()
    """Names of methods whose runs with the next seed follow; the first seed follows the last."""

    def jobs(self, folder: Path) -> Iterator[tuple[str, str, AnalysisJob]]:
        """Each analysis with its first method and its task; run folders are in `folder`."""
        for task in self.tasks:
            for seed in range(self.seeds):
                needed = [(method, seed) for method in self.methods]
                needed += [(method, (seed + 1) % self.seeds) for method in self.neighbours]
                runs = tuple(folder / run_name(method, task, number) for method, number in needed)
                yield self.methods[0], task, AnalysisJob(self.analysis, self.settings, runs)


@dataclass(frozen=True)
class Figure:
    """A published result, in the unit of the table."""

    method: str
    task: str
    """Task with the version of the data set, such as halfcheetah-medium-v0."""
    value: float
    std: float | None
    """Standard deviation over seeds, if it was published."""
    source: str
    """Publication or repository, and the setup of the runs."""


@dataclass(frozen=True)
class Verdict:
    """The verdict of our results on a claim."""

    holds: bool | None
    """None if the figures are only reported."""
    evidence: str
    """The deciding figures, in words."""


@dataclass(frozen=True)
class Claim:
    """A claim of a paper, and the criterion for it to hold in our results."""

    name: str
    """Short name, such as B1."""
    text: str
    """The claim, as in the paper."""
    criterion: str
    """The criterion, in words."""
    judge: Callable[[Results], Verdict]
    """The criterion over results; it may raise `Missing`."""
    scales: tuple[Scale, ...] = ("small", "full")
    """Scales at which it can be judged."""


@dataclass(frozen=True)
class Paper:
    """A paper with a reproducible table."""

    name: str
    """Name on the command line."""
    title: str
    reference: str
    """Authors, year, address."""
    method: str
    """The method that the paper proposes and with which the others are compared."""
    grids: Mapping[Scale, tuple[Grid, ...]]
    minutes: Mapping[Scale, float]
    """Measured or estimated time of the runs of a scale on two cores."""
    claims: tuple[Claim, ...]
    figures: tuple[Figure, ...] = ()
    analyses: Mapping[Scale, tuple[AnalysisGrid, ...]] = field(default_factory=dict)
    """Analyses of the runs."""
    notes: str = ""
    """Notes for readers of the table."""

    def names(self, scale: Scale) -> frozenset[str]:
        """Names of learners, tasks and settings of all grids of a scale."""
        return frozenset[str]().union(*(grid.names for grid in self.grids[scale]))

    def jobs(self, scale: Scale, folder: Path) -> list[tuple[str, Job]]:
        """All runs of a scale, each with the name of its method."""
        names = self.names(scale)
        return [job for grid in self.grids[scale] for job in grid.jobs(folder, names)]

    def stages(self, scale: Scale, folder: Path) -> list["Stage"]:
        """All runs of a scale in stages; a stage may need the runs of earlier stages."""
        stages = [Stage([], [])]
        for grid in self.grids[scale]:
            if grid.recordings or any(method.pretrained for method in grid.methods):
                stages.append(Stage([], []))
            stages[-1].jobs.extend(job for _, job in grid.jobs(folder, self.names(scale)))
            stages[-1].recordings.extend(
                (x, seed) for x in grid.recordings for seed in range(grid.seeds)
            )
        return stages

    def analysis_jobs(self, scale: Scale, folder: Path) -> list[tuple[str, str, AnalysisJob]]:
        """All analyses of a scale, each with its first method and its task."""
        return [job for grid in self.analyses.get(scale, ()) for job in grid.jobs(folder)]


@dataclass(frozen=True)
class Stage:
    """Runs that do not need each other."""

    recordings: list[tuple[Recording, int]]
    """The tasks that are recorded before them, each with a seed."""
    jobs: list[Job]
