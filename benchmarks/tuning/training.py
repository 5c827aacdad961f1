"""The runs of a study: jobs as in a sweep, trained stage by stage, and the means of their evaluations."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from rlbench.benchmarks.tables.executors import RunJobs
from rlbench.benchmarks.tables.jobs import Job, Outcome as JobOutcome, unfinished
from rlbench.benchmarks.tables.paper import Grid
from rlbench.benchmarks.tables.sweep import in_updates, method_of
from rlbench.benchmarks.training.run_folder import RunFolder
from rlbench.benchmarks.tuning.description import Description
from rlbench.benchmarks.tuning.study import Outcome, Trial
from rlbench.errors import UserError

STAGES = 4
"""Most stages of a trial."""


def stage_ends(updates: int, eval_every: int, stages: int = STAGES) -> list[int]:
    """Updates at which the stages of a run end: evaluations, as evenly spaced as they allow.

    >>> stage_ends(1000, 100), stage_ends(1000, 400), stage_ends(1000, 0)
    ([300, 500, 800, 1000], [400, 800, 1000], [1000])
    """
    points = [*range(eval_every, updates, eval_every), updates] if eval_every else [updates]
    count = min(stages, len(points))
    return [points[math.ceil(n * len(points) / count) - 1] for n in range(1, count + 1)]


class Training:
    """Trains the trials of a study; see `rlbench.benchmarks.tuning.study.Train`."""

    def __init__(self, study: Description, folder: Path, run: RunJobs, *, trust: bool) -> None:
        """Trains in `folder`, whose run folders are named after the trials, by calls of `run`."""
        self._study, self._folder, self._run, self._trust = study, folder, run, trust
        self._grids: dict[int, Grid] = {}

    def __call__(self, asked: Sequence[tuple[Trial, int]]) -> list[Outcome]:
        """Trains each trial to the end of a stage."""
        groups = [self._to_stage(trial, stage) for trial, stage in asked]
        left = unfinished([job for group in groups if isinstance(group, list) for job in group])
        failed: dict[Path, str] = {}

        def report(outcome: JobOutcome) -> None:
            if outcome.error:
                failed[outcome.job.folder] = outcome.error

        if left:
            self._run(left, report)
        return [x if isinstance(x, str) else self._outcome(x, failed) for x in groups]

    def _jobs(self, trial: Trial) -> list[Job]:
        """The runs of a trial."""
        study = self._study
        if trial.number not in self._grids:
            settings = {**study.settings, **trial.settings}
            method = method_of(f"trial {trial.number}", study.learner, settings)
            grid = Grid((method,), (study.task,), study.seeds, study.run)
            self._grids[trial.number] = in_updates(grid, self._trust)
        return [job for _, job in self._grids[trial.number].jobs(self._folder, self._trust)]

    def _to_stage(self, trial: Trial, stage: int) -> list[Job] | str:
        """The runs of a trial up to the end of a stage; or why its settings do not fit together."""
        try:
            jobs = self._jobs(trial)
        except UserError as error:
            return str(error)
        config = jobs[0].config
        ends = stage_ends(config.updates, config.eval_every, self._study.stages)
        # Trials of equal length in environment steps may have fewer evaluations than others.
        end = ends[math.ceil(stage * len(ends) / self._study.stages) - 1]
        return [replace(job, until=None if end == config.updates else end) for job in jobs]

    def _outcome(self, jobs: Sequence[Job], failed: dict[Path, str]) -> Outcome:
        """The mean of the measure over the runs of a trial at the end of a stage, or why one failed."""
        means = []
        for job in jobs:
            if job.folder in failed:
                return f"{job.folder}: {failed[job.folder]}"
            folder = RunFolder(job.folder)
            folder.refuse_changed_files()
            found = folder.evaluations()
            # A callback may have ended the run before.
            at = np.flatnonzero(found["update"] <= (job.until or job.config.updates))[-1]
            means.append(float(found[self._study.measure.name][at].mean()))
        mean = float(np.mean(means))
        if not math.isfinite(mean):
            return f"{jobs[0].folder}: the mean of {self._study.measure.name} is {mean}"
        return mean
