"""FPN: Lin et al., 2017 (table 1), on MiniGrid's objects at mixed sizes.

Region proposals on a pyramid, each of whose maps has default boxes of one size, are compared with proposals on a single map that has
those of all sizes, on a pyramid without the top-down path, on one without lateral connections, and on the finest map of the
pyramid alone.
"""

from collections.abc import Mapping
from typing import Any

from rlbench.benchmarks.papers._shown import by_seed
from rlbench.benchmarks.papers._step_sizes import best, methods, name
from rlbench.benchmarks.tables.paper import Claim, Grid, Method, Paper, Scale, Verdict
from rlbench.benchmarks.tables.results import Results

TASK = "objects-minigrid-s16"
STEP_SIZES = (1e-3, 3e-3)
FULL, SINGLE, LATERAL, TOP_DOWN, FINEST = (
    "FPN", "single map", "no top-down path", "no lateral connections", "finest map of FPN",
)  # fmt: skip
UNTRAINED = "untrained"
OF = "conv4/layers=3/width=32/norm=gn"
PYRAMID: Mapping[str, Any] = {"strides": (2, 4, 8), "sizes": (5.0, 9.0, 16.0)}
NETWORKS: Mapping[str, Mapping[str, Any]] = {
    FULL: {"encoder": f"fpn:of={OF}", **PYRAMID},
    SINGLE: {"encoder": "conv4:layers=3,width=32,norm=gn"},
    LATERAL: {"encoder": f"fpn:of={OF},paths=lateral", **PYRAMID},
    TOP_DOWN: {"encoder": f"fpn:of={OF},paths=top-down", **PYRAMID},
    FINEST: {"encoder": f"fpn:of={OF},only=2", "strides": (2,), "sizes": (5.0, 9.0, 16.0)},
}
SIZES = ("recall", "recall_small", "recall_medium", "recall_large")


def _grids(updates: int) -> tuple[Grid, ...]:
    run = {"updates": updates, "eval_every": 0, "log_every": 50, "checkpoint_every": updates // 3}
    untrained = Method(UNTRAINED, "proposals", {**NETWORKS[FULL], "learning_rate": 0.0})
    once = {"updates": 1, "eval_every": 0}
    return (
        Grid(methods("proposals", NETWORKS, STEP_SIZES), (TASK,), seeds=3, run=run),
        Grid((untrained,), (TASK,), seeds=3, run=once),
    )


def _recalls(results: Results, title: str) -> tuple[dict[str, float], str]:
    """Average recall in %, of all objects and by size, means of the seeds; and as a text."""
    method = title if title == UNTRAINED else best(results, title, STEP_SIZES, TASK, "recall")
    means = {x: 100 * float(results.means(method, TASK, x).mean()) for x in SIZES}
    seeds = by_seed(100 * results.means(method, TASK, "recall"))
    return means, f"{method} {'/'.join(f'{x:.1f}' for x in means.values())}, by seed {seeds}"


def _finds_small(results: Results) -> Verdict:
    found = {title: _recalls(results, title) for title in (*NETWORKS, UNTRAINED)}
    small = {title: means["recall_small"] for title, (means, _) in found.items()}
    large = {title: means["recall_large"] for title, (means, _) in found.items()}
    holds = (
        small[FULL] >= small[SINGLE] + 10
        and small[FULL] >= small[LATERAL] + 3
        and large[FULL] >= large[SINGLE] - 2
    )
    shown = "; ".join(text for _, text in found.values())
    return Verdict(bool(holds), f"average recall in %, of all/small/medium/large objects: {shown}")


SCALES: dict[Scale, tuple[Grid, ...]] = {"small": _grids(150), "full": _grids(6_000)}

PAPER = Paper(
    name="fpn",
    title="Feature Pyramid Networks for Object Detection",
    reference="Lin et al., 2017, https://arxiv.org/abs/1612.03144",
    method=name(FULL, STEP_SIZES[0]),
    grids=SCALES,
    minutes={"small": 20, "full": 400},
    claims=(
        Claim(
            "P1", "Proposals on a pyramid find small objects that a single map misses, and the top-down path is needed",
            "average recall of 20 proposals, mean of 3 seeds, each network with its best step size: of small objects at least 10 points above a "
            "single map and 3 above a pyramid without top-down path; of large objects at most 2 points below a single map",
            _finds_small,
        ),
    ),
    notes="Average recall of 20 proposals on 1,000 frames, a mean over overlaps from 0.5 to 0.95. Small objects cover less than 6x6 pixels, "
    "large ones 10x10 or more. The single map has stride 8.",
)  # fmt: skip
