"""Numbers in the evidence for a claim."""

from collections.abc import Iterable

import numpy as np

from rlbench.benchmarks.tables import statistics
from rlbench.benchmarks.tables.results import Results


def by_seed(values: Iterable[float]) -> str:
    """The mean of a number over seeds, and the number of each seed.

    >>> by_seed([54.0, 55.5])
    '54.8 (54.0/55.5)'
    """
    each = list(values)
    return f"{np.mean(each):.1f} ({'/'.join(f'{x:.1f}' for x in each)})"


def returns(results: Results, task: str, methods: Iterable[str], prefix: str = "") -> str:
    """Mean return of each method on a task, with a 95 % interval of its seeds.

    Args:
        results: The runs.
        task: The task.
        methods: Names of methods.
        prefix: Put before the name of the measure, such as `HELD_OUT`.
    """
    shown = []
    for name in methods:
        found = results.means(name, task, "return", prefix)[:, None]
        mean = statistics.bootstrap_interval(statistics.mean, found, seed=0)
        shown.append(f"{name} {mean.point:.2f} [{mean.low:.2f}, {mean.high:.2f}]")
    return ", ".join(shown)
