"""Where jobs are executed: processes of this machine, a Ray cluster, or SLURM.

All take the same list, and none does its own scheduling. All workers must have access to the run folders.
A job whose worker dies is resumed from its last checkpoint.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from shutil import which
from typing import Any, Literal

from rich.console import Console

from rlbench.backbones.ranges import check
from rlbench.benchmarks.tables.jobs import Job, Outcome, execute, unfinished
from rlbench.benchmarks.training.progress import ProgressLine
from rlbench.errors import Interrupted, UserError

Report = Callable[[Outcome], None]
RunJobs = Callable[[Sequence[Job], Report], None]


@dataclass(frozen=True)
class Execution:
    """Where runs are executed, and how many at once."""

    jobs: int = 0
    """Runs at once on this machine, each on one thread; 0 means one per core."""
    executor: Literal["local", "ray", "slurm"] = "local"
    """Where runs are executed: processes of this machine, a Ray cluster, or SLURM."""
    address: str = ""
    """Address of a running Ray cluster (default: a new one on this machine), or a SLURM partition."""

    def __post_init__(self) -> None:
        """Refuses options of a wrong type or out of range."""
        check(self)

    @property
    def at_once(self) -> int:
        """Number of runs at once."""
        return self.jobs or os.cpu_count() or 1


def run_missing(jobs: Sequence[Job], how: Execution, title: str, console: Console) -> list[Outcome]:
    """Executes the jobs that are not complete, with a progress bar.

    Returns:
        The jobs that failed.
    """
    left = unfinished(jobs)
    failed: list[Outcome] = []
    if not left:
        return failed
    done = len(jobs) - len(left)
    with ProgressLine(console, title, len(jobs), "runs", done) as line:
        line.say(f"missing runs: {len(left)} of {len(jobs)}; each logs to log.txt in its folder")
        line.advance(done)

        def report(outcome: Outcome) -> None:
            if outcome.error:
                failed.append(outcome)
            line.advance(line.done + 1)

        try:
            run_all(left, how, report)
        except (Interrupted, KeyboardInterrupt):
            raise Interrupted(
                "stopped; unfinished runs are saved, and the same command resumes them"
            ) from None
    return failed


def run_all(jobs: Sequence[Job], how: Execution, report: Report) -> None:
    """Executes jobs.

    Args:
        jobs: The jobs, most expensive first.
        how: Where to execute them.
        report: Called with every job that ends, in the order of ending.

    Raises:
        UserError: A package is not installed, or there is no cluster.
    """
    count = how.at_once
    if how.executor == "ray":
        _on_ray(jobs, count, how.address, report)
    elif how.executor == "slurm":
        _on_slurm(jobs, how.address, report)
    else:
        with _on_this_machine(min(count, len(jobs))) as run:
            run(jobs, report)


@contextmanager
def executing(how: Execution) -> Iterator[RunJobs]:
    """`run_all` for several lists, one after the other; processes of this machine stay for the next list."""
    if how.executor == "local":
        with _on_this_machine(how.at_once) as run:
            yield run
    else:
        yield lambda jobs, report: run_all(jobs, how, report)


@contextmanager
def _on_this_machine(count: int) -> Iterator[RunJobs]:
    from rlbench.workers import workers

    with workers(count) as submit:

        def run(jobs: Sequence[Job], report: Report) -> None:
            left = dict(enumerate(jobs))
            try:
                numbers = {submit(execute, job): number for number, job in enumerate(jobs)}
                for future in as_completed(numbers):
                    outcome = future.result()
                    del left[numbers[future]]
                    report(outcome)
            except BrokenProcessPool:
                # One after the other, each in a new process, so that the run whose process dies again ends alone.
                for job in left.values():
                    report(_alone(job))

        yield run


def _alone(job: Job) -> Outcome:
    """The outcome of a job in a process of its own."""
    from rlbench.workers import WorkerDied, workers

    try:
        with workers(2) as submit:
            outcome: Outcome = submit(execute, job).result()
            return outcome
    except WorkerDied:
        why = "its process died, perhaps because of too little memory or a fault in compiled code; its log.txt shows how far it got"
        return Outcome(job, why)


def _on_ray(jobs: Sequence[Job], count: int, address: str, report: Report) -> None:
    ray = _load("ray", "ray")
    options: dict[str, Any] = (
        {"address": address} if address else {"num_cpus": count, "include_dashboard": False}
    )
    try:
        ray.init(log_to_driver=False, **options)
    except ConnectionError as error:
        raise UserError(
            f"there is no Ray cluster at {address} that accepts a connection ({error}); start one with "
            "`ray start --head`, or leave --address out"
        ) from None
    try:
        # Ray restarts a task if its worker dies; the run is resumed from its folder.
        remote = ray.remote(num_cpus=1, max_retries=5)(execute)
        pending = [remote.remote(job) for job in jobs]
        while pending:
            done, pending = ray.wait(pending)
            report(ray.get(done[0]))
    finally:
        ray.shutdown()


def _on_slurm(jobs: Sequence[Job], partition: str, report: Report) -> None:
    submitit = _load("submitit", "slurm")
    if which("srun") is None:
        raise UserError("there is no SLURM here (no srun); use --executor local or ray")
    folder = jobs[0].folder.parent / "slurm"
    executor = submitit.AutoExecutor(folder=folder)
    threads = max(job.config.threads for job in jobs)
    executor.update_parameters(timeout_min=24 * 60, cpus_per_task=threads, tasks_per_node=1)
    if partition:
        executor.update_parameters(slurm_partition=partition)
    for future in submitit.helpers.as_completed(executor.map_array(execute, list(jobs))):
        report(future.result())


def _load(package: str, extra: str) -> Any:
    try:
        return import_module(package)
    except ModuleNotFoundError:
        raise UserError(
            f"the executor {extra} needs the package {package}; install it with "
            f"pip install 'rlbench[{extra}]'"
        ) from None
