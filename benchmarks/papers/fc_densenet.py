"""FC-DenseNet: Jegou et al., 2017, accurate segmentation with few parameters (table 1).

A small FC-DenseNet is compared with a U-Net and an FCN that have more than five times as many parameters.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlbench.benchmarks.tables.paper import Claim, Grid, Method, Paper, Scale, Verdict
from rlbench.benchmarks.tables.results import Results

OURS = "FC-DenseNet"
NETWORKS = {
    OURS: ("fc-densenet:growth=8,layers=2", "finest", 83_000),
    "U-Net": ("unet:width=16", "finest", 483_000),
    "FCN-8s": ("mobilenet-v2:width=0.5", "fcn-8s", 698_000),
}
"""Name to encoder, head and number of parameters."""
STEP_SIZES = (1e-3, 3e-3)
TASK = "frames-procgen:heist"
RUNS: dict[Scale, dict[str, Any]] = {
    "small": {
        "updates": 400,
        "data_size": 2_000,
        "eval_every": 200,
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
BATCH = 8


def name(network: str, step_size: float) -> str:
    """The method's name."""
    return f"{network}, {step_size:g}"


def _grid(scale: Scale) -> Grid:
    methods = tuple(
        Method(
            name(network, size), "segmenter",
            {"encoder": encoder, "head": head, "learning_rate": size, "batch_size": BATCH},
        )
        for network, (encoder, head, _) in NETWORKS.items()
        for size in STEP_SIZES
    )  # fmt: skip
    return Grid(methods, (TASK,), seeds=3, run=RUNS[scale])


def best(results: Results, network: str) -> tuple[float, NDArray[Any]]:
    """The step size with the largest mean over classes and seeds, and the result of each seed."""
    found = {size: results.means(name(network, size), TASK, "miou") for size in STEP_SIZES}
    size = max(found, key=lambda x: found[x].mean())
    return size, found[size]


def _needs_fewer_parameters(results: Results) -> Verdict:
    found = {network: best(results, network) for network in NETWORKS}
    means = {network: float(values.mean()) for network, (_, values) in found.items()}
    each = "; ".join(
        f"{network} ({NETWORKS[network][2]:,} parameters) {100 * values.mean():.1f} ± {100 * np.std(values, ddof=1):.1f} "
        f"(step size {size:g})"
        for network, (size, values) in found.items()
    )
    others = max(mean for network, mean in means.items() if network != OURS)
    return Verdict(bool(means[OURS] >= others - 0.005), f"mean IoU in %, {each}")


PAPER = Paper(
    name="fc-densenet",
    title="The One Hundred Layers Tiramisu: Fully Convolutional DenseNets for Semantic Segmentation",
    reference="Jegou et al., 2017, https://arxiv.org/abs/1611.09326",
    method=name(OURS, 1e-3),
    grids={scale: (_grid(scale),) for scale in RUNS},
    minutes={"small": 20, "full": 1_200},
    claims=(
        Claim(
            "D1", "FC-DenseNet segments as well as networks with many times its parameters",
            "mean IoU over classes, without the background, mean of 3 seeds, each network with its best step size: at most half a "
            "point below the better of a U-Net and an FCN-8s with more than 5 times as many parameters",
            _needs_fewer_parameters,
        ),
    ),
    notes="Mean IoU over the classes of objects on 1,000 frames of levels that were not used for training; a segmenter that "
    "predicts only background has 0. All networks learn from random weights, with the same number of updates of 8 frames. The "
    "paper's data, CamVid, is not part of the suite.",
)  # fmt: skip
