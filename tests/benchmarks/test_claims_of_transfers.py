"""Claims of Taskonomy, judged on made-up results."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pytest

from rlbench.benchmarks.papers import load_paper, taskonomy
from rlbench.benchmarks.papers.taskonomy import OBJECTIVES, TASK, agreement, exhaustive
from rlbench.benchmarks.tables.results import Missing, Results
from rlbench.benchmarks.training.analysing import Analysed
from rlbench.benchmarks.training.learners import load_learner
from tests.benchmarks.test_claims_of_papers import result, verdict


def test_ten_objectives_with_three_seeds_are_one_analysis() -> None:
    found = load_paper("taskonomy")
    for scale, grids in found.grids.items():
        assert all(grid.seeds == 3 for grid in grids)
        names = [method.name for grid in grids for method in grid.methods]
        assert len(set(names)) == len(names) == 11
        assert {found.method, "untrained"} <= {*names}
        for grid in grids:
            for method in grid.methods:
                load_learner(method.learner).Config(**method.settings)
        (analysis,) = found.analyses[scale]
        assert [*analysis.methods, "untrained"] == names
    assert found.minutes["small"] <= 20
    for claim in found.claims:
        with pytest.raises(Missing):
            claim.judge(Results([]))


def test_exhaustive_search_by_hand() -> None:
    # Three sources and two targets; the pair (1, 2) serves target 0 best, but then source 0, which serves target 1 best, is left out.
    sources = np.array([[1, 0, 0], [0, 1, 1], [1, 0, 0], [0, 0, 1]], bool)
    target, affinity = np.array([0, 0, 1, 1]), np.array([0.3, 0.7, 0.8, 0.2])
    assert [exhaustive(sources, target, affinity, k) for k in (1, 2, 3, 9)] == pytest.approx([1.1, 1.1, 1.5, 1.5])  # fmt: skip
    assert exhaustive(sources[:3], target[:3], affinity[:3], 1) == pytest.approx(1.1)
    assert exhaustive(sources[1:3], target[1:3], affinity[1:3], 2) == -np.inf


def test_agreement_of_seeds_by_hand() -> None:
    one = np.array([[np.nan, 3.0, 1], [1, np.nan, 2], [2, 4, np.nan], [3, 5, 3]])
    other = one.copy()
    other[[1, 2, 3], 0] = 3, 2, 1  # The opposite order for the first target.
    assert agreement([one, 2 * one]) == pytest.approx(1)
    assert agreement([one, other]) == pytest.approx((-1 + 1 + 1) / 3)
    assert agreement([one, one, other]) == pytest.approx((1 + 2 / 3) / 3)
    with pytest.raises(Missing, match="two seeds"):
        agreement([one])


def analysed(
    seed: int, served: float, beaten: float, total: float = 0.0, noise: float = 0.0
) -> Any:
    """A made-up analysis, in which every source has an affinity of its own; the best sets have the sum that is found."""
    rng = np.random.default_rng(seed)
    count = len(OBJECTIVES)
    affinity = np.tile(np.arange(1.0, count + 1)[:, None], count) + noise * rng.normal(
        size=(count, count)
    )
    affinity[np.eye(count, dtype=bool)] = np.nan
    affinity /= np.nansum(affinity, axis=0)
    pairs = [(s, t) for s in range(count) for t in range(count) if s != t]
    sources = np.array([[s == x for x in range(count)] for s, _ in pairs])
    target, shares = np.array([t for _, t in pairs]), np.array([affinity[x] for x in pairs])
    best = exhaustive(sources, target, shares, taskonomy.BUDGET)
    numbers = {
        "targets that the best source serves better than scratch": served,
        "share of random choices with a larger loss": beaten, "sum of the chosen affinities": best + total,
    }  # fmt: skip
    columns = {
        "objectives": np.array(OBJECTIVES), "affinity": affinity, "chosen": np.eye(count, dtype=bool)[[0, 1, 2] * 3 + [2]],
        "transfer_sources": sources, "transfer_target": target, "transfer_affinity": shares,
    }  # fmt: skip
    return "autoencoding", TASK, Analysed("transfers", numbers, (), columns)


def results(each: Sequence[Any]) -> Results:
    rows = [
        result(name, TASK, seed, explained=[0.5])
        for name in (*OBJECTIVES, "untrained")
        for seed in range(2)
    ]
    return Results(rows, each)


@pytest.mark.parametrize(
    ("name", "each", "holds"),
    [
        ("T1", [analysed(0, 1, 1), analysed(1, 1, 1, noise=0.3)], True),
        ("T1", [analysed(0, 1, 1), analysed(1, 1, 1, total=-1e-4)], False),
        ("T2", [analysed(0, 0.6, 0.9), analysed(1, 0.8, 1.0)], True),
        ("T2", [analysed(0, 0.6, 1), analysed(1, 0.7, 1)], False),
        ("T2", [analysed(0, 1, 0.9), analysed(1, 1, 0.98)], False),
        ("T2", [analysed(0, 1, 1, noise=99), analysed(1, 1, 1, noise=99)], False),
        ("T3", [], None),
    ],
)
def test_verdicts(name: str, each: Sequence[Any], holds: bool | None) -> None:
    found = verdict(load_paper("taskonomy"), name, results(each))
    assert found.holds is holds
    if name == "T2":
        assert "chosen sources, by seed: autoencoding, denoising, colourisation; " in found.evidence
    if name == "T3":
        assert "depth 50.0 (50.0/50.0)" in found.evidence


def test_order_of_pairs_is_that_of_the_seeds() -> None:
    every = [analysed(seed, 1, 1, noise=2.0)[2].columns["affinity"] for seed in range(3)]
    pairs = [agreement([x, y]) for x, y in combinations(every, 2)]
    assert agreement(every) == pytest.approx(np.mean(pairs))
