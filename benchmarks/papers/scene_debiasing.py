"""Actions without their scenes: Choi et al., 2019 (tables 1 to 3), on drawn figures instead of videos.

In 85 % of the training frames the background gives the action away; in tests it does not. A classifier is compared with one
whose features should hide the scene from an adversary, and with one that should also be uncertain where nobody acts.
"""

from collections.abc import Mapping
from typing import Any

from rlbench.benchmarks.papers._step_sizes import best, methods, name
from rlbench.benchmarks.tables.paper import Claim, Grid, Method, Paper, Scale, Verdict
from rlbench.benchmarks.tables.results import Results

TASK, TRAPS = "scenes-85", ("scenes-95", "scenes-70")
PLAIN, ADVERSARY, BOTH, UNTRAINED = "classifier", "adversary", "adversary and masks", "untrained"
STEP_SIZES = (1e-3, 3e-3)
PARTS: Mapping[str, Mapping[str, Any]] = {
    PLAIN: {"reversal": 0.0, "mask_weight": 0.0},
    ADVERSARY: {"mask_weight": 0.0},
    BOTH: {},
}
SCRATCH = {
    "pretrain_updates": 0, "adversary_updates": 0, "normalise_features": False, "encoder_learning_rate": 1e-3,
    "head_learning_rate": 1e-3, "mask_weight": 0.0,
}  # fmt: skip
"""Everything from the start, with one step size and without LayerNorm."""
FROM_SCRATCH = {
    "classifier from scratch": {**SCRATCH, "reversal": 0.0},
    "adversary from scratch": {**SCRATCH, "reversal": 1.0},
}


def _grids(pretraining: int, after: int) -> tuple[Grid, ...]:
    parts = {title: {**x, "pretrain_updates": pretraining} for title, x in PARTS.items()}
    untrained = dict.fromkeys(("learning_rate", "encoder_learning_rate", "head_learning_rate"), 0.0)
    scratch = tuple(Method(title, "debiasing", x) for title, x in FROM_SCRATCH.items())
    updates = pretraining + after
    run = {"updates": updates, "eval_every": 0, "log_every": 50, "checkpoint_every": updates // 3}
    once = {"updates": 1, "eval_every": 0}
    return (
        Grid(methods("debiasing", parts, STEP_SIZES), (TASK,), seeds=3, run=run),
        Grid((Method(UNTRAINED, "debiasing", untrained),), (TASK,), seeds=3, run=once),
        Grid(scratch, TRAPS, seeds=3, run=run),
    )


def chosen(results: Results, part: str) -> str:
    """The method with the step size of pre-training that is best where scenes do not agree with actions."""
    return best(results, part, STEP_SIZES, TASK)


def _shown(results: Results, method: str, task: str) -> str:
    names = ("accuracy", "adversary", "probe", "confidence")
    found = [100 * results.means(method, task, x).mean() for x in names]
    return f"{method} {'/'.join(f'{x:.1f}' for x in found)}"


WORDS = "accuracy/accuracy of the adversary/of a new probe of the scene/confidence without an actor, in %"


def _debiases(results: Results) -> Verdict:
    every = [chosen(results, part) for part in PARTS]
    plain, adversary, both = (100 * results.means(x, TASK, "accuracy").mean() for x in every)
    holds = bool(adversary >= plain + 8 and both >= plain + 20)
    shown = "; ".join(_shown(results, x, TASK) for x in (*every, UNTRAINED))
    return Verdict(holds, f"{WORDS}: {shown}")


def _scratch(results: Results) -> Verdict:
    shown = [f"{x}: {_shown(results, y, x)}" for x in TRAPS for y in FROM_SCRATCH]
    return Verdict(None, f"{WORDS}: {'; '.join(shown)}")


SCALES: dict[Scale, tuple[Grid, ...]] = {"small": _grids(400, 200), "full": _grids(6_000, 3_000)}

PAPER = Paper(
    name="scene-debiasing",
    title="Why Can't I Dance in the Mall? Learning to Mitigate Scene Bias in Action Recognition",
    reference="Choi et al., 2019, https://arxiv.org/abs/1912.05534",
    method=name(BOTH, STEP_SIZES[0]),
    grids=SCALES,
    minutes={"small": 25, "full": 250},
    claims=(
        Claim(
            "G1", "Hiding the scene from an adversary, and uncertainty without an actor, help where scenes mislead",
            "accuracy on frames whose scene is independent of the action, after training with 85 % agreement, mean of 3 seeds, each method "
            "with its best step size: with the adversary at least 8 points above the plain classifier, with both losses at least 20",
            _debiases,
        ),
        Claim(
            "G2", "Without pre-training, with one step size and unbounded features, the adversary destroys the features",
            "none: both are only reported, for an agreement of 95 % and of 70 %", _scratch,
        ),
    ),
    notes="Accuracy on 2,000 frames; chance is 0.25. An adversary near chance does not show that the scene is gone from the features, so the "
    "probe, a linear classifier, is trained on them afterwards.",
)  # fmt: skip
