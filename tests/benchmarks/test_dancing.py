"""Films of a robot that is drawn as another one."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from rlbench.backbones.models.dance import Dance, DanceConfig
from rlbench.benchmarks.commands.dancing import dancer, drawn_as
from rlbench.cli import main
from rlbench.envs.examples.motion_pairs import MotionPairs
from rlbench.errors import UserError

SMALL: dict[str, Any] = {
    "width": 2,
    "halvings": 1,
    "blocks": 1,
    "judge_width": 2,
    "encoder": "vgg:width=2,blocks=1",
}


@pytest.fixture(scope="module")
def source() -> MotionPairs:
    return MotionPairs("halfcheetah")


def test_frames_follow_the_robot_and_each_other_until_an_episode_ends(source: MotionPairs) -> None:
    torch.manual_seed(0)
    model = Dance(DanceConfig(**SMALL), source.fields)
    env = gym.make("HalfCheetah-v5")
    env.reset(seed=0)
    draw = drawn_as(model, source, env.unwrapped, 130)
    first, again = draw(), draw()
    assert first.shape == (128, 128, 3)
    assert first.dtype == np.uint8
    assert not np.array_equal(first, again)  # The same pose, but after another frame.
    env.step(env.action_space.sample())
    assert not np.array_equal(draw(), again)
    env.reset(seed=0)
    np.testing.assert_array_equal(draw(), first)


def test_other_robots_and_other_runs_are_refused(source: MotionPairs, tmp_path: Path) -> None:
    model = Dance(DanceConfig(**SMALL), source.fields)
    with pytest.raises(
        UserError, match="the run of dance draws halfcheetah; give a run on the same robot"
    ):
        drawn_as(model, source, gym.make("Hopper-v5").unwrapped, 64)
    words = ["--env", "digits", "--encoder", "flatten", "--updates", "1", "--eval-every", "0"]
    assert main(["run", "classifier", *words, "--out", str(tmp_path / "digits")]) == 0
    with pytest.raises(UserError, match="a run of Classifier on digits; give a run of dance"):
        dancer(tmp_path / "digits", None, 64)
