"""The points of a run's learning curves, as loggers show them, from the files of its folder."""

from collections.abc import Iterator, Mapping
from typing import Any

from numpy.typing import NDArray

from rlbench.benchmarks.training.run_folder import RunFolder
from rlbench.envs.tasks import Task
from rlbench.measures import RETURN

Array = NDArray[Any]


def curves_of(columns: Mapping[str, Array]) -> dict[str, float]:
    """Mean of each measure of an evaluation, without the seeds of episodes and other columns that are not measures."""
    return {
        name: float(column.mean())
        for name, column in columns.items()
        if column.dtype.kind == "f" and column.ndim == 1
    }


def means_of(columns: Mapping[str, Array], task: Task) -> dict[str, float]:
    """Mean of each measure of an evaluation, with `held_out_` for `held_out/`, and the score if the task has one."""
    means = {name.replace("/", "_"): x for name, x in curves_of(columns).items()}
    if RETURN.name in means and (score := task.score(means[RETURN.name])) is not None:
        means["score"] = score
    return means


def in_group(group: str, values: Mapping[str, float]) -> dict[str, float]:
    """Values by the names of their curves, as in `train/policy_loss`."""
    return {f"{group}/{name}": value for name, value in values.items()}


def points(folder: RunFolder, task: Task) -> Iterator[tuple[int, dict[str, float]]]:
    """Each update at which something was logged or evaluated, in order, and the values of all curves."""
    found: dict[int, dict[str, float]] = {}
    for file, group in (("metrics", "train"), ("timing", "speed"), ("callbacks", "callback")):
        for line in folder.logged(f"{file}.jsonl"):
            values = {k: x for k, x in line.items() if k not in ("update", "env_steps", "seconds")}
            found.setdefault(line["update"], {}).update(in_group(group, values))
    saved = folder.evaluations()
    for row, update in enumerate(saved["update"].tolist()):
        columns = {name: x[row] for name, x in saved.items() if name != "update"}
        found.setdefault(update, {}).update(in_group("eval", means_of(columns, task)))
    yield from sorted(found.items())
