"""When a run first reached a target, from all of its evaluations."""

import numpy as np

from rlbench.benchmarks.tables.results import Result


def updates_to(run: Result, measure: str, target: float) -> float:
    """Updates until the mean of a measure first reached the target; infinite if it never did."""
    from rlbench.benchmarks.training.run_folder import RunFolder

    saved = RunFolder(run.folder).evaluations()
    reached = saved["update"][saved[measure].mean(1) >= target]
    return float(reached[0]) if len(reached) else np.inf
