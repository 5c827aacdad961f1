"""Statistics of benchmark tables, with intervals.

The scores of one method are a matrix [R, T]: R runs (seeds) of T tasks, in one unit, here the
normalised score (0 random, 100 expert). A statistic maps [..., R, T] to [...]: one matrix to one
number, a stack of resampled matrices to as many numbers at once.

    bootstrap_interval(iqm, scores, seed=0)
    bootstrap_interval(probability_of_improvement, scores_x, scores_y, seed=0)

Agarwal et al., 2021, "Deep Reinforcement Learning at the Edge of the Statistical Precipice",
https://arxiv.org/abs/2108.13264; the results equal the results of the authors' package, rliable.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

RESAMPLES = 50_000
"""Resamples behind an interval (rliable's default)."""
BLOCK = 1_000
"""Resamples computed at once: few enough to need little memory, many enough to be fast."""


@dataclass(frozen=True)
class Interval:
    """A statistic and the bounds of its 95 % interval, in the unit of the statistic."""

    point: float
    low: float
    high: float


def mean_and_std(scores: ArrayLike) -> tuple[Array, Array]:
    """Mean and standard deviation over the runs of each task, `mean ± std` in published tables.

    This is the population deviation (ddof=0) of these runs, as in `rlbench.benchmarks.tables.summary` and
    CORL's tables; it is 0 for one run. The sample deviation, which estimates the deviation over all
    seeds, is sqrt(R / (R - 1)) times as large: 5 % more for 10 runs.

    Args:
        scores: [..., R, T], any unit.

    Returns:
        Mean and deviation, [..., T] each, in the unit of the scores.
    """
    checked = _checked(scores)
    return np.mean(checked, axis=-2), np.std(checked, axis=-2)


def mean(scores: ArrayLike) -> Array:
    """Mean over all runs and tasks, [...], in the unit of the scores [..., R, T]."""
    average: Array = np.mean(_pooled(scores), axis=-1)
    return average


def iqm(scores: ArrayLike) -> Array:
    """Interquartile mean (section 4.3): the mean of the middle half of all runs and tasks.

    Of n scores, floor(n / 4) are left out at each end, as in scipy.stats.trim_mean.

    Args:
        scores: [..., R, T], any unit.

    Returns:
        [...], in the unit of the scores.

    >>> float(iqm([[0.0, 10.0], [20.0, 90.0]]))
    15.0
    """
    ordered = np.sort(_pooled(scores), axis=-1)
    count = ordered.shape[-1]
    average: Array = np.mean(ordered[..., count // 4 : count - count // 4], axis=-1)
    return average


def probability_of_improvement(scores_x: ArrayLike, scores_y: ArrayLike) -> Array:
    """Probability that a run of X beats a run of Y on the same task (section 4.3).

    On each task, the share of pairs of runs that X wins, with ties counted as half (Mann-Whitney U
    divided by the number of pairs); then the mean over tasks.

    Args:
        scores_x: [..., R, T], any unit.
        scores_y: [..., S, T], in the unit of `scores_x`; S may differ from R.

    Returns:
        [...], from 0 to 1.

    >>> float(probability_of_improvement([[1.0], [3.0]], [[1.0], [2.0]]))
    0.625
    """
    x, y = _checked(scores_x), _checked(scores_y)
    if x.shape[-1] != y.shape[-1]:
        raise ValueError(
            f"scores have shapes {list(x.shape)} and {list(y.shape)}, expected the same number of tasks "
            "in the last dimension; compare methods on the tasks that both have"
        )
    x, y = x[..., :, np.newaxis, :], y[..., np.newaxis, :, :]
    # All tasks have R * S pairs, so one mean over everything is also the mean over tasks.
    runs_and_tasks = (-3, -2, -1)
    probability: Array = (np.mean(x > y, runs_and_tasks) + np.mean(x >= y, runs_and_tasks)) / 2
    return probability


def performance_profile(scores: ArrayLike, thresholds: ArrayLike) -> Array:
    """Share of all runs that score above each threshold (section 4.2, run-score distribution).

    Args:
        scores: [..., R, T], any unit.
        thresholds: The paper's tau, [K], in the unit of the scores.

    Returns:
        [..., K], from 0 to 1.

    >>> performance_profile([[10.0, 20.0], [30.0, 40.0]], [0.0, 20.0, 40.0]).tolist()
    [1.0, 0.5, 0.0]
    """
    taus = np.asarray(thresholds, dtype=np.float64)
    if taus.ndim != 1 or taus.size == 0 or not np.isfinite(taus).all():
        raise ValueError(
            f"thresholds are {taus.tolist()}, expected a list of finite numbers; give at least one"
        )
    share: Array = np.mean(_pooled(scores)[..., np.newaxis] > taus, axis=-2)
    return share


def bootstrap_interval(statistic: Callable[..., Array], *scores: ArrayLike, seed: int) -> Interval:
    """Stratified bootstrap 95 % interval of a statistic (section 4.1, percentile method).

    A resample draws R runs with replacement, separately for each task and method, and never resamples
    tasks: the interval shows how the statistic would vary if the same tasks were run with other seeds.

    With one run (R = 1) there is nothing to resample: the interval is a single point, which means that the
    spread over seeds is unknown, not that it is small. Intervals of few runs are too narrow: on one task
    with normal scores, 75 % of the intervals of 3 runs contain the true mean, 84 % of 5 runs and 90 % of 10.

    Args:
        statistic: A function of this module, or another from [N, R, T] per method to [N].
        *scores: [R, T] per method, any unit.
        seed: Seed of the resamples; the same scores and seed give the same interval.

    >>> bootstrap_interval(mean, [[10.0, 60.0]], seed=0)
    Interval(point=35.0, low=35.0, high=35.0)
    """
    return Interval(*_bootstrap(statistic, scores, (BLOCK,), seed).tolist())


def paired_difference(x: ArrayLike, y: ArrayLike, *, seed: int) -> Interval:
    """Mean of x - y over pairs of runs, such as runs with the same seed; [R] each, any unit.

    The method and `seed` are as in `bootstrap_interval`.
    """
    differences = np.asarray(x, dtype=np.float64) - np.asarray(y, dtype=np.float64)
    return bootstrap_interval(mean, differences[:, np.newaxis], seed=seed)


def mean_intervals(scores: ArrayLike, *, seed: int) -> list[Interval]:
    """Mean over the runs of scores [R, T], separately for each of the T columns, as T intervals.

    For learning curves, in which a column is an evaluation. Method and `seed` are as in
    `bootstrap_interval`.
    """
    columns = np.shape(scores)[-1]
    bounds = _bootstrap(lambda x: np.mean(x, axis=-2), (scores,), (BLOCK, columns), seed)
    return [Interval(*each) for each in bounds.T.tolist()]


def profile_intervals(scores: ArrayLike, thresholds: ArrayLike, *, seed: int) -> list[Interval]:
    """`performance_profile` of scores [R, T] at K thresholds as K intervals (section 4.2).

    They are pointwise: each is a separate 95 % interval, not a band for the whole curve. Method and
    `seed` are as in `bootstrap_interval`.
    """
    profile = partial(performance_profile, thresholds=thresholds)
    bounds = _bootstrap(profile, (scores,), (BLOCK, np.size(thresholds)), seed)
    return [Interval(*each) for each in bounds.T.tolist()]


def _bootstrap(
    statistic: Callable[..., Array],
    scores: Sequence[ArrayLike],
    shape: tuple[int, ...],
    seed: int,
) -> Array:
    """Point, low and high, [3] or [3, K]; a block of the statistic must have `shape`."""
    matrices = [_checked(each) for each in scores]
    for matrix in matrices:
        if matrix.ndim != 2:
            raise ValueError(f"scores have shape {list(matrix.shape)}, expected a matrix [R, T]")
    rng = np.random.default_rng(seed)
    blocks = []
    for _ in range(0, RESAMPLES, BLOCK):
        block = statistic(*(_resampled(matrix, rng) for matrix in matrices))
        if np.shape(block) != shape:
            raise ValueError(
                f"the statistic of {BLOCK} resamples has shape {list(np.shape(block))}, expected "
                f"{list(shape)}; let it reduce the last two axes and keep the first"
            )
        blocks.append(block)
    low, high = np.quantile(np.concatenate(blocks), [0.025, 0.975], axis=0)
    return np.stack([statistic(*matrices), low, high])


def _resampled(scores: Array, rng: np.random.Generator) -> Array:
    """A block of resamples of [R, T], shape [BLOCK, R, T]; each task resamples its own runs."""
    runs, tasks = scores.shape
    drawn = rng.integers(runs, size=(BLOCK, runs, tasks))
    return scores[drawn, np.arange(tasks)]


def _pooled(scores: ArrayLike) -> Array:
    """Scores of all runs and tasks in a row, [..., R * T]."""
    checked = _checked(scores)
    return checked.reshape(*checked.shape[:-2], -1)


def _checked(scores: ArrayLike) -> Array:
    """Scores as float64 [..., R, T], all finite."""
    array = np.asarray(scores, dtype=np.float64)
    if array.ndim < 2 or array.size == 0:
        raise ValueError(
            f"scores have shape {list(array.shape)}, expected [R, T]; give at least one run and "
            "one task"
        )
    if wrong := np.count_nonzero(~np.isfinite(array)):
        raise ValueError(
            f"{wrong} of {array.size} scores are NaN or infinite, expected finite numbers; "
            "find out why and run those seeds again"
        )
    return array
