"""An embedding of poses that does not depend on the view: Sun et al., 2020, on poses of a humanoid robot instead of people.

Which views of another camera show the same pose? Pr-VIPE is compared with an embedding without variances and with a prediction of the
points in space, by the same network, and with distances of key points in the plane and an untrained network.
"""

from collections.abc import Mapping
from typing import Any

from rlbench.benchmarks.papers._step_sizes import best, methods, name
from rlbench.benchmarks.tables.paper import Claim, Grid, Method, Paper, Scale, Verdict
from rlbench.benchmarks.tables.results import Results

TASK = "poses:humanoid"
VIPE, DISTANCE, LIFTING = "Pr-VIPE", "L2-VIPE", "lifting"
UNTRAINED, PLANE, PROCRUSTES = "untrained", "2-D L2", "2-D Procrustes"
STEP_SIZES = (1e-3, 3e-3)
KAPPA = 0.175
"""About 0.4 % of all pairs of poses match. With the paper's 0.1 hardly any do, as random joint angles probably differ more than the poses of people."""
NETWORKS: Mapping[str, Mapping[str, Any]] = {
    VIPE: {},
    DISTANCE: {"objective": "distance", "margin": 0.2},
    LIFTING: {"objective": "lifting"},
}
MEASURES = ("exact_1", "exact_5", "exact_20", "match_1", "match_5", "match_20")


def _grids(updates: int, **settings: Any) -> tuple[Grid, Grid]:
    own = {"kappa": KAPPA, **settings}
    learned = {title: {**own, **more} for title, more in NETWORKS.items()}
    fixed = (
        Method(UNTRAINED, "pr-vipe", {**own, "learning_rate": 0.0}),
        Method(PLANE, "pose-nearest", {"metric": "l2", "kappa": KAPPA}),
        Method(PROCRUSTES, "pose-nearest", {"metric": "procrustes", "kappa": KAPPA}),
    )
    run = {"updates": updates, "eval_every": 0, "log_every": 50, "checkpoint_every": updates // 4}
    return (
        Grid(methods("pr-vipe", learned, STEP_SIZES), (TASK,), seeds=3, run=run),
        Grid(fixed, (TASK,), seeds=3, run={"updates": 1, "eval_every": 0}),
    )


def chosen(results: Results, title: str) -> str:
    """The method of a network with its best step size, or of a baseline without one."""
    return best(results, title, STEP_SIZES, TASK, "exact_1") if title in NETWORKS else title


def _found(results: Results) -> tuple[dict[str, tuple[float, ...]], str]:
    """Mean shares of retrieved poses in % of each method, in the order of `MEASURES`, and as a text."""
    found, shown = {}, []
    for title in (*NETWORKS, PROCRUSTES, PLANE, UNTRAINED):
        method = chosen(results, title)
        shares = (100 * results.means(method, TASK, measure).mean() for measure in MEASURES)
        found[title] = tuple(map(float, shares))
        numbers = [f"{x:.1f}" for x in found[title]]
        shown.append(f"{method} {'/'.join(numbers[:3])} and {'/'.join(numbers[3:])}")
    return found, f"% of exact and of matching poses among the first 1/5/20: {'; '.join(shown)}"


def _retrieves(results: Results) -> Verdict:
    found, shown = _found(results)
    exact, match = MEASURES.index("exact_1"), MEASURES.index("match_1")
    own, turned, plain = (found[title] for title in (VIPE, PROCRUSTES, PLANE))
    holds = (
        own[exact] >= max(2 * turned[exact], 5 * plain[exact])
        and own[match] >= turned[match] + 5
    )  # fmt: skip
    return Verdict(holds, shown)


def _ambiguity(results: Results) -> Verdict:
    each = results.means(chosen(results, VIPE), TASK, "ambiguity")
    untrained = results.means(UNTRAINED, TASK, "ambiguity")
    shown = "/".join(f"{x:.2f}" for x in each)
    return Verdict(
        bool((each > 0).all()), f"correlation by seed: {shown}; untrained {untrained.mean():.2f}"
    )


def _lifting(results: Results) -> Verdict:
    return Verdict(None, _found(results)[1])


SCALES: dict[Scale, tuple[Grid, ...]] = {
    "small": _grids(1_000, encoder="pose:width=256", samples=3, batch_size=96),
    "full": _grids(50_000),
}

PAPER = Paper(
    name="pr-vipe",
    title="View-Invariant Probabilistic Embedding for Human Pose",
    reference="Sun et al., 2020, https://arxiv.org/abs/1912.01001",
    method=name(VIPE, STEP_SIZES[0]),
    grids=SCALES,
    minutes={"small": 12, "full": 60_000},
    claims=(
        Claim(
            "V1", "The embedding retrieves poses across views better than key points in the plane",
            "of 2,000 unseen poses, mean of 3 seeds, with the best step size: the same pose is retrieved first at least 2 times as often as by "
            "2-D Procrustes distances and 5 times as often as by 2-D distances, and a matching pose (kappa 0.175) is first at least 5 points "
            "more often than by 2-D Procrustes distances",
            _retrieves,
        ),
        Claim(
            "V2", "Ambiguous views have larger standard deviations",
            "correlation of the mean standard deviation of a view with the number of views of other poses within kappa in the plane: above 0 "
            "for every seed",
            _ambiguity,
        ),
        Claim(
            "V3", "Pr-VIPE is compared with lifting, which predicts the points in space and then aligns them",
            "none: retrieval by all methods is only reported", _lifting,
        ),
    ),
    notes="Share of queries for which the index of 2,000 views, one of each unseen pose, has the same pose, or a matching one, among the "
    "first k. By chance it is 0.05 % for the same pose and k = 1.",
)  # fmt: skip
