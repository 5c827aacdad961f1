"""Classifiers of actions that act: the same returns as the agent that they equal, smoothed and attacked policies, and errors."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from rich.console import Console

from rlbench.backbones.analyses.acting import ActingConfig
from rlbench.backbones.models.classifier import ClassifierConfig
from rlbench.benchmarks.training.analysing import AnalysisJob, perform
from rlbench.benchmarks.training.config import RunConfig
from rlbench.benchmarks.training.playing import play
from rlbench.benchmarks.training.runner import Run
from rlbench.envs.tasks import find_task
from rlbench.errors import UserError


class Sides(gym.Env[Any, int]):
    """A number from -1 to 1 in each step, 20 times; the reward is 1 for the action that has its sign, 3 for negative and 4 for positive."""

    observation_space = Box(-1, 1, (1,), np.float32)
    action_space = Discrete(2, start=3)  # type: ignore[assignment]

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps = 0
        return self._obs(), {}

    def _obs(self) -> Any:
        self.value = self.np_random.uniform(-1, 1, 1).astype(np.float32)
        return self.value

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        reward = float(action - 3 == (self.value[0] > 0))
        self.steps += 1
        return self._obs(), reward, self.steps == 20, False, {}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier of the sign."""
    folder = tmp_path_factory.mktemp("acting")
    rng = np.random.default_rng(0)
    columns: dict[str, Any] = {}
    for split, count in (("train", 400), ("test", 50)):
        obs = rng.uniform(-1, 1, (count, 1)).astype(np.float32)
        columns |= {f"{split}/obs": obs, f"{split}/label": (obs[:, 0] > 0).astype(np.int64)}
    np.savez(folder / "sides.npz", **columns)
    settings = ClassifierConfig(encoder="flatten", learning_rate=1.0, weight_decay=0.0)
    config = RunConfig(env=str(folder / "sides.npz"), updates=200, eval_every=0, out=folder / "run")
    Run("classifier", settings, config, Console(quiet=True)).start()
    return folder / "run"


def found(run: Path, **settings: Any) -> dict[str, float]:
    job = AnalysisJob("acting", {"task": f"{__name__}:Sides", "episodes": 10, **settings}, (run,))
    return dict(perform(job).numbers)


def test_a_classifier_of_the_best_action_has_the_best_return(run: Path) -> None:
    numbers = found(run)
    assert numbers["return"] > 19
    assert "certified radius" not in numbers


def test_a_smoothed_policy_acts_almost_as_well_and_is_certified(run: Path) -> None:
    numbers = found(run, sigma=0.1)
    assert numbers["return"] > 17
    # The mean distance to 0 is 0.5, more than 100 draws can certify.
    assert 0.08 < numbers["certified radius"] < 0.16
    assert 0.6 < numbers["certified steps"] < 1


def test_attacks_turn_the_actions_near_the_boundary(run: Path) -> None:
    weak, strong = (found(run, attack=x)["return"] for x in (0.3, 2.0))
    # Three tenths of the observations are within the reach of the attack.
    assert weak == pytest.approx(14, abs=2)
    assert strong < 1
    smoothed = found(run, attack=0.3, sigma=0.1)["return"]
    assert smoothed == pytest.approx(14, abs=2.5)


def test_other_tasks_and_models_are_refused(run: Path) -> None:
    with pytest.raises(UserError, match="give the task whose examples it learned from"):
        found(run, task="CartPole-v1")
    with pytest.raises(UserError, match="no task is given; give --task"):
        ActingConfig()


def test_a_model_acts_by_its_largest_output(run: Path) -> None:
    from rlbench.benchmarks.training.loading import load_run

    model, _ = load_run(run)
    task = find_task(f"{__name__}:Sides")
    usual = play(model, 0, task, 5, False)
    always = play(model, 0, task, 5, False, lambda obs: torch.ones(len(obs), dtype=torch.long))
    assert usual["return"].mean() > 19
    assert 5 < always["return"].mean() < 15
