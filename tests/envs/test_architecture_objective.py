"""Rewards of accuracy and latency, fronts and hypervolumes by hand."""

import itertools
import math
from typing import Any

import numpy as np
import pytest

from rlbench.envs.architectures.evaluate import Evaluation
from rlbench.envs.architectures.objective import FLOOR, Objective, hypervolume, pareto_front
from rlbench.errors import UserError


@pytest.mark.parametrize(
    ("kind", "latency", "wanted"),
    [
        ("soft", 160, 0.4763), ("soft", 40, 0.5249), ("soft", 80, 0.5),
        ("hard", 160, 0.25), ("hard", 40, 0.5), ("hard", 80, 0.5),
        ("absolute", 160, 0.43), ("absolute", 40, 0.465), ("absolute", 80, 0.5),
    ],
)  # fmt: skip
def test_rewards_by_hand(kind: Any, latency: float, wanted: float) -> None:
    assert Objective(80, kind).reward(0.5, latency) == pytest.approx(wanted, abs=5e-5)


@pytest.mark.parametrize("kind", ["soft", "hard", "absolute"])
def test_without_weight_accuracy_alone_counts(kind: Any) -> None:
    assert Objective(80, kind, 0.0).reward(0.5, 320) == 0.5


def test_the_weight_is_the_exponent_or_the_slope() -> None:
    assert Objective(80, "soft", -0.5).reward(0.5, 320) == pytest.approx(0.25)
    assert Objective(80, "hard", -0.5).reward(0.5, 320) == pytest.approx(0.25)
    assert Objective(80, "hard", -0.5).reward(0.5, 20) == 0.5
    assert Objective(80, "absolute", -0.1).reward(0.5, 160) == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("accuracy", "latency", "wanted"),
    [
        (None, None, (FLOOR, 320.0)), (math.nan, math.inf, (FLOOR, 320.0)), (0.0, 50.0, (FLOOR, 50.0)),
        (None, 50.0, (FLOOR, 50.0)), (0.7, None, (0.7, 320.0)), (0.7, 0.0, (0.7, 320.0)),
    ],
)  # fmt: skip
def test_failures_have_the_smallest_accuracy_and_a_long_latency(
    accuracy: float | None, latency: float | None, wanted: tuple[float, float]
) -> None:
    assert Objective(80).usable(Evaluation(accuracy, latency)) == wanted


@pytest.mark.parametrize(
    "settings",
    [
        {"target_ms": 0.0}, {"target_ms": math.nan}, {"target_ms": math.inf},
        {"target_ms": 1.0, "kind": "firm"}, {"target_ms": 1.0, "weight": 0.1},
        {"target_ms": 1.0, "weight": math.nan}, {"target_ms": 1.0, "weight": -math.inf},
    ],
)  # fmt: skip
def test_senseless_objectives_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="give"):
        Objective(**settings)


def test_the_front_is_what_no_other_point_beats() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        accuracy, latency = rng.integers(6, size=(2, 12)) / 6
        slow = {
            (accuracy[i], latency[i])
            for i in range(12)
            if not any(
                (accuracy[j] >= accuracy[i] and latency[j] <= latency[i])
                and (accuracy[j] > accuracy[i] or latency[j] < latency[i])
                for j in range(12)
            )
        }
        front = pareto_front(accuracy, latency)
        assert len(front) == len(slow), "equal points count once"
        assert set(zip(accuracy[front], latency[front], strict=True)) == slow
        assert (np.diff(latency[front]) > 0).all()


def test_the_hypervolume_is_the_share_of_the_rectangle_below_the_front() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        accuracy, latency = rng.integers(1, 10, 5) / 10, rng.integers(1, 12, 5).astype(float)
        cells = itertools.product(np.arange(10) + 0.5, (np.arange(10) + 0.5) / 10)
        below = [((accuracy > a) & (latency < x)).any() for x, a in cells]
        assert hypervolume(accuracy, latency, 10.0) == pytest.approx(np.mean(below))


def test_points_slower_than_the_worst_latency_add_nothing() -> None:
    accuracy, latency = np.array([0.5, 0.9, 0.95]), np.array([2.0, 4.0, 7.0])
    assert hypervolume(accuracy, latency, 4.0) == pytest.approx(0.25)
    assert hypervolume(accuracy[1:], latency[1:], 4.0) == 0
