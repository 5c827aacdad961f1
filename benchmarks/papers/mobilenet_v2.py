"""MobileNetV2: Sandler et al., 2018, linear bottlenecks and shortcuts between them (figures 1 and 6), few multiply-adds.

Figure 1 needs no training: points of a spiral in the plane go through a random linear map to n dimensions and a ReLU, and
are recovered by the best linear map. In few dimensions the ReLU loses much of them, in many almost nothing.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlbench.benchmarks.tables.paper import Claim, Grid, Method, Paper, Scale, Verdict
from rlbench.benchmarks.tables.results import Missing, Results

TASK = "frames-procgen:coinrun"
SMALL_NET = "mobilenet-v2:width=0.35,stem=2,norm=bn"
OURS, RELU6 = "linear bottleneck", "ReLU6 bottleneck"
EXPANSION, NO_SHORTCUT = "shortcut between expansions", "no shortcut"
RESNET = "ResNet with 10 times the multiply-adds"
NETWORKS = {
    OURS: SMALL_NET,
    RELU6: f"{SMALL_NET},bottleneck=relu6",
    EXPANSION: f"{SMALL_NET},shortcut=expansion",
    NO_SHORTCUT: f"{SMALL_NET},shortcut=none",
    RESNET: "resnet:units=1,norm=bn",
}
STEP_SIZES = (0.1, 0.03)
DIMENSIONS = (2, 3, 5, 15, 30)
DRAWS, POINTS = 50, 500
TOLERANCE = 0.5
"""In percentage points of accuracy."""


def name(network: str, step_size: float) -> str:
    """The method's name."""
    return f"{network}, {step_size}"


def lost(dimensions: int, draws: int = DRAWS) -> float:
    """Share of a spiral's variance that no linear map recovers after a random embedding and a ReLU.

    Args:
        dimensions: Of the embedding.
        draws: Random embeddings, over which the result is averaged.

    Returns:
        The share, 0 to 1.
    """
    turn = np.linspace(0.0, 1.0, POINTS)
    spiral = turn[:, None] * np.stack([np.cos(4 * np.pi * turn), np.sin(4 * np.pi * turn)], axis=1)
    spiral -= spiral.mean(axis=0)
    rng, shares = np.random.default_rng(0), []
    for _ in range(draws):
        seen = np.maximum(spiral @ rng.normal(size=(2, dimensions)), 0.0)
        inputs = np.column_stack([seen, np.ones(POINTS)])
        read, *_ = np.linalg.lstsq(inputs, spiral, rcond=None)
        shares.append(((spiral - inputs @ read) ** 2).sum() / (spiral**2).sum())
    return float(np.mean(shares))


def _relu_loses_thin_inputs(results: Results) -> Verdict:
    if not results.all:
        raise Missing("the table has no runs yet")
    shares = {dimensions: lost(dimensions) for dimensions in DIMENSIONS}
    shown = ", ".join(f"{share:.4f} in {dimensions}" for dimensions, share in shares.items())
    holds = shares[2] > 0.2 and shares[15] < 0.01
    return Verdict(
        holds, f"share of the variance that is lost, mean of {DRAWS} draws: {shown} dimensions"
    )


def _best(results: Results) -> Mapping[str, tuple[float, NDArray[Any]]]:
    """For each network the step size with the highest accuracy on test frames, and the accuracy of each seed in %."""
    found = {}
    for network in NETWORKS:
        each = {
            size: 100 * results.means(name(network, size), TASK, "accuracy") for size in STEP_SIZES
        }
        size = max(each, key=lambda x, each=each: each[x].mean())  # type: ignore[misc]
        found[network] = size, each[size]
    return found


def _compare(results: Results, others: tuple[str, ...], tolerance: float) -> Verdict:
    found = _best(results)
    shown = "; ".join(
        f"{network} {values.mean():.1f} ± {values.std(ddof=min(1, len(values) - 1)):.1f} (step size {size})"
        for network, (size, values) in found.items()
        if network in (OURS, *others)
    )
    ours = found[OURS][1].mean()
    holds = all(ours >= found[other][1].mean() - tolerance for other in others)
    return Verdict(bool(holds), f"accuracy in %: {shown}")


def _linear(results: Results) -> Verdict:
    return _compare(results, (RELU6,), TOLERANCE)


def _between_bottlenecks(results: Results) -> Verdict:
    return _compare(results, (EXPANSION, NO_SHORTCUT), TOLERANCE)


def _few_multiply_adds(results: Results) -> Verdict:
    return _compare(results, (RESNET,), 2.0)


def _grid(run: Mapping[str, Any]) -> Grid:
    methods = tuple(
        Method(name(network, size), "classifier", {"encoder": encoder, "learning_rate": size, "cycle_updates": run["updates"]})
        for network, encoder in NETWORKS.items()
        for size in STEP_SIZES
    )  # fmt: skip
    return Grid(methods, (TASK,), seeds=3, run=run)


RUNS: dict[Scale, dict[str, Any]] = {
    "small": {"updates": 400, "eval_every": 0, "log_every": 20, "checkpoint_every": 400},
    "full": {"updates": 20_000, "eval_every": 2_000, "log_every": 100, "checkpoint_every": 2_000},
}

PAPER = Paper(
    name="mobilenet-v2",
    title="MobileNetV2: Inverted Residuals and Linear Bottlenecks",
    reference="Sandler et al., 2018, https://arxiv.org/abs/1801.04381",
    method=name(OURS, STEP_SIZES[0]),
    grids={scale: (_grid(run),) for scale, run in RUNS.items()},
    minutes={"small": 20, "full": 1_000},
    claims=(
        Claim(
            "M1", "A ReLU loses much of an input in few dimensions, and little in many",
            "share of a spiral's variance that no linear map recovers: above 0.2 in 2 dimensions, below 0.01 in 15",
            _relu_loses_thin_inputs,
        ),
        Claim(
            "M2", "Linear bottlenecks are better than bottlenecks with ReLU6",
            f"accuracy on test frames, mean of 3 seeds, each network with its best step size: at most {TOLERANCE} "
            "points below ReLU6",
            _linear,
        ),
        Claim(
            "M3", "Shortcuts between bottlenecks are better than shortcuts between expansions, or none",
            f"the same: at most {TOLERANCE} points below each of the others", _between_bottlenecks,
        ),
        Claim(
            "M4", "Few multiply-adds suffice",
            "the same: at most 2 points below a ResNet with 10 times the multiply-adds",
            _few_multiply_adds,
        ),
    ),
    notes="Accuracy on 1,000 frames of levels that were not used for training; the label is the object nearest to the agent. "
    "The networks are MobileNetV2 of width 0.35 and ResNet-8 of width 16, with batch normalisation.",
)  # fmt: skip
