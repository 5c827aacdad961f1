"""Wasserstein dependency measure: Ozair et al., 2019 (figures 3 and 4), with grids of handwritten digits.

Two images have one, four or nine digits in common, so their mutual information is 2.3, 9.2 or 20.7 nats. How many of the digits do linear classifiers find in
features that were learned without labels, by contrastive predictive coding and by its Wasserstein form?
"""

from collections.abc import Mapping
from typing import Any

from rlbench.benchmarks.papers._shown import by_seed
from rlbench.benchmarks.papers._step_sizes import best, methods, name
from rlbench.benchmarks.tables.paper import Claim, Grid, Method, Paper, Scale, Verdict
from rlbench.benchmarks.tables.results import Results

ONE, FOUR, NINE = TASKS = ("digit-grids-1", "digit-grids-4", "digit-grids-9")
CPC, WPC, SMALLER = "CPC", "WPC", "CPC, batches of 16"
NETWORKS: Mapping[str, Mapping[str, Any]] = {
    CPC: {"objective": "cpc"},
    WPC: {"objective": "wpc"},
    SMALLER: {"objective": "cpc", "batch_size": 16},
}
STEP_SIZES = (3e-4, 1e-3)
UNTRAINED = "untrained"


def _grids(updates: int) -> tuple[Grid, ...]:
    run = {"updates": updates, "eval_every": 0, "log_every": 50, "checkpoint_every": updates // 2}
    # Its linear classifiers learn as long as those of the others.
    untrained = Method(UNTRAINED, "contrastive", {"objective": "cpc", "learning_rate": 0.0})
    return (
        Grid(methods("contrastive", NETWORKS, STEP_SIZES), TASKS, seeds=3, run=run),
        Grid((untrained,), TASKS, seeds=3, run=run),
    )


def _found(results: Results, title: str, task: str) -> tuple[float, str]:
    """Mean accuracy of the linear classifiers in % with the best step size, and a text."""
    method = title if title == UNTRAINED else best(results, title, STEP_SIZES, task, "probe")
    each = 100 * results.means(method, task, "probe")
    return float(each.mean()), f"{method} {by_seed(each)}"


def _more(results: Results) -> Verdict:
    parts, found = [], {}
    for task in (ONE, NINE):
        every = {title: _found(results, title, task) for title in (CPC, WPC, UNTRAINED)}
        found[task] = {title: mean for title, (mean, _) in every.items()}
        parts.append(f"{task}: {', '.join(words for _, words in every.values())}")
    holds = found[NINE][WPC] >= found[NINE][CPC] + 5 and min(found[ONE][CPC], found[ONE][WPC]) >= 85
    return Verdict(bool(holds), f"accuracy of linear classifiers in %, by seed: {'; '.join(parts)}")


def _falls(results: Results) -> Verdict:
    parts = [
        f"{title}: {', '.join(_found(results, title, task)[1] for task in TASKS)}"
        for title in NETWORKS
    ]
    return Verdict(None, f"accuracy in % with one, four and nine digits: {'; '.join(parts)}")


SCALES: dict[Scale, tuple[Grid, ...]] = {"small": _grids(400), "full": _grids(20_000)}

PAPER = Paper(
    name="wasserstein-dependency",
    title="Wasserstein Dependency Measure for Representation Learning",
    reference="Ozair et al., 2019, https://arxiv.org/abs/1903.11780",
    method=name(WPC, STEP_SIZES[0]),
    grids=SCALES,
    minutes={"small": 10, "full": 400},
    claims=(
        Claim(
            "W1", "If observations have much in common, features of the Wasserstein form contain more of it",
            "accuracy of linear classifiers, mean over digits and 3 seeds, each method with its best step size: with nine digits WPC at least 5 points above CPC; with one "
            "digit both at least 85 %",
            _more,
        ),
        Claim(
            "W2", "Both lose accuracy with the number of digits, and CPC also with smaller batches", "none: only reported", _falls,
        ),
    ),
    notes="Accuracy of recognising the true partner among as many candidates as a batch has; the claims are about linear classifiers of the digits, whose chance is 0.10.",
)  # fmt: skip
