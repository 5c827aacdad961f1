"""SSD: Liu et al., 2016 (tables 2 and 3), on MiniGrid's objects at mixed sizes.

A detector whose maps of four strides have default boxes of four scales is compared with one that has all scales on a single map,
with one that learns from all negatives instead of the hard ones, with blobs, which only counts colours, and with an untrained one.
"""

from collections.abc import Mapping
from typing import Any

from rlbench.benchmarks.papers._shown import by_seed
from rlbench.benchmarks.papers._step_sizes import best, methods, name
from rlbench.benchmarks.tables.paper import Claim, Grid, Method, Paper, Scale, Verdict
from rlbench.benchmarks.tables.results import Results

TASK = "objects-minigrid-s16"
FULL, ONE, ALL, BLOBS, UNTRAINED = "SSD", "one map", "all negatives", "blobs", "untrained"
STEP_SIZES = (1e-3, 3e-3)
NETWORKS: Mapping[str, Mapping[str, Any]] = {
    FULL: {},
    # The map of stride 8 is the last of three; it has the default boxes of all scales.
    ONE: {"encoder": "conv4:layers=3,width=32,norm=gn", "maps": 1},
    ALL: {"mining": "none"},
}
BAR = 80.0
"""Smallest mean average precision in % for the claim."""
SIZES = ("map", "map_small", "map_medium", "map_large")


def _grids(updates: int, data_size: int) -> tuple[Grid, ...]:
    run = {
        "updates": updates, "data_size": data_size, "eval_every": 0, "log_every": 50, "checkpoint_every": updates // 3,
    }  # fmt: skip
    once = {"updates": 1, "data_size": data_size, "eval_every": 0}
    return (
        Grid(methods("ssd", NETWORKS, STEP_SIZES), (TASK,), seeds=3, run=run),
        Grid((Method(UNTRAINED, "ssd", {"learning_rate": 0.0}),), (TASK,), seeds=3, run=once),
        Grid((Method(BLOBS, "blobs"),), (TASK,), seeds=3, run={**once, "updates": 10}),
    )


def chosen(results: Results, network: str) -> str:
    """The method of a network with the step size that is best."""
    return best(results, network, STEP_SIZES, TASK, "map")


def _points(results: Results, method: str) -> dict[str, float]:
    """Mean average precision in %, by size of the objects, means of the seeds."""
    return {x: 100 * float(results.means(method, TASK, x).mean()) for x in SIZES}


def _detects(results: Results) -> Verdict:
    every = {
        title: chosen(results, title) if title in NETWORKS else title
        for title in (*NETWORKS, BLOBS, UNTRAINED)
    }
    found = {title: _points(results, method) for title, method in every.items()}
    full, one, alike = (found[title] for title in (FULL, ONE, ALL))
    holds = (
        full["map"] >= BAR
        and full["map_small"] >= one["map_small"] + 15
        and full["map"] >= alike["map"] + 5
    )
    shown = [
        f"{every[title]} {'/'.join(f'{x:.1f}' for x in points.values())}"
        for title, points in found.items()
    ]
    seeds = by_seed(100 * results.means(every[FULL], TASK, "map"))
    words = "mean average precision in %, of all/small/medium/large objects"
    return Verdict(bool(holds), f"{words}: {'; '.join(shown)}; SSD by seed {seeds}")


SCALES: dict[Scale, tuple[Grid, ...]] = {"small": _grids(300, 4_000), "full": _grids(10_000, 4_000)}

PAPER = Paper(
    name="ssd",
    title="SSD: Single Shot MultiBox Detector",
    reference="Liu et al., 2016, https://arxiv.org/abs/1512.02325",
    method=name(FULL, STEP_SIZES[0]),
    grids=SCALES,
    minutes={"small": 15, "full": 300},
    claims=(
        Claim(
            "O1", "Maps of several strides find objects of all sizes, and hard negatives make detections more precise",
            "mean average precision at an overlap of 0.5, mean of 3 seeds, each network with its best step size: at least 80 %; for small "
            "objects at least 15 points above one map; at least 5 points above all negatives",
            _detects,
        ),
    ),
    notes="Mean average precision over six classes on 1,000 frames. Small objects cover less than 6x6 pixels, large ones 10x10 or more. "
    "The single map has stride 8 and the default boxes of all four scales.",
)  # fmt: skip
