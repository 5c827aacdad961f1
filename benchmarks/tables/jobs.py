"""Jobs: the runs of a table or a sweep, each a run folder that is complete, unfinished or missing.

A job is plain data, so that it can be sent to another process or machine. Executing a job completes it: it
does nothing, resumes an interrupted run, or starts a new one.
"""

import contextlib
import dataclasses
import json
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlbench.benchmarks.tables.defaults import Defaults, defaults, keep
from rlbench.benchmarks.tables.methods import FREE, keep_name
from rlbench.benchmarks.training.config import RunConfig
from rlbench.benchmarks.training.run_folder import RunFolder
from rlbench.errors import FAILURES, Interrupted, UserError
from rlbench.files import explaining_os_errors
from rlbench.trust import Trust


@dataclass(frozen=True)
class Job:
    """One run: a learner, its settings that differ from the defaults, and the run options."""

    learner: str
    """As in `rlbench list`."""
    settings: Mapping[str, Any]
    """Settings of the learner; all others are its preset for the task."""
    config: RunConfig
    """Task, data, lengths and seed; `out` is the folder."""
    method: str = ""
    """Name in the table or sweep; the learner's if it is empty."""
    trust: Trust = ()
    """Names of custom code that may be imported from run folders, such as all names in the table; True allows any."""
    recorded: str = ""
    """Name of the task in a table, if the examples in its file were recorded for this seed."""
    until: int | None = None
    """Update after which the run is saved and stopped, which an evaluation must follow; None: the last one."""

    @property
    def task(self) -> str:
        """Name of the task."""
        return self.recorded or self.config.env

    @property
    def folder(self) -> Path:
        """Folder of the run."""
        assert self.config.out is not None
        return self.config.out

    def defaults(self) -> Defaults:
        """The defaults for a run of the same learner, task and length."""
        return defaults(self.folder, self.learner, self.config.env, self.config.updates)

    def complete(self) -> bool:
        """Whether its last update, or `until`, has been evaluated and saved.

        Raises:
            UserError: The folder holds another run, or one made with other defaults.
        """
        folder = RunFolder(self.folder)
        if not (self.folder / "config.json").exists():
            return False
        saved = folder.config()
        mine = dataclasses.asdict(self.config)
        # Options and settings that were added after the run count as having their defaults.
        run = dataclasses.asdict(RunConfig(env="")) | saved["run"]
        mine, run = ({k: v for k, v in x.items() if k not in FREE} for x in (mine, run))
        differing = _differences(
            {"learner": self.learner, **mine}, {**run, "learner": saved["learner"]["name"]}
        )
        if not differing:
            usual = self.defaults()
            settings = usual.fields | saved["learner"]["settings"]
            differing = _differences({**usual.settings, **self.settings}, settings)
        if differing:
            raise UserError(
                f"{self.folder} holds another run: {', '.join(differing)}; move it away or give "
                "another --out"
            )
        return folder.complete() if self.until is None else folder.reached(self.until)


@dataclass(frozen=True)
class Outcome:
    """The outcome of a job."""

    job: Job
    error: str = ""
    """Why the run could not be finished, in a sentence; empty if it was."""


def execute(job: Job) -> Outcome:
    """Completes a job; its output goes to `log.txt` in its folder.

    Raises:
        Interrupted: The user stopped it; the run is saved.
    """
    # Imported here, so that a table of finished runs is printed without loading PyTorch.
    from rlbench.benchmarks.training.learners import load_learner
    from rlbench.benchmarks.training.runner import Run
    from rlbench.terminal import Terminal

    try:
        if job.complete():
            return Outcome(job)
        with explaining_os_errors(job.folder):
            job.folder.mkdir(parents=True, exist_ok=True)
            log = (job.folder / "log.txt").open("a", encoding="utf-8")
        with log:
            console = Terminal(file=log, width=100)
            console.print(time.strftime("%Y-%m-%d %H:%M:%S"))
            keep(job.folder, job.learner, job.config.env, job.config.updates)
            keep_name(job.folder, job.method or job.learner)
            if (job.folder / "config.json").exists():
                run = Run.resume(job.folder, console, trust=job.trust)
                run.until = job.until or run.until
                run.finish()
            else:
                learner = load_learner(job.learner)
                preset = learner.preset(job.config.env, job.config.updates)
                settings = learner.Config(**{**preset, **job.settings})
                run = Run(job.learner, settings, job.config, console, trust=job.trust)
                run.until = job.until or run.until
                run.start()
    except Interrupted:
        raise
    except UserError as error:
        return Outcome(job, str(error))
    except FAILURES as error:  # One run must not end the others.
        with (
            contextlib.suppress(OSError),
            (job.folder / "log.txt").open("a", encoding="utf-8", errors="backslashreplace") as log,
        ):
            traceback.print_exc(file=log)
        text = " ".join(str(error).split())
        return Outcome(job, f"{type(error).__name__}: {text}; the traceback is in log.txt")
    return Outcome(job)


def _differences(mine: Mapping[str, Any], saved: Mapping[str, Any]) -> list[str]:
    """The differing settings of a run folder, in words."""
    plain: dict[str, Any] = json.loads(json.dumps(dict(mine), default=str))
    unknown = [
        f"it has {name}, which this version does not have" for name in saved if name not in plain
    ]
    return unknown + [
        f"{name} is {saved.get(name)}, not {value}"
        for name, value in plain.items()
        if saved.get(name) != value
    ]


def unfinished(jobs: Sequence[Job]) -> list[Job]:
    """The jobs whose runs are not complete."""
    return [job for job in jobs if not job.complete()]
