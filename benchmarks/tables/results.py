"""Results of finished runs by method and task: the last evaluation and the logged metrics."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlbench.benchmarks.tables.methods import differences, identities, refuse_repeats
from rlbench.benchmarks.training.analysing import Analysed
from rlbench.benchmarks.training.formats import HELD_OUT, TRAIN, measures_of
from rlbench.benchmarks.training.run_folder import RunFolder
from rlbench.errors import UserError
from rlbench.measures import Measure
from rlbench.trust import Trust

Array = NDArray[np.float64]

LAST_LINES = 5
"""Number of lines of metrics.jsonl over which a metric is averaged: one line is one batch."""


class Missing(Exception):
    """A claim needs results that are missing."""


@dataclass(frozen=True)
class Result:
    """A complete run."""

    method: str
    task: str
    seed: int
    folder: Path
    config: dict[str, Any]
    """Its config.json."""
    columns: dict[str, NDArray[Any]]
    """Every measure of the last evaluation, [E, ...] each; see `RunFolder.evaluations`."""
    seconds: float
    """Duration of the run."""

    @property
    def headline(self) -> Measure:
        """The measure that the run is scored on."""
        return measures_of(self.config)[0]

    def mean(self, name: str, prefix: str = "") -> float:
        """Mean of a measure over the episodes or examples of the last evaluation.

        Args:
            name: Such as `return` or `accuracy`.
            prefix: `held_out/` or `train/` for other episodes or examples.

        Raises:
            Missing: The run has no such measure.
        """
        if prefix + name not in self.columns:
            where = {HELD_OUT: " on held-out levels", TRAIN: " on training examples"}.get(
                prefix, ""
            )
            raise Missing(f"{self.method} on {self.task} has no measure {name!r}{where}")
        return float(self.columns[prefix + name].mean())

    @property
    def count(self) -> int:
        """Episodes or examples of the last evaluation."""
        # A measure of all examples at once has one row.
        names = (measure.name for measure in measures_of(self.config))
        return max(len(self.columns[name]) for name in names if name in self.columns)

    @property
    def score(self) -> float:
        """Score of the last evaluation: the headline measure, normalised as in D4RL if possible."""
        return self.score_of(self.mean(self.headline.name))

    def score_of(self, mean: float) -> float:
        """D4RL-normalised score of a mean return; the mean itself if there is no score."""
        reference = self.config["reference_returns"]
        if reference is None:
            return mean
        low, high = map(float, reference)
        return 100 * (mean - low) / (high - low)

    @property
    def has_held_out(self) -> bool:
        """Whether the run was also evaluated on held-out levels."""
        return HELD_OUT + self.headline.name in self.columns

    @property
    def held_out_score(self) -> float:
        """Score of the last evaluation on the held-out levels.

        Raises:
            Missing: The task has none.
        """
        if not self.has_held_out:
            raise Missing(f"{self.task} has no held-out levels")
        return self.score_of(self.mean(self.headline.name, HELD_OUT))

    @property
    def data_kind(self) -> str:
        """generated, d4rl, minari, file, or online."""
        return self.config["data"]["kind"] if self.config["data"] else "online"

    @property
    def behaviour_score(self) -> float:
        """Score of the policies that recorded the data.

        Raises:
            Missing: There are no data, or their score is not recorded.
        """
        data = self.config.get("data")
        score = data["details"].get("score") if data else None
        if score is None:
            raise Missing(f"the score of the policies behind the data of {self.task} is not known")
        return float(score)


def read_result(method: str, folder: Path, recorded: str = "") -> Result:
    """The result of a complete run.

    Args:
        method: Name of the method.
        folder: Folder of the run.
        recorded: See `Job.recorded`.

    Raises:
        UserError: The folder holds no complete run, or something in it is damaged.
    """
    run = RunFolder(folder)
    config = run.config()
    if not run.complete():
        raise UserError(
            f"{folder} is not complete; finish it with `rlbench run --resume {quote(str(folder))}`"
        )
    run.refuse_changed_files()
    columns = run.last_evaluation()
    headline = measures_of(config)[0].name
    if headline not in columns:
        raise UserError(f"{folder / 'measures.npz'} lacks {headline!r}; restore it from a backup")
    if not all(np.isfinite(x).all() for x in columns.values() if x.dtype.kind == "f"):
        raise UserError(
            f"the last evaluation in {folder} has values that are NaN or infinite, so it has no "
            "mean; move the folder away, find the cause and run that seed again"
        )
    if recorded:
        config["run"]["env"] = recorded
        config["data"]["details"]["seeded"] = True
    task, seed = config["run"]["env"], config["run"]["seed"]
    return Result(method, task, seed, folder, config, columns, run.seconds())


class Results:
    """Results of many runs; methods and tasks keep their order."""

    def __init__(
        self,
        results: Iterable[Result],
        analyses: Iterable[tuple[str, str, Analysed]] = (),
        *,
        trust: Trust = False,
    ) -> None:
        """Groups them by method and task, seeds in order.

        Args:
            results: The runs.
            analyses: Analyses of them, with the method of the first run and the task, seeds in order.
            trust: See `rlbench.benchmarks.tables.methods.identities`.

        Raises:
            UserError: Runs of one method and task differ in more than the seed, or have the same seed.
        """
        self.all = sorted(results, key=lambda result: result.seed)
        keys = [(result.method, result.task, result.seed) for result in self.all]
        self._groups: dict[tuple[str, str], list[Result]] = {}
        for result in self.all:
            self._groups.setdefault((result.method, result.task), []).append(result)
        for group in self._groups.values():
            _refuse_mixture(group, trust)
        refuse_repeats(keys, [result.folder for result in self.all])
        self._analyses = list(analyses)

    def analysed(self, name: str, method: str, task: str) -> list[Analysed]:
        """The analyses of a name of a method on a task, one for each seed.

        Raises:
            Missing: There is none.
        """
        found = [x for *at, x in self._analyses if (x.name, *at) == (name, method, task)]
        if not found:
            raise Missing(f"the analysis {name} of {method} on {task} has not been made")
        return found

    def of(self, method: str, task: str) -> list[Result]:
        """The seeds of a method on a task; empty if there are none."""
        return self._groups.get((method, task), [])

    def scores(self, method: str, task: str) -> Array:
        """Score of each seed, [R].

        Raises:
            Missing: There is none.
        """
        found = self._found(method, task)
        return np.array([result.score for result in found])

    def held_out(self, method: str, task: str) -> Array:
        """Score of each seed on the held-out levels, [R].

        Raises:
            Missing: There is none.
        """
        return np.array([result.held_out_score for result in self._found(method, task)])

    def paired(
        self,
        methods: Sequence[str],
        task: str,
        measure: Callable[[Result], float] = attrgetter("score"),
    ) -> Array:
        """A measure of M methods on the R seeds that they share, [M, R].

        Raises:
            Missing: One of them has not been run, or they share fewer than two seeds.
        """
        runs = [{run.seed: run for run in self._found(method, task)} for method in methods]
        seeds = sorted(set.intersection(*map(set, runs)))
        if len(seeds) < 2:
            raise Missing(
                f"{', '.join(methods)} share {len(seeds)} of their seeds on {task}; a paired "
                "comparison needs 2 or more"
            )
        return np.array([[measure(of[seed]) for seed in seeds] for of in runs])

    def means(self, method: str, task: str, name: str, prefix: str = "") -> Array:
        """Mean of a measure in the last evaluation of each seed, [R]; see `Result.mean`.

        Raises:
            Missing: There is none.
        """
        return np.array([result.mean(name, prefix) for result in self._found(method, task)])

    def metric(self, method: str, task: str, name: str) -> Array:
        """A logged metric of each seed at the end of its training, [R].

        Raises:
            Missing: There is none.
            UserError: A line of a run's metrics.jsonl is damaged.
        """
        found = self._found(method, task)
        return np.array([_last_metric(result.folder / "metrics.jsonl", name) for result in found])

    def matrix(self, method: str, tasks: Sequence[str]) -> Array:
        """Scores of seeds on tasks, [R, T], for the seeds that all tasks have.

        Raises:
            Missing: A task has no result, or no seed has been run on all of them.
        """
        columns = [{x.seed: x.score for x in self._found(method, task)} for task in tasks]
        seeds = sorted(set.intersection(*(set(column) for column in columns)))
        if not seeds:
            raise Missing(f"no seed of {method} has been run on all of {', '.join(tasks)}")
        return np.array([[column[seed] for column in columns] for seed in seeds])

    def _found(self, method: str, task: str) -> list[Result]:
        found = self.of(method, task)
        if not found:
            raise Missing(f"{method} has not been run on {task}")
        return found


def _refuse_mixture(group: Sequence[Result], trust: Trust) -> None:
    """Refuses runs of a method on a task that differ in more than the seed."""
    first, *others = identities([result.config for result in group], trust)
    for result, identity in zip(group[1:], others, strict=True):
        if changed := differences(first, identity):
            changes = ", ".join(
                f"{name} is {first.get(name)} and {identity.get(name)}" for name in sorted(changed)
            )
            raise UserError(
                f"{group[0].folder} and {result.folder} are not seeds of one method, {result.method} on "
                f"{result.task}: {changes}; move one of them away"
            )


def _last_metric(file: Path, name: str) -> float:
    try:
        lines = file.read_bytes().splitlines()[-LAST_LINES:]
        return float(np.mean([json.loads(line)[name] for line in lines]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{file} is damaged or lacks {name} ({type(error).__name__}: {error}); move its run "
            "folder away and make the table again"
        ) from None
