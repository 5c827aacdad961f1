"""Statistics of a benchmark table: by hand, and against the package of their authors."""

import re
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np
import pytest

from rlbench.benchmarks.tables import statistics
from rlbench.benchmarks.tables.statistics import (
    Array,
    Interval,
    bootstrap_interval,
    iqm,
    mean,
    mean_and_std,
    mean_intervals,
    performance_profile,
    probability_of_improvement,
    profile_intervals,
)

NUMBERS = [mean, iqm]


def column(*scores: float) -> Array:
    """Runs of one task, [R, 1]."""
    return np.array(scores)[:, np.newaxis]


def test_mean_and_std_are_those_of_the_runs_of_each_task() -> None:
    # Both runs are 1 from the mean of the first task: sqrt((1 + 1) / 2), not sqrt((1 + 1) / 1).
    average, deviation = mean_and_std([[1.0, 10.0], [3.0, 10.0]])
    assert average.tolist() == [2.0, 10.0]
    assert deviation.tolist() == [1.0, 0.0]


def test_mean_is_over_all_runs_and_tasks() -> None:
    assert mean([[1.0, 2.0], [3.0, 10.0]]) == 4.0


@pytest.mark.parametrize(
    ("scores", "middle"),
    [
        ([[7, 1], [100, 4], [3, 6], [5, 2]], (3 + 4 + 5 + 6) / 4),
        ([[1, 2, 5], [3, 4, 60]], (2 + 3 + 4 + 5) / 4),
        ([[7], [1], [60], [2], [3], [5], [4]], (2 + 3 + 4 + 5 + 7) / 5),
        ([[1], [2], [9]], (1 + 2 + 9) / 3),
        ([[5]], 5),
    ],
    ids=["8 scores", "6 scores", "7 scores", "3 scores", "1 score"],
)
def test_iqm_leaves_out_a_quarter_rounded_down_at_either_end(
    scores: list[list[float]], middle: float
) -> None:
    assert iqm(scores) == pytest.approx(middle)


def test_a_tie_is_half_an_improvement() -> None:
    x = [[1.0, 5.0], [2.0, 5.0]]
    y = [[1.0, 0.0], [1.0, 4.0], [2.0, 5.0]]
    # Task 1: run 1 has 1/2 + 1/2 + 0, run 2 has 1 + 1 + 1/2. Task 2: each run has 1 + 1 + 1/2.
    assert probability_of_improvement(x, y) == pytest.approx((3.5 / 6 + 5 / 6) / 2)
    assert probability_of_improvement(y, x) == pytest.approx((2.5 / 6 + 1 / 6) / 2)
    assert probability_of_improvement(x, x) == 0.5


def test_improvement_is_counted_within_tasks_only() -> None:
    assert probability_of_improvement([[1.0, 100.0]], [[2.0, 200.0]]) == 0.0


def test_a_score_equal_to_the_threshold_is_not_above_it() -> None:
    profile = performance_profile([[10, 20], [20, 40]], [9, 10, 20, 39, 40])
    assert profile.tolist() == [1, 3 / 4, 1 / 4, 1 / 4, 0]


def test_a_stack_of_matrices_gives_the_statistic_of_each() -> None:
    x, y = np.random.default_rng(0).normal(size=(2, 5, 3, 2))
    profile = partial(performance_profile, thresholds=[-1, 0, 1])
    each: list[Callable[..., Array]] = [*NUMBERS, profile]
    for statistic in each:
        np.testing.assert_allclose(statistic(x), [statistic(one) for one in x])
    one_by_one = [probability_of_improvement(a, b) for a, b in zip(x, y, strict=True)]
    np.testing.assert_allclose(probability_of_improvement(x, y), one_by_one)


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        # The resampled mean is a binomial share. Three 1 of Bin(3, 1/3) have 3.7 %, more than 2.5 %.
        (column(0, 0, 1), (1 / 3, 0, 1)),
        (column(0, 1, 1), (2 / 3, 0, 1)),
        # No 1 of Bin(6, 1/2) has 1.6 %, less than 2.5 %; at most one has 10.9 %.
        (column(0, 0, 0, 1, 1, 1), (1 / 2, 1 / 6, 5 / 6)),
    ],
)
def test_bounds_are_the_quantiles_of_the_resamples(
    scores: Array, expected: tuple[float, float, float]
) -> None:
    got = bootstrap_interval(mean, scores, seed=0)
    assert (got.point, got.low, got.high) == pytest.approx(expected)


def test_each_task_draws_its_own_runs() -> None:
    # Whole rows would always have the mean 1/2; four coins give 0 or 4 heads in 6.3 % each.
    assert bootstrap_interval(mean, [[0, 1], [1, 0]], seed=0) == Interval(0.5, 0.0, 1.0)


def test_each_method_draws_its_own_runs() -> None:
    # Four coins again: X draws two 1 and Y two 0, which no common draw gives.
    scores = column(0, 1)
    got = bootstrap_interval(probability_of_improvement, scores, scores, seed=0)
    assert got == Interval(0.5, 0.0, 1.0)


@pytest.mark.parametrize("statistic", NUMBERS)
def test_tasks_that_differ_add_no_width(statistic: Callable[..., Array]) -> None:
    got = bootstrap_interval(statistic, [[10.1, 50.2, 97.4]] * 4, seed=0)
    assert got.low == got.point == got.high


def test_the_same_seed_gives_the_same_interval() -> None:
    scores = np.random.default_rng(0).normal(size=(5, 3))
    first, again, other = (bootstrap_interval(mean, scores, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first.point == other.point
    assert (first.low, first.high) != (other.low, other.high)


@pytest.mark.parametrize("statistic", NUMBERS)
def test_the_interval_of_symmetric_scores_lies_around_the_point(
    statistic: Callable[..., Array],
) -> None:
    half = np.random.default_rng(0).normal(size=(5, 4))
    got = bootstrap_interval(statistic, np.concatenate([half, -half]), seed=0)
    assert got.low < got.point < got.high
    assert got.point - got.low == pytest.approx(got.high - got.point, rel=0.05)


@pytest.mark.parametrize("statistic", NUMBERS)
def test_one_run_has_the_point_as_its_interval(statistic: Callable[..., Array]) -> None:
    got = bootstrap_interval(statistic, [[0.1, 0.2, 0.7, 0.9, 1.3]], seed=0)
    assert got.low == got.point == got.high


def test_every_function_of_a_stack_has_an_interval_of_50000_resamples() -> None:
    seen = []

    def median(stack: Array) -> Array:
        seen.append(len(stack) if stack.ndim == 3 else 0)
        middle: Array = np.median(stack, axis=(-2, -1))
        return middle

    assert bootstrap_interval(median, column(1, 1, 1, 5), seed=0).point == 1.0
    assert sum(seen) == 50_000


def test_95_of_100_intervals_hold_the_true_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "RESAMPLES", 1_000)
    scores = np.random.default_rng(0).normal(7.0, 2.0, size=(300, 20, 4))
    intervals = [bootstrap_interval(mean, each, seed=i) for i, each in enumerate(scores)]
    assert 0.92 < np.mean([each.low < 7.0 < each.high for each in intervals]) < 0.98


def test_profile_intervals_are_those_of_each_threshold() -> None:
    got = profile_intervals(column(0, 0, 1), [-1.0, 0.5, 1.0], seed=0)
    assert got == [Interval(1, 1, 1), Interval(1 / 3, 0, 1), Interval(0, 0, 0)]


def test_scores_are_left_as_they_are() -> None:
    scores = np.array([[3.0, 1.0], [2.0, 0.0]])
    scores.flags.writeable = False
    for statistic in NUMBERS:
        bootstrap_interval(statistic, scores, seed=0)
    profile_intervals(scores, [1.0], seed=0)


@pytest.mark.parametrize(
    ("scores", "words"),
    [
        ([1.0, 2.0], "shape [2], expected [R, T]"),
        (3.0, "shape [], expected [R, T]"),
        (np.zeros((0, 4)), "shape [0, 4], expected [R, T]"),
        (np.zeros((4, 0)), "shape [4, 0], expected [R, T]"),
        ([[1.0, np.nan], [np.nan, 2.0]], "2 of 4 scores are NaN or infinite, expected finite"),
        ([[1.0, np.inf]], "1 of 2 scores are NaN or infinite, expected finite"),
        ([[1.0, -np.inf]], "1 of 2 scores are NaN or infinite, expected finite"),
    ],
)
def test_scores_that_are_no_finite_matrix_are_refused(scores: Any, words: str) -> None:
    good = [[1.0, 2.0]]
    calls: list[Callable[[], object]] = [
        lambda: mean_and_std(scores),
        *(partial(statistic, scores) for statistic in NUMBERS),
        lambda: probability_of_improvement(scores, good),
        lambda: probability_of_improvement(good, scores),
        lambda: performance_profile(scores, [1.0]),
        lambda: bootstrap_interval(mean, scores, seed=0),
        lambda: profile_intervals(scores, [1.0], seed=0),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=re.escape(words)):
            call()


def test_methods_on_other_tasks_are_not_compared() -> None:
    with pytest.raises(
        ValueError, match=r"shapes \[3, 2\] and \[3, 1\], expected the same number of tasks"
    ):
        probability_of_improvement(np.zeros((3, 2)), np.zeros((3, 1)))


def test_the_interval_of_a_stack_is_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \[5, 3, 2\], expected a matrix \[R, T\]"):
        bootstrap_interval(mean, np.zeros((5, 3, 2)), seed=0)


@pytest.mark.parametrize("reduced", [None, 0, (0, 1), 2])
def test_a_statistic_that_mixes_resamples_is_refused(reduced: Any) -> None:
    with pytest.raises(ValueError, match=r"of 1000 resamples has shape .* expected \[1000\]"):
        bootstrap_interval(lambda stack: np.mean(stack, axis=reduced), np.ones((3, 2)), seed=0)


def test_the_interval_of_each_column_is_that_of_the_column_alone() -> None:
    scores = np.array([[1.0, 5.0], [2.0, 5.0], [6.0, 5.0]])
    first, second = mean_intervals(scores, seed=0)
    alone = bootstrap_interval(mean, scores[:, :1], seed=0)
    assert first.point == alone.point == 3.0
    assert (first.low, first.high) == pytest.approx((alone.low, alone.high), abs=0.1)
    assert second == Interval(5.0, 5.0, 5.0)


@pytest.mark.parametrize("thresholds", [[], [[1.0, 2.0]], 1.0, [np.nan], [np.inf]])
def test_thresholds_that_are_no_finite_list_are_refused(thresholds: Any) -> None:
    with pytest.raises(ValueError, match="expected a list of finite numbers"):
        performance_profile(np.ones((3, 2)), thresholds)
    with pytest.raises(ValueError, match="expected a list of finite numbers"):
        profile_intervals(np.ones((3, 2)), thresholds, seed=0)


@pytest.mark.slow
def test_numbers_and_intervals_are_those_of_rliable() -> None:
    pytest.importorskip("rliable")
    library, metrics = import_module("rliable.library"), import_module("rliable.metrics")
    rng = np.random.default_rng(0)
    x = rng.normal([20, 50, 80, 110], 15, size=(9, 4))
    y = np.concatenate([x[:3], rng.normal([15, 55, 70, 110], 15, size=(4, 4))])  # with ties
    taus = np.linspace(0, 140, 15)
    profile = partial(performance_profile, thresholds=taus)
    theirs_of: list[tuple[Callable[..., Array], Callable[..., Any], Any]] = [
        (mean, metrics.aggregate_mean, x),
        (iqm, metrics.aggregate_iqm, x),
        (iqm, metrics.aggregate_iqm, y),
        (probability_of_improvement, metrics.probability_of_improvement, (x, y)),
        (profile, lambda scores: library.score_distributions(scores, taus), x),
    ]
    # rliable draws from the global generator, whatever its argument `random_state` says.
    np.random.seed(0)  # noqa: NPY002
    for ours, theirs, scores in theirs_of:
        methods = scores if isinstance(scores, tuple) else (scores,)
        points, bounds = library.get_interval_estimates(
            {"": scores},
            lambda *args, theirs=theirs: np.atleast_1d(theirs(*args)),
            reps=1_000,
        )
        if ours is profile:
            intervals = profile_intervals(x, taus, seed=0)
        else:
            intervals = [bootstrap_interval(ours, *methods, seed=0)]
        np.testing.assert_allclose([i.point for i in intervals], points[""], rtol=0, atol=1e-6)
        # Their quantiles of 1,000 resamples have a standard error of 2 % of the width, and those of
        # a profile lie on a grid of 1 / 36.
        widths = np.array([i.high - i.low for i in intervals])
        noise = 0.1 * widths + (1 / 36 + 1e-9 if ours is profile else 0)
        assert (abs(np.array([i.low for i in intervals]) - bounds[""][0]) <= noise).all()
        assert (abs(np.array([i.high for i in intervals]) - bounds[""][1]) <= noise).all()
