"""The commands `run` and `run --resume`."""

from pathlib import Path
from shlex import quote
from typing import Any

from rich.console import Console

from rlbench.benchmarks.training.config import RunConfig
from rlbench.benchmarks.training.lengths import steps_of
from rlbench.benchmarks.training.recorder import describe
from rlbench.benchmarks.training.run_folder import RunFolder
from rlbench.benchmarks.training.runner import Run
from rlbench.benchmarks.training.seed_batch import SeedBatchRun, members
from rlbench.benchmarks.zoo import located
from rlbench.errors import UserError
from rlbench.interface import Agent
from rlbench.offline_data import DataSet
from rlbench.terminal import Terminal


def run(learner_name: str, settings: Any, config: RunConfig, *, trust: bool = False) -> None:
    """Trains and scores a learner."""
    console = Terminal()
    title = f"{learner_name} on {config.env}, seed {config.seed}"
    if config.seeds > 1:
        together = SeedBatchRun.begin(learner_name, settings, config, console, trust=trust)
        console.print(f"{title} to {config.seed + config.seeds - 1}", soft_wrap=True)
        together.start()
        _conclude_all(together, console)
        return
    job = Run(learner_name, settings, config, console, trust=trust)
    console.print(title, soft_wrap=True)
    job.start()
    _conclude(job, console)


def in_updates(
    steps: int, learner_name: str, settings: Any, config: RunConfig, *, trust: bool = False
) -> int:
    """The updates in which a run takes at least `steps` environment steps; says so if it takes more."""
    found = steps_of(steps, learner_name, settings, config, trust=trust)
    updates = found.updates(steps)
    if found.at(updates) > steps:
        Terminal().print(
            f"{steps:,} environment steps are rounded up to whole updates of {found.each:,}",
            soft_wrap=True,
        )
    return updates


def resume(path: Path, *, trust: bool = False) -> None:
    """Resumes a run."""
    if located(path) != path:
        raise UserError(
            f"{path} contains only weights and cannot be resumed; start a new run with --pretrained {path}"
        )
    console = Terminal()
    if members(path):
        together = SeedBatchRun.resume(path, console, trust=trust)
        if together.finish() == 0:
            console.print(f"{path} is already complete", soft_wrap=True)
        _conclude_all(together, console)
        return
    job = Run.resume(path, console, trust=trust)
    if job.config.seeds > 1:
        raise UserError(
            f"{path} is one of {job.config.seeds} seeds that learn together; resume all of them: "
            f"rlbench run --resume {quote(str(path.parent))}"
        )
    if job.finish() == 0:
        console.print(f"{path} is already complete", soft_wrap=True)
    _conclude(job, console)


def describe_data(data: DataSet) -> str:
    """Describes the origin of data, for the user."""
    origin, details = data.provenance, data.provenance.details
    text = f"{details['transitions']:,} transitions, {origin.kind}"
    text += f" by {origin.source}" if origin.kind == "generated" else f", {origin.name}"
    score = details["score"]
    return text if score is None else f"{text}, behaviour's score {score:.1f}"


def _conclude_all(together: SeedBatchRun, console: Console) -> None:
    """Prints the last score of each seed, the folder, and the next command."""
    for run in together.runs:
        text = f"seed {run.config.seed}: {_last(run)}"
        console.print(text, soft_wrap=True)
    console.print(
        f"kept in {together.path}; next: rlbench report {quote(str(together.path))}",
        soft_wrap=True,
    )


def _conclude(job: Run, console: Console) -> None:
    """Prints the last score, the folder, and the next command."""
    path = job.folder.path
    console.print(f"done: {_last(job)}", soft_wrap=True)
    more = " --episodes 100" if issubclass(job.learner_class, Agent) else ""
    more += job.trust_option
    console.print(
        f"kept in {path}; next: rlbench evaluate {quote(str(path))}{more}",
        soft_wrap=True,
    )


def _last(run: Run) -> str:
    """Describes the last evaluation of a run."""
    return describe(run.task, run.learner_class, RunFolder(run.folder.path).last_evaluation())
