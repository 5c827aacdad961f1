"""Mask R-CNN: He et al., 2017 (table 2), on MiniGrid's objects at mixed sizes.

The heads alone are compared first, with regions that are the true boxes with random changes: features are read by RoIAlign, by RoIAlign
without the shift of half a cell, or by RoIPool, and each pixel of a mask is decided for each class alone, or the classes compete for it. Then
both stages are trained together.
"""

from collections.abc import Mapping
from typing import Any

from rlbench.benchmarks.papers._shown import by_seed
from rlbench.benchmarks.papers._step_sizes import best, methods, name
from rlbench.benchmarks.tables.paper import Claim, Grid, Method, Paper, Scale, Verdict
from rlbench.benchmarks.tables.results import Results

TASK = "objects-minigrid-s16"
STEP_SIZES = (1e-3, 3e-3)
ALIGN, MISALIGNED, POOL, SOFTMAX = "RoIAlign", "misaligned", "RoIPool", "RoIAlign, softmax"
WHOLE, UNTRAINED = "both stages", "untrained"
HEADS: Mapping[str, Mapping[str, Any]] = {
    ALIGN: {},
    MISALIGNED: {"pooling": "misaligned"},
    POOL: {"pooling": "pool"},
    SOFTMAX: {"mask_loss": "softmax"},
}
BAR = 70.0
"""Smallest mean average precision of the masks of both stages in % for the claim."""


def _grids(updates: Mapping[str, int]) -> tuple[Grid, ...]:
    networks = {title: {"source": "true-boxes", **settings} for title, settings in HEADS.items()}
    grids = []
    for compared, count in ((networks, updates["heads"]), ({WHOLE: {}}, updates["whole"])):
        run = {"updates": count, "eval_every": 0, "log_every": 50, "checkpoint_every": count // 3}
        grids.append(Grid(methods("mask-rcnn", compared, STEP_SIZES), (TASK,), seeds=3, run=run))
    untrained = Method(UNTRAINED, "mask-rcnn", {"learning_rate": 0.0})
    once = Grid((untrained,), (TASK,), seeds=3, run={"updates": 1, "eval_every": 0})
    return (*grids, once)


def _points(results: Results, title: str, measure: str) -> tuple[float, str]:
    """Mean over seeds in % with the step size that is best for the mean average precision of masks, and the values of all seeds."""
    method = title if title == UNTRAINED else best(results, title, STEP_SIZES, TASK, "mask_map")
    found = 100 * results.means(method, TASK, measure)
    return float(found.mean()), f"{method}: {by_seed(found)}"


def _pools(results: Results) -> Verdict:
    strict = {title: _points(results, title, "mask_map_75") for title in HEADS}
    usual = {title: _points(results, title, "mask_map") for title in (ALIGN, SOFTMAX)}
    holds = strict[ALIGN][0] >= strict[POOL][0] + 5 and usual[ALIGN][0] >= usual[SOFTMAX][0] + 2
    at_75 = "; ".join(shown for _, shown in strict.values())
    at_50 = "; ".join(shown for _, shown in usual.values())
    return Verdict(
        bool(holds), f"average precision of masks in % (by seed), at 0.75: {at_75}; at 0.5: {at_50}"
    )


def _finds(results: Results) -> Verdict:
    masks, shown = _points(results, WHOLE, "mask_map")
    _, boxes = _points(results, WHOLE, "map")
    _, untrained = _points(results, UNTRAINED, "mask_map")
    return Verdict(
        bool(masks >= BAR),
        f"average precision in % (by seed), of masks, {shown}; {untrained}; of boxes, {boxes}",
    )


SCALES: dict[Scale, tuple[Grid, ...]] = {
    "small": _grids({"heads": 150, "whole": 450}),
    "full": _grids({"heads": 6_000, "whole": 12_000}),
}

PAPER = Paper(
    name="mask-rcnn",
    title="Mask R-CNN",
    reference="He et al., 2017, https://arxiv.org/abs/1703.06870",
    method=name(WHOLE, STEP_SIZES[0]),
    grids=SCALES,
    minutes={"small": 20, "full": 400},
    claims=(
        Claim(
            "K1", "Masks are more precise if regions are not rounded, and if classes do not compete for pixels",
            "average precision of masks with true boxes that are changed at random, mean of 3 seeds, each form with its best step size: at "
            "an overlap of 0.75 RoIAlign at least 5 points above RoIPool; at 0.5 sigmoids at least 2 points above a softmax",
            _pools,
        ),
        Claim(
            "K2", "Both stages together find objects and their masks",
            "average precision of masks at an overlap of 0.5, mean of 3 seeds, best step size: at least 70 %", _finds,
        ),
    ),
    notes="Mean average precision over six classes on 1,000 frames. All networks have one map of stride 8; objects have sides of 1 to 16 pixels.",
)  # fmt: skip
