"""Several seeds of one learner on one data set, as one batched program.

    runs/bear-hopper-medium-s0-7/s0, s1, ..., s7

Each seed has an ordinary run folder, except that all of them must be resumed together.
"""

import dataclasses
from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from shlex import quote
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from rlbench.accelerate.compile import inductor, interpreted, is_one_program
from rlbench.accelerate.seeds import SeedBatch
from rlbench.benchmarks.training.choices import new_folder
from rlbench.benchmarks.training.config import RunConfig
from rlbench.benchmarks.training.drivers import DatasetDriver
from rlbench.benchmarks.training.faults import named_as_users
from rlbench.benchmarks.training.interrupt import Interrupt, Unfinished
from rlbench.benchmarks.training.progress import ProgressLine
from rlbench.benchmarks.training.recorder import Recorder, resumable, stopped
from rlbench.benchmarks.training.runner import Run
from rlbench.errors import Interrupted, UserError
from rlbench.trust import Trust


class SeedBatchRun:
    """The runs of all seeds, new or continued."""

    def __init__(self, runs: list[Run], path: Path, console: Console) -> None:
        """Checks that they can learn together; `begin` and `resume` make the runs."""
        self.runs, self.path, self.console = runs, path, console
        first = runs[0]
        if len(runs) != first.config.seeds:
            raise UserError(
                f"{path} contains {len(runs)} of {first.config.seeds} seeds that learn together; "
                "restore the others, or start again with another --out"
            )
        one_program = first.learner.phase() is not None and is_one_program(first.learner)
        if first.data is None or first.env_steps is not None or not one_program:
            raise UserError(
                f"--seeds {len(runs)}: {first.learner_name} on {first.config.env} cannot learn several "
                "seeds as one program; give each seed a separate run (rlbench sweep --seeds)"
            )
        # One copy of the data for all seeds, on any device.
        self.drivers = [DatasetDriver(run.learner, first.data, run.config.seed) for run in runs]

    @classmethod
    def begin(
        cls,
        learner_name: str,
        settings: Any,
        config: RunConfig,
        console: Console,
        *,
        trust: Trust = False,
    ) -> "SeedBatchRun":
        """Creates new runs; nothing is written yet."""
        path = config.out or new_folder(learner_name, config)
        seeds = range(config.seed, config.seed + config.seeds)
        configs = [dataclasses.replace(config, seed=s, out=path / f"s{s}") for s in seeds]
        runs = [Run(learner_name, settings, x, console, trust=trust) for x in configs]
        return cls(runs, path, console)

    @classmethod
    def resume(cls, path: Path, console: Console, *, trust: Trust = False) -> "SeedBatchRun":
        """The runs of a folder, ready to `finish`; see `Run.resume`."""
        found = [Run.resume(member, console, trust=trust) for member in members(path)]
        return cls(found + _without_folder(found, path, console, trust), path, console)

    def start(self) -> None:
        """Starts new runs, from the first update to the last."""
        if members(self.path):
            raise UserError(
                f"{self.path} already contains runs; continue them with `rlbench run --resume {quote(str(self.path))}` or give "
                "another --out"
            )
        with self._locked():
            self._start_folders()
            with self._resumable():
                self._train()

    def finish(self) -> int:
        """Runs the remaining updates of stopped runs; returns their number."""
        with self._locked():
            self._start_folders()
            first, updates = self._saved(), self.runs[0].config.updates
            if first < updates:
                for run, driver in zip(self.runs, self.drivers, strict=True):
                    run.begin_again()
                    state = run.folder.load_checkpoint(run.learner.device, first) if first else None
                    run.go_back(state, driver)
                with self._resumable():
                    self._train(first)
            else:
                for run in self.runs:
                    run.continue_logs(updates)
            for run in self.runs:
                run.folder.remove_checkpoints()
            return updates - first

    def _start_folders(self) -> None:
        """Begins the folders that do not exist yet."""
        for run in self.runs:
            if not (run.folder.path / "config.json").exists():
                run.begin(run.description())

    def _resumable(self) -> AbstractContextManager[None]:
        return resumable([run.folder for run in self.runs], self.path, self.runs[0].resume_option)

    def _locked(self) -> ExitStack:
        with ExitStack() as stack:
            for run in self.runs:
                stack.enter_context(run.folder.locked())
                stack.enter_context(run.loggers)
            stack.enter_context(named_as_users(self.runs[0].learner_class))
            return stack.pop_all()

    def _train(self, begun: int = 0) -> None:
        first, learners = self.runs[0], [run.learner for run in self.runs]
        compiling = first.config.compile == "on"
        backend = inductor if compiling else interpreted
        together = SeedBatch(learners, backend, first.config.precision)
        title, updates = f"{first.learner_name} on {first.task.name}", first.config.updates
        title += f", {len(learners)} seeds"
        try:
            with (
                Interrupt() as interrupt,
                ProgressLine(self.console, title, updates, "updates", begun) as line,
            ):
                recorders = [run.recorder(line, begun) for run in self.runs]
                for update in range(begun + 1, updates + 1):
                    # One gather for all seeds: on a GPU the number of operations decides the cost.
                    places = torch.stack([driver.places() for driver in self.drivers])
                    all_metrics = together.learn(self.drivers[0].experience(places))
                    stopping = interrupt.requested
                    if recorders[0].reads_learner(update, stopping=stopping):
                        together.write_back()
                    self._after(update, recorders, all_metrics, stopping=stopping)
        except Unfinished:
            raise stopped(self._saved(), self.path, first.resume_option) from None

    def _after(
        self,
        update: int,
        recorders: list[Recorder],
        all_metrics: list[Mapping[str, Tensor]],
        *,
        stopping: bool,
    ) -> None:
        """Does what is due in each run after an update."""
        ended = False
        for recorder, metrics, driver in zip(recorders, all_metrics, self.drivers, strict=True):
            try:
                recorder.after(update, metrics, driver.state_dict, stopping=stopping)
            except Interrupted:  # The others are saved first.
                ended = True
        if ended:
            raise stopped(update, self.path, self.runs[0].resume_option)

    def _saved(self) -> int:
        """The last update for which all runs have a checkpoint; 0 if there is none."""
        return max(set.intersection(*({0, *run.folder.checkpoints()} for run in self.runs)))


def _without_folder(runs: list[Run], path: Path, console: Console, trust: Trust) -> list[Run]:
    """The seeds whose folders were not begun before the process was killed; none once a seed has a checkpoint."""
    if any(run.folder.checkpoints() for run in runs):
        return []
    first = runs[0]
    there = {run.config.seed for run in runs}
    seeds = range(first.config.seed, first.config.seed + first.config.seeds)
    return [
        Run(
            first.learner_name,
            first.settings,
            dataclasses.replace(first.config, seed=seed, out=path / f"s{seed}"),
            console,
            trust=trust,
        )
        for seed in seeds
        if seed not in there
    ]


def members(path: Path) -> list[Path]:
    """Run folders of the seeds that learn together in `path`, in order; empty if `path` is not a multi-seed run."""
    folders = [file.parent for file in path.glob("s[0-9]*/config.json")]
    seeds = [folder for folder in folders if folder.name[1:].isdecimal()]
    return sorted(seeds, key=lambda folder: int(folder.name[1:]))
