"""Batch normalisation: Ioffe & Szegedy, 2015, on the network of the paper's first experiment.

The paper trains three layers of 100 sigmoids on MNIST and shows that the normalised network learns faster, and that the
input of a sigmoid stays more stable (figure 1). The best step sizes differ so much that each network has its own search.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlbench.benchmarks.papers._curves import updates_to
from rlbench.benchmarks.tables.paper import AnalysisGrid, Claim, Grid, Method, Paper, Scale, Verdict
from rlbench.benchmarks.tables.results import Missing, Results

STEP_SIZES = (0.1, 0.5, 2.0)
NORMS = {"no normalisation": "none", "batch normalisation": "bn"}
TARGET = 0.95
"""Test accuracy that has to be reached."""
EVERY = 25
"""Updates between evaluations, which limit the precision of the count."""
UPDATES: dict[Scale, int] = {"small": 3_000, "full": 50_000}


def name(norm: str, step_size: float) -> str:
    """The method's name."""
    return f"{norm}, {step_size}"


def _grid(scale: Scale) -> Grid:
    plain = {"batch_size": 60, "momentum": 0.0, "weight_decay": 0.0, "cycle_updates": None}
    methods = tuple(
        Method(
            name(norm, size), "classifier",
            {"encoder": f"sigmoid-mlp:norm={option}", "learning_rate": size, **plain},
        )
        for norm, option in NORMS.items()
        for size in STEP_SIZES
    )  # fmt: skip
    updates = UPDATES[scale]
    run = {
        "updates": updates, "eval_every": EVERY, "log_every": EVERY, "checkpoint_every": updates,
        "snapshot_every": updates // 60,
    }  # fmt: skip
    return Grid(methods, ("digits",), seeds=3, run=run)


def _counts(results: Results, norm: str) -> dict[float, NDArray[Any]]:
    found = {}
    for size in STEP_SIZES:
        runs = results.of(name(norm, size), "digits")
        if not runs:
            raise Missing(f"{name(norm, size)} has not been run")
        found[size] = np.array([updates_to(run, "accuracy", TARGET) for run in runs])
    return found


def _trains_faster(results: Results) -> Verdict:
    parts, best = [], {}
    for norm in NORMS:
        counts = _counts(results, norm)
        best[norm] = min(float(x.mean()) for x in counts.values())
        each = "; ".join(
            f"{size}: {', '.join(f'{x:g}' for x in found)}" for size, found in counts.items()
        )
        parts.append(f"{norm}, step size {each}")
    without, with_norm = (best[norm] for norm in NORMS)
    everywhere = all(np.isfinite(x).all() for x in _counts(results, "batch normalisation").values())
    holds = bool(without / with_norm >= 5 and everywhere)
    return Verdict(
        holds,
        f"updates to {TARGET:.0%} test accuracy, by seed: {'; '.join(parts)}; ratio {without / with_norm:.1f}",
    )


def _is_more_stable(results: Results) -> Verdict:
    """Drift at the step size at which each network is fastest."""
    drifts = {}
    for norm in NORMS:
        counts = _counts(results, norm)
        size = min(counts, key=lambda x: counts[x].mean())
        drifts[norm] = np.array(
            [x.numbers["drift"] for x in results.analysed("drift", name(norm, size), "digits")]
        )
    without, with_norm = drifts.values()
    listed = [f"{norm} {', '.join(f'{x:.2f}' for x in found)}" for norm, found in drifts.items()]
    return Verdict(
        bool(with_norm.max() < 0.5 * without.min()),
        f"range of the median input of a sigmoid in the last layer, mean over units, by seed: {'; '.join(listed)}",
    )


PAPER = Paper(
    name="batch-norm",
    title="Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate Shift",
    reference="Ioffe & Szegedy, 2015, https://arxiv.org/abs/1502.03167",
    method=name("batch normalisation", 0.5),
    grids={"small": (_grid("small"),), "full": (_grid("full"),)},
    analyses={
        scale: tuple(
            AnalysisGrid("drift", (name(norm, size),), ("digits",), 3) for norm in NORMS for size in STEP_SIZES
        )
        for scale in UPDATES
    },
    minutes={"small": 2, "full": 60},
    claims=(
        Claim(
            "B1", "With batch normalisation a network of sigmoids trains much faster, and with any step size",
            f"the mean number of updates to {TARGET:.0%} test accuracy, with the best step size, is at least 5 times as large "
            f"without normalisation, and with normalisation every step size reaches {TARGET:.0%} in every seed",
            _trains_faster,
        ),
        Claim(
            "B2", "The inputs of the sigmoids stay more stable during training",
            "with normalisation the range of the median over training is in every seed less than half of the smallest range "
            "without, each network with its fastest step size",
            _is_more_stable,
        ),
    ),
    notes="Accuracy on 360 test digits after all updates; chance is 0.10. The paper trains on MNIST, which is not part of the "
    "suite; here it is scikit-learn's 8x8 digits, with the paper's network and batches. The full scale has the paper's number of "
    "updates and has not been run.",
)  # fmt: skip
