"""MixMatch: Berthelot et al., 2019 (figure 2 and table 4), with 20 labelled handwritten digits and about 1,400 unlabelled ones.

It is compared with supervised learning from the labelled images, with the same augmentation and MixUp, and with forms of itself from which one
part is taken away.
"""

from collections.abc import Mapping
from typing import Any

from rlbench.benchmarks.papers._shown import by_seed
from rlbench.benchmarks.papers._step_sizes import best, methods, name
from rlbench.benchmarks.tables.paper import Claim, Grid, Method, Paper, Scale, Verdict
from rlbench.benchmarks.tables.results import Results

TASK = "digits-labelled-20"
MIXMATCH, SUPERVISED = "MixMatch", "supervised, MixUp"
STEP_SIZES = (2e-3, 6e-3)
SHARED = {"encoder": "conv4:layers=2,width=16,norm=bn", "average": 0.99}
NETWORKS: Mapping[str, Mapping[str, Any]] = {
    MIXMATCH: SHARED,
    SUPERVISED: {**SHARED, "unlabelled_weight": 0.0},
}
WITHOUT: Mapping[str, Mapping[str, Any]] = {
    "T = 1": {"temperature": 1.0},
    "K = 1": {"copies": 1},
    "no MixUp": {"mixing": 0.0},
}
"""MixMatch without one of its parts."""
UNTRAINED = "untrained"
SEEDS = 5
SHARE = 0.7
"""Largest share of the supervised error."""


def _grids(updates: int) -> tuple[Grid, ...]:
    parts = {title: {**SHARED, **settings} for title, settings in WITHOUT.items()}
    run = {"updates": updates, "eval_every": 0, "log_every": 100, "checkpoint_every": updates // 2}
    untrained = Method(UNTRAINED, "mixmatch", {**SHARED, "learning_rate": 0.0})
    return (
        Grid(methods("mixmatch", {**NETWORKS, **parts}, STEP_SIZES), (TASK,), SEEDS, run),
        Grid((untrained,), (TASK,), SEEDS, {"updates": 1, "eval_every": 0}),
    )


def _errors(results: Results, title: str) -> tuple[float, str]:
    """Mean test error in % with the best step size, and a text."""
    method = best(results, title, STEP_SIZES, TASK)
    errors = 100 * (1 - results.means(method, TASK, "accuracy"))
    return float(errors.mean()), f"{method} {by_seed(errors)}"


def _better(results: Results) -> Verdict:
    (ours, first), (theirs, second) = (_errors(results, x) for x in NETWORKS)
    return Verdict(
        bool(ours <= SHARE * theirs),
        f"test error in %, by seed: {first}; {second}; ratio {ours / theirs:.2f}",
    )


def _parts(results: Results) -> Verdict:
    whole, shown = _errors(results, MIXMATCH)
    found = {title: _errors(results, title) for title in WITHOUT}
    listed = "; ".join(words for _, words in found.values())
    return Verdict(
        all(error > whole for error, _ in found.values()),
        f"test error in %, by seed: {shown}; {listed}",
    )


SCALES: dict[Scale, tuple[Grid, ...]] = {"small": _grids(1_000), "full": _grids(20_000)}

PAPER = Paper(
    name="mixmatch",
    title="MixMatch: A Holistic Approach to Semi-Supervised Learning",
    reference="Berthelot et al., 2019, https://arxiv.org/abs/1905.02249",
    method=name(MIXMATCH, STEP_SIZES[0]),
    grids=SCALES,
    minutes={"small": 30, "full": 600},
    claims=(
        Claim(
            "X1", "Unlabelled examples lower the error of a classifier with few labels",
            f"test error with 20 labels, mean of {SEEDS} seeds, each with different labelled images, and each method with its best step size: at most "
            f"{SHARE} times the error of supervised learning with the same augmentation and MixUp",
            _better,
        ),
        Claim(
            "X2", "Sharpening, the mean over two augmentations and MixUp each lower the error",
            f"test error, mean of {SEEDS} seeds, each method with its best step size: higher without each of them", _parts,
        ),
    ),
    notes="Accuracy on 360 test digits; chance is 0.10. All methods have the same network, number of updates and augmentation, shifts of at most "
    "one pixel.",
)  # fmt: skip
