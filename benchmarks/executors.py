"""Where jobs are executed: processes of this machine, a Ray cluster, or SLURM.

All take the same list, and none schedules anything itself. Run folders must lie where all workers
reach them. A job whose worker dies goes on from its last checkpoint.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import as_completed
from typing import Any, Literal

from rlbench.benchmarks.jobs import Job, Outcome, execute
from rlbench.errors import UserError

Executor = Literal["local", "ray", "slurm"]
Report = Callable[[Outcome], None]


def run_all(
    jobs: Sequence[Job], executor: Executor, count: int, address: str, report: Report
) -> None:
    """Executes jobs.

    Args:
        jobs: What to run, most expensive first.
        executor: Where.
        count: Runs at once, local and Ray on this machine; 0 means one per core.
        address: Of a running Ray cluster, or a SLURM partition; empty for Ray on this machine or
            SLURM's default.
        report: Told of every job that ends, in the order of ending.

    Raises:
        UserError: A worker died, or a package is not installed.
    """
    count = count or os.cpu_count() or 1
    if executor == "ray":
        _on_ray(jobs, count, address, report)
    elif executor == "slurm":
        _on_slurm(jobs, address, report)
    else:
        _on_this_machine(jobs, min(count, len(jobs)), report)


def _on_this_machine(jobs: Sequence[Job], count: int, report: Report) -> None:
    from rlbench.workers import workers

    with workers(count) as submit:
        for future in as_completed([submit(execute, job) for job in jobs]):
            report(future.result())


def _on_ray(jobs: Sequence[Job], count: int, address: str, report: Report) -> None:
    ray = _load("ray", "ray")
    options: dict[str, Any] = {"address": address} if address else {"num_cpus": count}
    ray.init(log_to_driver=False, include_dashboard=False if not address else None, **options)
    try:
        # Ray starts a task again if its worker dies; the run folder holds what was done.
        remote = ray.remote(num_cpus=1, max_retries=5)(execute)
        pending = [remote.remote(job) for job in jobs]
        while pending:
            done, pending = ray.wait(pending)
            report(ray.get(done[0]))
    finally:
        ray.shutdown()


def _on_slurm(jobs: Sequence[Job], partition: str, report: Report) -> None:
    submitit = _load("submitit", "slurm")
    folder = jobs[0].folder.parent / "slurm"
    executor = submitit.AutoExecutor(folder=folder)
    threads = max(job.config.threads for job in jobs)
    executor.update_parameters(timeout_min=24 * 60, cpus_per_task=threads, tasks_per_node=1)
    if partition:
        executor.update_parameters(slurm_partition=partition)
    for future in submitit.helpers.as_completed(executor.map_array(execute, list(jobs))):
        report(future.result())


def _load(package: str, extra: str) -> Any:
    from importlib import import_module

    try:
        return import_module(package)
    except ModuleNotFoundError:
        raise UserError(
            f"the executor {extra} needs the package {package}; install it with "
            f"pip install 'rlbench[{extra}]'"
        ) from None
