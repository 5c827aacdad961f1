"""Captures of an agent's episode: consecutive steps, a robot that stays at its place, and worlds that cannot be captured."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from rlbench.benchmarks.training import capturing
from rlbench.benchmarks.training.capturing import across, drawn, on_a_floor, played, write_capture
from rlbench.envs.examples.captures import APART, FRAMES, Captures
from rlbench.errors import UserError
from tests.envs.test_captures import Drawn


class Forward:
    """Acts alike in every step, and remembers the rewards that it was given."""

    def __init__(self, size: int) -> None:
        self.size, self.rewards = size, [0.0]

    def __call__(self, obs: Any, reward: float) -> Any:
        self.rewards.append(float(reward))
        return np.full(self.size, 0.3)


def episode(name: str, after: int) -> tuple[Any, Any]:
    env = gym.make(name)
    actor: Any = Forward(env.action_space.shape[0])  # type: ignore[index]
    return env, played(actor, env, after, seed=3)


def test_positions_are_those_of_consecutive_steps() -> None:
    env, positions = episode("HalfCheetah-v5", 5)
    assert positions.shape == (FRAMES, 9)
    other = gym.make("HalfCheetah-v5")
    other.reset(seed=3)
    world: Any = other.unwrapped
    for step in range(5 + FRAMES):
        other.step(np.full(6, 0.3))
        if step >= 5:
            np.testing.assert_allclose(positions[step - 5], world.data.qpos, atol=1e-12)
    env.close()


def test_an_episode_that_is_too_short_is_refused() -> None:
    with pytest.raises(UserError, match=r"ended after \d+ steps, but 40 steps after the first 500"):
        episode("Hopper-v5", 500)


def test_a_robot_stays_at_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    env, positions = episode("HalfCheetah-v5", 0)
    before = positions.copy()
    world = env.unwrapped
    seen = Drawn(int(np.flatnonzero(world.model.geom_bodyid > 0)[0]))
    monkeypatch.setattr(capturing, "make_renderer", lambda *x: seen)
    columns = drawn(world.model, world.data, positions, seed=0)
    assert np.array_equal(positions, before)
    assert {x.partition("/")[2] for x in columns} == set(Captures("halfcheetah").fields)
    assert all(len(x) == FRAMES for x in columns.values())
    shown = np.array([x for x, _ in seen.seen])
    assert np.ptp(positions[:, 0]) > 0.02
    assert (shown[:, 0] == positions[0, 0]).all()
    np.testing.assert_array_equal(shown[:FRAMES, 1:], positions[:, 1:])
    np.testing.assert_array_equal(columns["train/pose"], positions[:, 3:])
    turned = np.array([x.azimuth for _, x in seen.seen])
    np.testing.assert_allclose(turned[FRAMES:] - turned[:FRAMES], np.rad2deg(APART))
    assert columns["train/frame"].tolist() == columns["test/frame"].tolist() == [*range(FRAMES)]


def test_joints_that_move_a_robot_across_the_floor() -> None:
    models = {x: gym.make(x).unwrapped.model for x in ("HalfCheetah-v5", "Ant-v5", "Swimmer-v5")}  # type: ignore[attr-defined]
    assert across(models["HalfCheetah-v5"]) == [0]
    assert across(models["Ant-v5"]) == [0, 1]
    assert across(models["Swimmer-v5"]) == [0, 1]


def test_other_worlds_and_names_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    with pytest.raises(UserError, match=r"give a file name that ends in \.npz"):
        write_capture(tmp_path, 0, tmp_path / "a.txt")
    assert on_a_floor(gym.make("Walker2d-v5").unwrapped)
    assert not on_a_floor(gym.make("CartPole-v1").unwrapped)
    (tmp_path / "config.json").write_text('{"run": {"seed": 0}}')
    task = SimpleNamespace(make=lambda: gym.make("CartPole-v1"), name="CartPole-v1")
    monkeypatch.setattr(capturing, "load", lambda *x, **y: SimpleNamespace(task=task))
    monkeypatch.setattr(
        capturing, "RunFolder", lambda x: SimpleNamespace(config=lambda: {"run": {"seed": 0}})
    )
    with pytest.raises(UserError, match="CartPole-v1 is not a MuJoCo robot on a floor"):
        write_capture(tmp_path, 0, tmp_path / "a.npz")
