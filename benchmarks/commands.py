"""What the commands of the command line do."""

from pathlib import Path
from typing import Any

from rich.console import Console

from rlbench.benchmarks.training.config import RunConfig
from rlbench.benchmarks.training.evaluation import Evaluator
from rlbench.benchmarks.training.keeper import describe_returns
from rlbench.benchmarks.training.run_folder import RunFolder
from rlbench.benchmarks.training.runner import Run, load_run
from rlbench.benchmarks.training.seed_batch import SeedBatchRun, members
from rlbench.errors import UserError
from rlbench.offline_data import DataSet


def run(agent_name: str, settings: Any, config: RunConfig) -> None:
    """Trains and scores an agent."""
    console = Console()
    if config.seeds < 1:
        raise UserError(f"seeds is {config.seeds}; give 1 or more")
    if config.eval_episodes < 1:
        raise UserError(f"eval-episodes is {config.eval_episodes}; give 1 or more")
    title = f"{agent_name} on {config.env}, seed {config.seed}"
    if config.seeds > 1:
        together = SeedBatchRun.begin(agent_name, settings, config, console)
        console.print(
            f"{title} to {config.seed + config.seeds - 1}", highlight=False, soft_wrap=True
        )
        together.start()
        _conclude_all(together, console)
        return
    job = Run(agent_name, settings, config, console)
    console.print(title, highlight=False, soft_wrap=True)
    job.start()
    _conclude(job, console)


def resume(path: Path) -> None:
    """Goes on with a run."""
    console = Console()
    if members(path):
        together = SeedBatchRun.resume(path, console)
        if together.finish() == 0:
            console.print(f"{path} is complete already", highlight=False, soft_wrap=True)
        _conclude_all(together, console)
        return
    job = Run.resume(path, console)
    if job.config.seeds > 1:
        raise UserError(
            f"{path} is one of {job.config.seeds} seeds that learn together; resume all of them: "
            f"rlbench run --resume {path.parent}"
        )
    if job.finish() == 0:
        console.print(f"{path} is complete already", highlight=False, soft_wrap=True)
    _conclude(job, console)


def evaluate(path: Path, episodes: int, seed: int, explore: bool) -> None:
    """Plays the agent of a run on new episodes; writes nothing."""
    agent, task = load_run(path)
    evaluators = [Evaluator(x, episodes) for x in (task, task.held_out) if x is not None]
    played = [evaluator.returns(agent, seed, explore=explore)[1] for evaluator in evaluators]
    print(describe_returns(task, *played))
    for note in filter(None, (evaluator.note() for evaluator in evaluators)):
        print(note)


def describe_data(data: DataSet) -> str:
    """Where data come from, for a person."""
    origin, details = data.provenance, data.provenance.details
    told = f"{details['transitions']:,} transitions, {origin.kind}"
    told += f" by {origin.source}" if origin.kind == "generated" else f", {origin.name}"
    score = details["score"]
    return told if score is None else f"{told}, behaviour's score {score:.1f}"


def _conclude_all(together: SeedBatchRun, console: Console) -> None:
    """The last score of each seed, where everything is, and what to do next."""
    for run in together.runs:
        told = describe_returns(run.task, RunFolder(run.folder.path).returns()["return"][-1])
        console.print(f"seed {run.config.seed}: {told}", highlight=False, soft_wrap=True)
    console.print(
        f"kept in {together.path}; next: rlbench report {together.path}",
        highlight=False,
        soft_wrap=True,
    )


def _conclude(job: Run, console: Console) -> None:
    """The last score, where everything is, and what to do next."""
    path = job.folder.path
    saved = RunFolder(path).returns()
    told = describe_returns(job.task, *(saved[x][-1] for x in ("return", "held_out") if x in saved))
    console.print(f"done: {told}", highlight=False, soft_wrap=True)
    console.print(
        f"kept in {path}; next: rlbench evaluate {path} --episodes 100",
        highlight=False,
        soft_wrap=True,
    )
