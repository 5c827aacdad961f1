"""Fully convolutional networks: Long et al., 2015, scores of finer maps sharpen a segmentation.

The paper enlarges scores of stride 32, and then fuses them with scores of strides 16 and 8 (table 2, figure 6). Here the
strides are 8, 4 and 2, on frames of 64 pixels.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlbench.benchmarks.tables.paper import Claim, Grid, Method, Paper, Scale, Verdict
from rlbench.benchmarks.tables.results import Results

HEADS = ("fcn-32s", "fcn-16s", "fcn-8s")
STEP_SIZES = (1e-3, 3e-3)
TASK = "frames-procgen:heist"
ENCODER = "impala"
RUNS: dict[Scale, dict[str, Any]] = {
    "small": {
        "updates": 400,
        "data_size": 2_000,
        "eval_every": 100,
        "log_every": 20,
        "checkpoint_every": 400,
    },
    "full": {
        "updates": 20_000,
        "data_size": 5_000,
        "eval_every": 1_000,
        "log_every": 100,
        "checkpoint_every": 1_000,
    },
}


def name(head: str, step_size: float) -> str:
    """The method's name."""
    return f"{head}, {step_size:g}"


def _grid(scale: Scale) -> Grid:
    methods = tuple(
        Method(
            name(head, size), "segmenter", {"encoder": ENCODER, "head": head, "learning_rate": size}
        )
        for head in HEADS
        for size in STEP_SIZES
    )
    return Grid(methods, (TASK,), seeds=3, run=RUNS[scale])


def best(results: Results, head: str) -> tuple[float, NDArray[Any]]:
    """The step size with the largest mean over classes and seeds, and the result of each seed."""
    found = {size: results.means(name(head, size), TASK, "miou") for size in STEP_SIZES}
    size = max(found, key=lambda x: found[x].mean())
    return size, found[size]


def _finer_is_sharper(results: Results) -> Verdict:
    found = {head: best(results, head) for head in HEADS}
    coarse, middle, fine = (100 * float(values.mean()) for _, values in found.values())
    each = "; ".join(
        f"{head} {100 * values.mean():.1f} ± {100 * np.std(values, ddof=1):.1f} (step size {size:g})"
        for head, (size, values) in found.items()
    )
    return Verdict(bool(fine >= middle + 2 >= coarse + 4), f"mean IoU in %, {each}")


PAPER = Paper(
    name="fcn",
    title="Fully Convolutional Networks for Semantic Segmentation",
    reference="Long et al., 2015, https://arxiv.org/abs/1411.4038",
    method=name("fcn-8s", 1e-3),
    grids={scale: (_grid(scale),) for scale in RUNS},
    minutes={"small": 10, "full": 600},
    claims=(
        Claim(
            "F1", "Fusing scores of finer maps makes the segmentation more accurate",
            "mean IoU over classes, without the background, mean of 3 seeds, each head with its best step size: 8s at least 2 "
            "points above 16s, 16s at least 2 points above 32s",
            _finer_is_sharper,
        ),
    ),
    notes="Mean IoU over the classes of objects on 1,000 frames of levels that were not used for training; a segmenter that "
    "predicts only background has 0. The encoder is that of IMPALA, with maps of strides 2, 4 and 8, trained from random "
    "weights. The paper fine-tunes networks that were trained on ImageNet, which is not part of the suite.",
)  # fmt: skip
