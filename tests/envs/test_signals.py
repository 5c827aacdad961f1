"""Signals with hidden patterns: what they are made of, and the examples of a seed."""

import math

import numpy as np
import pytest

from rlbench.envs.examples._base import Split
from rlbench.envs.examples.signals import Problem, curves
from rlbench.envs.tasks import find_task
from rlbench.errors import UserError
from rlbench.offline_data.examples import open_examples
from rlbench.seeding import derive

PROBLEM = Problem(backgrounds=2, seed=3)


def test_curves_by_hand() -> None:
    coefficients = np.random.default_rng(0).uniform(-1, 1, (2, 1, 3))
    (a1, a2, a3), (b1, b2, b3) = coefficients[:, 0]
    x = 0.7
    wanted = a1 * math.cos(x) + a2 * math.cos(2 * x) + a3 * math.cos(3 * x)
    wanted += b1 * math.sin(x) + b2 * math.sin(2 * x) + b3 * math.sin(3 * x)
    got = curves(np.random.default_rng(0), (1,), np.array([x]))
    np.testing.assert_allclose(got, [[wanted]])


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_pattern_of_the_class_stands_at_one_of_three_places(split: Split) -> None:
    drawn, classes = PROBLEM.draw(np.random.default_rng(0), 200, split)
    assert drawn.shape == (200, 100)
    assert drawn.dtype == np.float32
    assert set(classes) == set(range(5))
    places = []
    for signal, right in zip(drawn, classes, strict=True):
        found = [
            start
            for start in range(81)
            if np.allclose(signal[start : start + 20], PROBLEM.patterns[right], atol=1e-6)
        ]
        assert len(found) == 1
        places += found
    assert set(places) == set(PROBLEM.starts)
    assert len(set(PROBLEM.starts)) == 3


def test_what_the_pattern_leaves_is_a_background_of_the_class_with_noise() -> None:
    drawn, classes = PROBLEM.draw(np.random.default_rng(0), 2000, "train")
    free = np.ones(100, dtype=bool)
    for start in PROBLEM.starts:
        free[start : start + 20] = False
    residuals = drawn[:, None, free] - PROBLEM.curves["train"][classes][..., free]
    nearest = residuals[np.arange(2000), np.abs(residuals).mean(axis=2).argmin(axis=1)]
    assert nearest.mean() == pytest.approx(0, abs=0.02)
    assert nearest.std() == pytest.approx(1, abs=0.02)


def test_test_signals_have_other_backgrounds_than_training_signals() -> None:
    train, test = PROBLEM.curves["train"], PROBLEM.curves["test"]
    assert train.shape == test.shape == (5, 2, 100)
    flat, other = train.reshape(10, 100), test.reshape(10, 100)
    assert np.abs(flat[:, None] - other).max(axis=2).min() > 0.1


def test_a_problem_is_that_of_its_seed() -> None:
    again, other = Problem(2, seed=3), Problem(2, seed=4)
    for name in ("patterns", "starts"):
        assert np.array_equal(getattr(PROBLEM, name), getattr(again, name))
        assert not np.array_equal(getattr(PROBLEM, name), getattr(other, name))
    assert np.array_equal(PROBLEM.curves["test"], again.curves["test"])


@pytest.mark.parametrize("name", ["signals-0", "signals-", "signals-two", "signals-2-3"])
def test_names_without_a_number_of_backgrounds_are_refused(name: str) -> None:
    with pytest.raises(UserError, match="did you mean signals-2"):
        find_task(name)


def test_examples_are_the_signals_of_the_problem_of_the_seed() -> None:
    found = open_examples(find_task("signals-2"), 40, seed=3)
    rng = np.random.default_rng(derive(3, "signals", "training signals"))
    wanted, classes = PROBLEM.draw(rng, 40, "train")
    np.testing.assert_array_equal(found.train["obs"], wanted)
    np.testing.assert_array_equal(found.train["label"], classes)
    assert (len(found.train), len(found.test)) == (40, 1_000)
    assert found.provenance.kind == "generated"
    assert found.provenance.details["seeded"]
    assert open_examples(find_task("signals-2"), 40, seed=3).provenance == found.provenance
    other = open_examples(find_task("signals-2"), 40, seed=4)
    assert other.provenance.sha256 != found.provenance.sha256
