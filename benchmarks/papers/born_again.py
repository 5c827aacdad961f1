"""Born-again networks: Furlanello et al., 2018 (tables 1 to 3), with 300 handwritten digits.

A student that learns from its teacher's probabilities is compared with one that learns from labels, with the same initial weights and the same
batches: what a student gains by chance is the same in both.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlbench.benchmarks.papers._shown import by_seed
from rlbench.benchmarks.papers._step_sizes import best, methods, name
from rlbench.benchmarks.tables.paper import Claim, Grid, Method, Paper, Scale, Verdict
from rlbench.benchmarks.tables.results import Results

TASK = "digits"
BAN, CWTM, DKPP, LABELS = "BAN", "CWTM", "DKPP", "labels"
OBJECTIVES: Mapping[str, str] = {BAN: "soft", CWTM: "cwtm", DKPP: "dkpp", LABELS: "labels"}
STEP_SIZES = (0.03, 0.1)
SEEDS = 10
STUDENT = "accuracy_1"
"""Accuracy of the first generation with a teacher."""
UNTRAINED = "untrained"
LEVEL = 0.05


def _grids(updates: int) -> tuple[Grid, ...]:
    shared: dict[str, Any] = {"generations": 2, "cycle_updates": updates, "batch_size": 32}
    networks = {title: {**shared, "objective": x} for title, x in OBJECTIVES.items()}
    run = {
        "updates": 2 * updates, "data_size": 300, "eval_every": updates, "log_every": 50, "checkpoint_every": updates,
    }  # fmt: skip
    untrained = Method(UNTRAINED, "born-again", {"learning_rate": 0.0, "batch_size": 32})
    once = {"updates": 1, "data_size": 300, "eval_every": 0}
    return (
        Grid(methods("born-again", networks, STEP_SIZES), (TASK,), SEEDS, run),
        Grid((untrained,), (TASK,), SEEDS, once),
    )


def _errors(results: Results, *titles: str) -> tuple[NDArray[np.float64], str]:
    """Test errors of students in % on the seeds that all of them have, [M, R], each with the step size that is best for it, and a text."""
    chosen = [best(results, title, STEP_SIZES, TASK, STUDENT) for title in titles]
    errors = 100 * (1 - results.paired(chosen, TASK, lambda run: run.mean(STUDENT)))
    shown = (f"{method} {by_seed(x)}" for method, x in zip(chosen, errors, strict=True))
    return errors, f"test error in %, by seed: {'; '.join(shown)}"


def _is_better(results: Results) -> Verdict:
    from scipy.stats import wilcoxon

    (ours, labels), shown = _errors(results, BAN, LABELS)
    # Without any difference there is no test.
    p = float(wilcoxon(ours, labels, alternative="less").pvalue) if (ours != labels).any() else 1.0
    return Verdict(bool(ours.mean() < labels.mean() and p < LEVEL), f"{shown}; p = {p:.3f}")


def _order(results: Results) -> Verdict:
    errors, shown = _errors(results, *OBJECTIVES)
    ban, _, dkpp, labels = errors.mean(axis=1)
    return Verdict(bool(ban <= dkpp <= labels), shown)


SCALES: dict[Scale, tuple[Grid, ...]] = {"small": _grids(150), "full": _grids(3_000)}

PAPER = Paper(
    name="born-again",
    title="Born-Again Neural Networks",
    reference="Furlanello et al., 2018, https://arxiv.org/abs/1805.04770",
    method=name(BAN, STEP_SIZES[0]),
    grids=SCALES,
    minutes={"small": 20, "full": 300},
    claims=(
        Claim(
            "B1", "A student with the same architecture is better than the same network trained on labels",
            f"test error of {SEEDS} paired seeds, each method with its best step size: lower mean, and p < {LEVEL} in a one-sided Wilcoxon "
            "signed-rank test",
            _is_better,
        ),
        Claim(
            "B2", "The teacher's other probabilities help, even if they are permuted",
            f"mean test error of {SEEDS} seeds, each method with its best step size: BAN at most that of DKPP, and DKPP at most that of labels",
            _order,
        ),
    ),
    notes="Accuracy of the student, the second generation, on 360 test digits; chance is 0.10. CWTM is only reported.",
)  # fmt: skip
