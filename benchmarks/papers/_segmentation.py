"""Runs shared by the papers on segmentation: methods with several step sizes each, on frames of one game."""

from collections.abc import Iterable, Mapping
from typing import Any

from numpy.typing import NDArray

from rlbench.benchmarks.tables.paper import Grid, Method, Scale
from rlbench.benchmarks.tables.results import Results

TASK = "frames-procgen:heist"
STEP_SIZES = (1e-3, 3e-3)
RUNS: dict[Scale, dict[str, Any]] = {
    "small": {"updates": 400, "data_size": 2_000, "eval_every": 400, "log_every": 20, "checkpoint_every": 400},
    "full": {"updates": 20_000, "data_size": 5_000, "eval_every": 1_000, "log_every": 100, "checkpoint_every": 1_000},
}  # fmt: skip
NOTE = (
    "Mean IoU over the classes of objects on 1,000 frames of levels that were not used for training; a segmenter that "
    "predicts only background scores 0."
)


def name(method: str, step_size: float) -> str:
    """The name of a method with a step size."""
    return f"{method}, {step_size:g}"


def grid(scale: Scale, methods: Mapping[str, Mapping[str, Any]]) -> Grid:
    """Runs of each method, given by its settings, with each step size."""
    every = (
        Method(name(method, size), "segmenter", {**settings, "learning_rate": size})
        for method, settings in methods.items()
        for size in STEP_SIZES
    )
    return Grid(tuple(every), (TASK,), seeds=3, run=RUNS[scale])


def best(results: Results, methods: Iterable[str]) -> dict[str, tuple[float, NDArray[Any]]]:
    """For each method the step size with the largest mean IoU over seeds, and the mean IoU of each seed in %."""
    found = {}
    for method in methods:
        each = {size: 100 * results.means(name(method, size), TASK, "miou") for size in STEP_SIZES}
        size = max(each, key=lambda x, each=each: each[x].mean())  # type: ignore[misc]
        found[method] = size, each[size]
    return found


def described(method: str, found: tuple[float, NDArray[Any]]) -> str:
    """A result of `best` in words."""
    size, values = found
    spread = f" ± {values.std(ddof=1):.1f}" if len(values) > 1 else ""
    return f"{method} {values.mean():.1f}{spread} (step size {size:g})"
