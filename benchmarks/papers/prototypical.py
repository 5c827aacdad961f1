"""Few-shot classification by the means of embeddings: Snell et al., 2017 (table 1 and figure 2), on glyphs instead of Omniglot.

An episode has five classes that training never saw, with one or five drawings of each to recognise fifteen others by. Squared
Euclidean distances are compared with cosines, with and without a scale, and with prototypes of pixels, which learn nothing.
"""

from collections.abc import Mapping
from typing import Any

from rlbench.benchmarks.papers._step_sizes import best, methods, name
from rlbench.benchmarks.tables.paper import Claim, Grid, Method, Paper, Scale, Verdict
from rlbench.benchmarks.tables.results import Results

TASK = "glyph-sets"
EUCLID, COSINE, SCALED, FEW = "Euclid", "cosine", "cosine, scale 10", "Euclid, 5-way training"
PIXELS, UNTRAINED = "pixels", "untrained"
STEP_SIZES = (1e-3, 3e-3)
ENCODER = "conv4:width=32"
DISTANCES: Mapping[str, Mapping[str, Any]] = {
    EUCLID: {"encoder": ENCODER},
    COSINE: {"encoder": ENCODER, "distance": "cosine"},
    SCALED: {"encoder": ENCODER, "distance": "cosine", "scale": 10.0},
}
WAYS = 20, 5
"""Classes of a training episode, and fewer."""


def _grids(updates: int) -> tuple[Grid, ...]:
    more = WAYS[0] // WAYS[1]
    # Fewer classes in more episodes: the same number of drawings in all.
    few = {FEW: {"encoder": ENCODER, "batch_size": WAYS[1], "halving_updates": 2_000 * more}}
    fixed = (
        Method(UNTRAINED, "prototypical", {"encoder": ENCODER, "learning_rate": 0.0}),
        Method(PIXELS, "prototypical", {"encoder": "flatten"}),
    )
    run = {"updates": updates, "eval_every": 0, "log_every": 50, "checkpoint_every": updates // 4}
    longer = {**run, "updates": more * updates, "checkpoint_every": more * updates // 4}
    once = {"updates": 1, "eval_every": 0}
    return (
        Grid(methods("prototypical", DISTANCES, STEP_SIZES), (TASK,), seeds=3, run=run),
        Grid(methods("prototypical", few, STEP_SIZES), (TASK,), seeds=3, run=longer),
        Grid(fixed, (TASK,), seeds=3, run=once),
    )


def chosen(results: Results, network: str) -> str:
    """The method of a network with the step size that is best with one example of each class."""
    return best(results, network, STEP_SIZES, TASK, "accuracy_1")


def _points(results: Results, method: str) -> tuple[float, float]:
    """Accuracy in % with one and with five examples, means of the seeds."""
    one, five = (100 * results.means(method, TASK, f"accuracy_{k}").mean() for k in (1, 5))
    return float(one), float(five)


def _shown(results: Results, *compared: str) -> str:
    each = [f"{x} {one:.1f}/{five:.1f}" for x in compared for one, five in [_points(results, x)]]
    return f"accuracy in % with 1/5 examples: {'; '.join(each)}"


def _recognises(results: Results) -> Verdict:
    euclid, cosine = (chosen(results, x) for x in (EUCLID, COSINE))
    ours, theirs, pixels = (_points(results, x) for x in (euclid, cosine, PIXELS))
    holds = ours[0] >= 85 and ours[1] >= 93
    holds &= all(x >= y + 5 for x, y in zip(ours, theirs, strict=True))
    holds &= all(x >= y + 30 for x, y in zip(ours, pixels, strict=True))
    return Verdict(holds, _shown(results, euclid, cosine, PIXELS, UNTRAINED))


def _scale(results: Results) -> Verdict:
    every = (chosen(results, x) for x in (EUCLID, COSINE, SCALED))
    return Verdict(None, _shown(results, *every))


def _ways(results: Results) -> Verdict:
    return Verdict(None, _shown(results, *(chosen(results, x) for x in (EUCLID, FEW))))


SCALES: dict[Scale, tuple[Grid, ...]] = {"small": _grids(500), "full": _grids(10_000)}

PAPER = Paper(
    name="prototypical",
    title="Prototypical Networks for Few-shot Learning",
    reference="Snell et al., 2017, https://arxiv.org/abs/1703.05175",
    method=name(EUCLID, STEP_SIZES[0]),
    grids=SCALES,
    minutes={"small": 25, "full": 250},
    claims=(
        Claim(
            "Q1", "Means of embeddings recognise classes that training never saw, and do so better with squared Euclidean distances than with cosines",
            "accuracy in episodes of 5 new classes, mean of 3 seeds, each network with its best step size: at least 85 % with one and "
            "93 % with five examples of each class; with both at least 5 points above cosines without a scale, and 30 points above pixels",
            _recognises,
        ),
        Claim(
            "Q2", "Squared Euclidean distances are better than cosines",
            "none: only reported, with cosines multiplied by 10, because the softmax of cosines, which are at most 1, is never confident",
            _scale,
        ),
        Claim(
            "Q3", "Training on more classes than in the test helps",
            "none: accuracy after training episodes of 20 and of 5 classes, with the same number of drawings in all, is only reported", _ways,
        ),
    ),
    notes="Accuracy with five examples; chance is 0.20. The encoder has 32 channels (paper: 64), and training episodes have 20 classes (paper: 60). "
    "Batch normalisation uses its running statistics in tests.",
)  # fmt: skip
