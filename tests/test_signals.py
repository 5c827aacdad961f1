"""The task of hidden patterns: what signals are made of, rewards, data."""

import dataclasses
import math
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env

from rlbench.envs import signals
from rlbench.envs.signals import Problem, Signals, curves
from rlbench.envs.tasks import find_task
from rlbench.errors import UserError
from rlbench.offline_data import DataSet, open_data
from rlbench.seeding import derive

PROBLEM = Problem(backgrounds=2, seed=3)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLBENCH_CACHE", str(tmp_path))


def data_of(seed: int, size: int = 40) -> DataSet:
    return open_data(find_task("signals-2").drawn(seed), size=size)


def test_curves_by_hand() -> None:
    coefficients = np.random.default_rng(0).uniform(-1, 1, (2, 1, 3))
    (a1, a2, a3), (b1, b2, b3) = coefficients[:, 0]
    x = 0.7
    wanted = a1 * math.cos(x) + a2 * math.cos(2 * x) + a3 * math.cos(3 * x)
    wanted += b1 * math.sin(x) + b2 * math.sin(2 * x) + b3 * math.sin(3 * x)
    got = curves(np.random.default_rng(0), (1,), np.array([x]))
    np.testing.assert_allclose(got, [[wanted]])


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_pattern_of_the_class_stands_at_one_of_three_places(split: signals.Split) -> None:
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


def test_the_reward_is_the_logarithm_of_what_the_right_class_got() -> None:
    env = Signals(PROBLEM)
    _, told = env.reset(seed=0)
    forecast = np.full(5, 0.1, np.float32)
    forecast[told["class"]] = 0.4  # of 0.8 in all
    _, reward, terminated, truncated, _ = env.step(forecast)
    assert reward == pytest.approx(math.log(0.5))
    assert (terminated, truncated) == (True, False)
    wrong = np.zeros(5, np.float32)
    wrong[(told["class"] + 1) % 5] = 1.0
    assert env.step(wrong)[1] == pytest.approx(-87.3, abs=0.1)
    assert env.step(np.zeros(5, np.float32))[1] == pytest.approx(-math.log(5))


# Signals with normal noise have no bounds.
@pytest.mark.filterwarnings("ignore:.*Box observation space:UserWarning")
def test_episodes_show_test_signals_by_their_seed() -> None:
    env = Signals(PROBLEM)
    check_env(env, skip_render_check=True)
    first, _ = env.reset(seed=1)
    again, _ = env.reset(seed=1)
    other, _ = env.reset(seed=2)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    signal, right = PROBLEM.draw(np.random.default_rng(1), 1, "test")
    np.testing.assert_array_equal(first, signal[0])
    assert env.reset(seed=1)[1] == {"class": right[0]}


def test_the_task_scores_from_no_knowledge_to_certainty() -> None:
    task = find_task("signals-64")
    assert task.score(-math.log(5)) == pytest.approx(0)
    assert task.score(0.0) == pytest.approx(100)
    env = task.drawn(7).make()
    assert isinstance(env, Signals)
    assert env.problem == Problem(64, 7)
    assert isinstance(pickle.loads(pickle.dumps(task.make))(), Signals)


@pytest.mark.parametrize("name", ["signals-0", "signals-", "signals-two", "signals-2-3"])
def test_names_without_a_number_of_backgrounds_are_refused(name: str) -> None:
    with pytest.raises(UserError, match="did you mean signals-2"):
        find_task(name)


def test_the_data_are_training_signals_with_the_right_forecast() -> None:
    data = data_of(seed=3)
    batch = data.take(torch.arange(40))
    rng = np.random.default_rng(derive(3, "signals", "training signals"))
    wanted, classes = PROBLEM.draw(rng, 40, "train")
    np.testing.assert_array_equal(batch.obs.numpy(), wanted)
    assert (batch.action.argmax(dim=1).numpy() == classes).all()
    assert (batch.action.sum(dim=1) == 1).all()
    assert (batch.reward == 0).all()
    assert (batch.terminated == 1).all()
    assert (batch.truncated == 0).all()
    assert data.return_range == (0.0, 0.0)
    assert len(data.episode_bounds) == 41
    assert data.provenance.kind == "generated"


def test_data_are_reproducible_and_differ_between_seeds_and_sizes() -> None:
    first = data_of(seed=3).provenance
    assert data_of(seed=3).provenance == first
    assert data_of(seed=4).provenance.sha256 != first.sha256
    assert len(data_of(seed=3, size=41)) == 41


@pytest.mark.parametrize(
    ("size", "told"), [(0, "give a size of 1 or more"), (1_000_000, "give --data-size 2048")]
)
def test_no_data_and_very_many_are_refused(size: int, told: str) -> None:
    with pytest.raises(UserError, match=told):
        data_of(seed=0, size=size)


def test_other_tasks_are_the_same_for_every_seed() -> None:
    task = find_task("point-mixed")
    assert task.drawn(5) is task
    assert dataclasses.replace(task, draw=lambda seed: task).drawn(5) is task
