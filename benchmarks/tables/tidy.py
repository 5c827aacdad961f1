"""The results of many runs as one table for pandas: `rlbench.results`."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlbench.benchmarks.tables.methods import kept_name, labels
from rlbench.benchmarks.tables.results import Result, read_result
from rlbench.benchmarks.training.finding import run_folders
from rlbench.benchmarks.training.run_folder import RunFolder
from rlbench.benchmarks.training.steps import EnvSteps
from rlbench.errors import UserError
from rlbench.trust import Trust


def rows(folder: Path, *, every: bool = False, trust: Trust = False) -> list[dict[str, Any]]:
    """One row for each run below a folder, or for each of its evaluations; see `rlbench.results`."""
    found = list(_readable(folder))
    if not found:
        raise UserError(
            f"there is no complete run in {folder}; give the folder of a run or one above it"
        )
    names = [kept_name(result.folder, result.config) for result in found]
    methods = labels(names, [result.config for result in found], trust=trust)
    table = [
        row
        for method, result in zip(methods, found, strict=True)
        for row in _of_run(method, result, every=every)
    ]
    columns = dict.fromkeys(name for row in table for name in row)
    return [{name: row.get(name) for name in columns} for row in table]


def _readable(folder: Path) -> Iterator[Result]:
    """The complete runs whose files are undamaged, with a warning for every other one."""
    for path in run_folders([folder]):
        try:
            yield read_result("", path)
        except UserError as error:
            warnings.warn(f"a run is left out: {error}", stacklevel=5)


def _of_run(method: str, result: Result, *, every: bool) -> Iterator[dict[str, Any]]:
    """The rows of a run, in the order of its evaluations."""
    config, steps = result.config, EnvSteps.saved(result.config)
    evaluations = RunFolder(result.folder).evaluations()
    for i, update in enumerate(evaluations["update"].tolist()):
        if every or i == len(evaluations["update"]) - 1:
            means = {name: _mean(column[i]) for name, column in evaluations.items()}
            scored = config["reference_returns"] is not None
            headline = float(evaluations[result.headline.name][i].mean())
            yield {
                "run": str(result.folder), "method": method, "learner": config["learner"]["name"],
                "task": result.task, "seed": result.seed, "data": result.data_kind, "update": update,
                "env_steps": None if steps is None else steps.at(update),
                "score": result.score_of(headline) if scored else None,
                **{name: mean for name, mean in means.items() if mean is not None},
            }  # fmt: skip


def _mean(column: NDArray[Any]) -> float | None:
    """Mean of a measure over episodes or examples; None for a column that is not a measure, such as seeds."""
    return float(np.mean(column)) if column.dtype.kind == "f" and column.ndim == 1 else None


def results(folder: str | Path, *, every: bool = False, trust: Trust = False) -> Any:
    """The rows as a DataFrame if pandas is installed; see `rlbench.results`."""
    table = rows(Path(folder), every=every, trust=trust)
    try:
        import pandas
    except ModuleNotFoundError:
        return table
    return pandas.DataFrame(table)
