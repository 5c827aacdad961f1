"""Affinities by hand and against the power method; the choice of sources against exhaustive search."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pytest

from rlbench.backbones.analyses._affinity import (
    LEAST,
    MOST,
    Transfer,
    affinities,
    best_sources,
    random_policy,
    win_rates,
)
from rlbench.errors import UserError

Array = Any


def exhaustive(
    transfers: Sequence[Transfer], sources: int, targets: int, budget: int
) -> float | None:
    """The largest sum of affinities over all sets of sources; None if none serves every target."""
    best = None
    for chosen in map(set, combinations(range(sources), min(budget, sources))):
        usable = [x for x in transfers if chosen.issuperset(x.sources)]
        each = [[x.affinity for x in usable if x.target == t] for t in range(targets)]
        if all(each):
            total = sum(map(max, each))
            best = total if best is None else max(best, total)
    return best


def problem(seed: int, sources: int, targets: int) -> list[Transfer]:
    """Transfers of one and two sources to targets, of which the first are the sources themselves."""
    rng = np.random.default_rng(seed)
    found = []
    for target in range(targets):
        others = [s for s in range(sources) if s != target]
        sets = [*combinations(others, 1), *combinations(others, 2)]
        share = affinities(
            win_rates(rng.normal(size=(len(sets), 1)) + rng.normal(size=(len(sets), 60)))
        )
        found += [Transfer(s, target, p) for s, p in zip(sets, share.tolist(), strict=True)]
    return found


def test_win_rates_by_hand() -> None:
    losses = np.array([[1.0, 2, 3, 4], [2, 2, 1, 5], [9, 9, 9, 9]])
    expected = [[0.5, 0.625, 1], [0.375, 0.5, 1], [0, 0, 0.5]]
    np.testing.assert_array_equal(win_rates(losses), expected)


def test_affinities_by_hand() -> None:
    # For two transfers W' is [[1, r], [1/r, 1]], whose principal eigenvector is (r, 1).
    rates = np.array([[0.5, 0.75], [0.25, 0.5]])
    np.testing.assert_allclose(affinities(rates), [0.75, 0.25])
    certain = np.array([[0.5, 1], [0, 0.5]])
    np.testing.assert_allclose(affinities(certain), [MOST, LEAST])
    np.testing.assert_allclose(affinities(np.full((5, 5), 0.5)), [0.2] * 5)


def test_affinities_are_those_of_the_power_method() -> None:
    rates = win_rates(np.random.default_rng(0).normal(size=(7, 50)))
    ratio = rates / rates.T
    x = np.ones(7)
    for _ in range(200):
        x = ratio @ x
        x /= x.sum()
    np.testing.assert_allclose(affinities(rates), x, rtol=1e-9)


@pytest.mark.parametrize("target", range(5))
def test_affinities_recover_the_true_order_whatever_the_scale_of_the_losses(target: int) -> None:
    rng = np.random.default_rng(target)
    difficulty, quality = rng.exponential(size=300), rng.permutation(9) / 10
    losses = np.exp(quality[:, None] + 0.5 * rng.normal(size=(9, 300))) * difficulty
    scales = 10.0 ** rng.integers(-3, 4, size=300)
    found = affinities(win_rates(losses))
    assert np.argsort(-found).tolist() == np.argsort(quality).tolist()
    np.testing.assert_allclose(affinities(win_rates(losses * scales)), found)


@pytest.mark.parametrize("budget", [1, 2, 3, 5])
@pytest.mark.parametrize("seed", range(3))
def test_the_programme_finds_the_best_of_all_sets_of_sources(seed: int, budget: int) -> None:
    transfers = [x for x in problem(seed, 8, 13) if x.target >= 8]  # No target is a source.
    transfers = [Transfer(x.sources, x.target - 8, x.affinity) for x in transfers]
    chosen = best_sources(transfers, 8, 5, budget)
    assert [x.target for x in chosen] == list(range(5))
    assert len(set().union(*(x.sources for x in chosen))) <= budget
    assert sum(x.affinity for x in chosen) == pytest.approx(
        exhaustive(transfers, 8, 5, budget), abs=1e-9
    )


def test_targets_that_are_sources_too_are_served_by_others() -> None:
    transfers = problem(3, 6, 6)
    with pytest.raises(UserError, match="no 1 sources serve all 6 targets"):
        best_sources(transfers, 6, 6, 1)
    assert exhaustive(transfers, 6, 6, 1) is None
    for budget in (2, 3, 6, 9):
        chosen = best_sources(transfers, 6, 6, budget)
        assert all(x.target not in x.sources for x in chosen)
        assert sum(x.affinity for x in chosen) == pytest.approx(exhaustive(transfers, 6, 6, budget))


def test_random_policies_are_feasible_and_differ() -> None:
    transfers, rng = problem(4, 6, 6), np.random.default_rng(0)
    policies = [random_policy(transfers, 6, 6, 3, rng) for _ in range(50)]
    for policy in policies:
        assert [x.target for x in policy] == list(range(6))
        assert len(set().union(*(x.sources for x in policy))) <= 3
    assert len(set(policies)) == 50
    best = sum(x.affinity for x in best_sources(transfers, 6, 6, 3))
    assert all(sum(x.affinity for x in policy) <= best + 1e-9 for policy in policies)
