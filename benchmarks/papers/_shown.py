"""Numbers in the evidence for a claim."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlbench.benchmarks.tables import statistics
from rlbench.benchmarks.tables.results import Results


def by_seed(values: Iterable[float]) -> str:
    """The mean of a number over seeds, and the number of each seed.

    >>> by_seed([54.0, 55.5])
    '54.8 (54.0/55.5)'
    """
    each = list(values)
    return f"{np.mean(each):.1f} ({'/'.join(f'{x:.1f}' for x in each)})"


def acted(results: Results, method: str, task: str, number: str = "return") -> NDArray[Any]:
    """A number of the analysis `acting` of a method's runs on a task, [R]."""
    return np.array([x.numbers[number] for x in results.analysed("acting", method, task)])


def interval(values: NDArray[Any]) -> str:
    """The mean over seeds, [R], with its 95 % interval.

    >>> interval(np.array([1.0, 1.0]))
    '1.00 [1.00, 1.00]'
    """
    mean = statistics.bootstrap_interval(statistics.mean, values[:, None], seed=0)
    return f"{mean.point:.2f} [{mean.low:.2f}, {mean.high:.2f}]"


def returns(results: Results, task: str, methods: Iterable[str], prefix: str = "") -> str:
    """Mean return of each method on a task, with a 95 % interval of its seeds.

    Args:
        results: The runs.
        task: The task.
        methods: Names of methods.
        prefix: Put before the name of the measure, such as `HELD_OUT`.
    """
    return ", ".join(
        f"{name} {interval(results.means(name, task, 'return', prefix))}" for name in methods
    )
