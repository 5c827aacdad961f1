"""Taskonomy: Zamir et al., 2018 (figures 7 and 9 to 12), on views of a simulated robot instead of buildings.

Ten objectives pre-train one encoder each. Transfers measure how well each of them serves the others with few labels, and an integer
programme chooses three that serve all ten.
"""

from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from rlbench.benchmarks.papers._shown import by_seed
from rlbench.benchmarks.tables.paper import AnalysisGrid, Claim, Grid, Method, Paper, Scale, Verdict
from rlbench.benchmarks.tables.results import Missing, Results
from rlbench.benchmarks.training.analysing import Analysed

TASK = "views-mujoco:halfcheetah"
OBJECTIVES = (
    "autoencoding", "denoising", "colourisation", "edges", "segmentation", "depth", "normals", "azimuth",
    "inverse-dynamics", "return",
)  # fmt: skip
BUDGET = 3
LENGTHS: dict[Scale, tuple[int, int]] = {"small": (300, 100), "full": (20_000, 2_000)}
"""Updates of a run, and of each readout of a transfer."""
SHARE, BEATEN, AGREEMENT = 0.7, 0.95, 0.6
"""Least share of targets that a transfer serves better than scratch, least share of random choices that are worse, and least rank correlation
between seeds."""


def _grids(updates: int) -> tuple[Grid, ...]:
    methods = tuple(Method(name, "pretext", {"objective": name}) for name in OBJECTIVES)
    untrained = Method("untrained", "pretext", {"objective": "depth", "learning_rate": 0.0})
    run = {"updates": updates, "eval_every": 0, "log_every": 50, "checkpoint_every": updates // 2}
    return (
        Grid(methods, (TASK,), seeds=3, run=run),
        Grid((untrained,), (TASK,), seeds=3, run={"updates": 1, "eval_every": 0}),
    )


def _analyses(updates: int) -> tuple[AnalysisGrid, ...]:
    settings = {"updates": updates, "budget": BUDGET, "candidates": 4}
    return (AnalysisGrid("transfers", OBJECTIVES, (TASK,), seeds=3, settings=settings),)


def exhaustive(
    sources: NDArray[np.bool_],
    target: NDArray[np.int64],
    affinity: NDArray[np.float64],
    budget: int,
) -> float:
    """The largest sum of affinities of one transfer for each target over all sets of sources; -inf if none serves all targets.

    Args:
        sources: Which sources each transfer reads, [E, S].
        target: Target of each transfer, [E].
        affinity: [E].
        budget: Number of sources.
    """
    count, best = sources.shape[1], -np.inf
    for chosen in combinations(range(count), min(budget, count)):
        others = np.setdiff1d(np.arange(count), chosen)
        usable = np.where(sources[:, others].any(1), -np.inf, affinity)
        best = max(best, sum(usable[target == t].max() for t in range(target.max() + 1)))
    return float(best)


def rank_correlation(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Spearman's correlation of two lists without ties.

    >>> round(rank_correlation(np.array([1.0, 5, 9]), np.array([2.0, 1, 3])), 6)
    0.5
    """
    ranks = np.array([np.argsort(np.argsort(x)) for x in (one, other)], float)
    return float(np.corrcoef(ranks)[0, 1])


def agreement(affinities: list[NDArray[np.float64]]) -> float:
    """Mean rank correlation of the sources of a target between two seeds, over targets and pairs of seeds.

    Args:
        affinities: Matrix of each seed, [S, T]; NaN where a source is the target.

    Raises:
        Missing: There is only one seed.
    """
    if len(affinities) < 2:
        raise Missing("the order of sources can be compared between two seeds or more")
    found = [
        rank_correlation(x[np.isfinite(x)], y[np.isfinite(y)])
        for one, other in combinations(affinities, 2)
        for x, y in zip(one.T, other.T, strict=True)
    ]
    return float(np.mean(found))


def _analysed(results: Results) -> list[Analysed]:
    return results.analysed("transfers", OBJECTIVES[0], TASK)


def _solver(results: Results) -> Verdict:
    pairs = []
    for each in _analysed(results):
        sources, target, affinity = (
            each.columns[f"transfer_{x}"] for x in ("sources", "target", "affinity")
        )
        best = exhaustive(sources, target, affinity, BUDGET)
        pairs.append((each.numbers["sum of the chosen affinities"], best))
    shown = ", ".join(f"{x:.4f}/{y:.4f}" for x, y in pairs)
    holds = all(abs(x - y) <= 1e-6 for x, y in pairs)
    return Verdict(
        holds, f"sum of affinities by the programme/by exhaustive search, by seed: {shown}"
    )


def _transfers(results: Results) -> Verdict:
    every = _analysed(results)
    share, beaten = (
        np.array([x.numbers[name] for x in every])
        for name in (
            "targets that the best source serves better than scratch", "share of random choices with a larger loss",
        )
    )  # fmt: skip
    order = agreement([x.columns["affinity"] for x in every])
    holds = bool(share.mean() >= SHARE and beaten.mean() >= BEATEN and order >= AGREEMENT)
    chosen = "; ".join(
        ", ".join(x.columns["objectives"][x.columns["chosen"].any(0)].tolist()) for x in every
    )
    return Verdict(
        holds,
        f"targets served better than from scratch {by_seed(100 * share)} %; random choices that are worse {by_seed(100 * beaten)} %; rank "
        f"correlation of the sources' affinities between seeds {order:.2f}; chosen sources, by seed: {chosen}",
    )


def _objectives(results: Results) -> Verdict:
    shown = [
        f"{name} {by_seed(100 * results.means(name, TASK, 'explained'))}"
        for name in (*OBJECTIVES, "untrained")
    ]
    return Verdict(None, f"explained part of the loss in %: {'; '.join(shown)}")


PAPER = Paper(
    name="taskonomy",
    title="Taskonomy: Disentangling Task Transfer Learning",
    reference="Zamir et al., 2018, https://arxiv.org/abs/1804.08328",
    method="depth",
    grids={scale: _grids(updates) for scale, (updates, _) in LENGTHS.items()},
    minutes={"small": 20, "full": 600},
    analyses={scale: _analyses(updates) for scale, (_, updates) in LENGTHS.items()},
    claims=(
        Claim(
            "T1", "An integer programme chooses the sources that serve all targets best under a budget",
            "the sum of the affinities equals that of an exhaustive search over all sets of three sources to 1e-6, every seed", _solver,
        ),
        Claim(
            "T2", "Transfer from the best source beats learning from scratch with few labels; the chosen sources beat random ones; "
            "affinities are a property of the tasks",
            f"with 200 labels, means of 3 seeds: the best source has a smaller loss than a network from scratch on more than half of the "
            f"pictures for at least {SHARE:.0%} of the targets; at least {BEATEN:.0%} of 1,000 random choices of three sources have a larger "
            f"loss on pictures that the choice was not made on; the sources' affinities for a target have a rank correlation of at least "
            f"{AGREEMENT} between seeds, on average",
            _transfers,
        ),
        Claim("T3", "Every objective can be learned", "none: only reported", _objectives),
    ),
    notes="Part of the loss of the best constant prediction that a run explains, on 1,000 views; 0 is that of the constant. Losses of different "
    "objectives are not comparable.",
)  # fmt: skip
