"""Locomotion seen as pictures: the same dynamics and data as without pictures, two frames, a floor without an end."""

import ctypes.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rlbench.envs import data_names, mujoco_pixels
from rlbench.envs.examples.frames_mujoco import SIDE
from rlbench.envs.mujoco_pixels import MujocoPixels, period
from rlbench.envs.tasks import find_task
from rlbench.errors import UserError
from rlbench.offline_data.dataset import DataSet
from rlbench.offline_data.opening import open_data
from rlbench.offline_data.recording import generate
from rlbench.offline_data.recording.mixtures import recipe

SCALE = 1_000


class Painter:
    """In place of a renderer: a frame whose colours are the position of what it was shown."""

    qpos: Any

    def __init__(self, model: Any, side: int) -> None:
        self.side, self.closed = side, False

    def render(self) -> Any:
        assert not self.closed
        shown = np.floor(self.qpos * SCALE).astype(int) % 256
        return np.resize(shown.astype(np.uint8), (self.side, self.side, 3))

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def _painted(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(mujoco_pixels, "make_renderer", Painter)
    monkeypatch.setattr(
        mujoco_pixels, "update_scene", lambda painter, data, camera: setattr(painter, "qpos", data.qpos.copy())
    )  # fmt: skip
    generate._stage.cache_clear()
    yield
    generate._stage.cache_clear()


def names() -> list[str]:
    return [f"{family}-{level}" for family in data_names.PIXELS for level in ("random", "medium", "expert")]  # fmt: skip


def test_names() -> None:
    for name in names():
        task = find_task(name)
        behind = find_task(name.replace("-pixels", ""))
        assert task.data is not None
        assert behind.data is not None
        assert str(task.data) == name
        assert task.reference_returns == behind.reference_returns
        assert recipe(task.data) == recipe(behind.data)
    assert data_names.parse("halfcheetah-pixels-replay") is None
    assert str(data_names.parse("point-mixed")) == "point-mixed"


@pytest.mark.usefixtures("_painted")
@pytest.mark.parametrize("family", data_names.PIXELS)
def test_an_observation_is_the_frame_before_an_action_and_the_one_after_it(family: str) -> None:
    env, behind = find_task(f"{family}-medium").make(), find_task(f"{family}-medium".replace("-pixels", "")).make()  # fmt: skip
    assert env.observation_space.shape == (SIDE, SIDE, 6)
    assert env.observation_space.dtype == np.uint8
    obs, _ = env.reset(seed=3)
    state, _ = behind.reset(seed=3)
    assert np.array_equal(obs[..., :3], obs[..., 3:])
    env.action_space.seed(0)
    for _ in range(12):
        action = env.action_space.sample()
        after, *rest = env.step(action)
        state, *wanted = behind.step(action)
        assert np.array_equal(after[..., :3], obs[..., 3:])
        assert not np.array_equal(after[..., 3:], obs[..., 3:])
        assert rest[:3] == wanted[:3]
        np.testing.assert_array_equal(env.get_wrapper_attr("state"), state)
        obs = after
    env.close()
    env.reset(seed=3)  # It can be used again.
    assert env.get_wrapper_attr("_max_episode_steps") == 1_000


@pytest.mark.usefixtures("_painted")
def test_the_floor_has_no_end_and_the_simulation_does_not_notice() -> None:
    env: Any = find_task("halfcheetah-pixels-medium").make()
    env.reset(seed=0)
    world = env.unwrapped
    assert period(world.model) == pytest.approx(80 / 60)
    pixels = env
    while not isinstance(pixels, MujocoPixels):
        pixels = pixels.env
    frames = []
    for x in (0.2505, 0.2505 + 4 / 3, 0.2505 - 70 * 4 / 3, 0.75):
        world.data.qpos[0] = x
        frames.append(pixels._frame())
        assert world.data.qpos[0] == x
    assert np.array_equal(frames[0], frames[1])
    assert np.array_equal(frames[0], frames[2])
    assert not np.array_equal(frames[0], frames[3])


@pytest.mark.usefixtures("_painted")
@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("hopper-pixels-random", 100),
        pytest.param("halfcheetah-pixels-medium", 1_100, marks=pytest.mark.slow),
    ],
)
def test_the_data_are_those_without_pictures(
    name: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generate, "CHUNK_ROWS", 40)
    pixels = open_data(find_task(name), size=size)
    states = open_data(find_task(name.replace("-pixels", "")), "generated", size=size)
    np.testing.assert_array_equal(pixels.episode_bounds, states.episode_bounds)
    np.testing.assert_array_equal(pixels.episode_returns, states.episode_returns)
    every = torch.arange(size)
    mine, theirs = pixels.take(every), states.take(every)
    for column in ("action", "reward", "terminated", "truncated"):
        assert torch.equal(getattr(mine, column), getattr(theirs, column))
    assert mine.obs.dtype == torch.uint8
    assert torch.equal(mine.next_obs[..., :3], mine.obs[..., 3:])
    starts = set(pixels.episode_bounds[:-1].tolist())
    follows = torch.tensor([row + 1 not in starts for row in range(size - 1)])
    assert torch.equal(mine.next_obs[:-1][follows], mine.obs[1:][follows])
    assert not torch.equal(mine.next_obs[:-1][~follows], mine.obs[1:][~follows])
    for row in starts:
        assert torch.equal(mine.obs[row, ..., :3], mine.obs[row, ..., 3:])
    assert isinstance(pixels, DataSet)
    assert pixels.provenance.source == states.provenance.source
    # The policy's position is in the picture: all but the first coordinate are observed.
    shown = mine.obs[:, 0, :, 3:].flatten(1)[:, 1:3].long()
    apart = (shown - (theirs.obs[:, :2] * SCALE).floor().long()) % 256
    assert ((apart <= 1) | (apart == 255)).all()


def test_too_many_pictures_are_refused() -> None:
    with pytest.raises(UserError, match=r"1,000,000 transitions of hopper-pixels-medium .* give --data-size 10000"):  # fmt: skip
        open_data(find_task("hopper-pixels-medium"))


DRAW = """
import sys, numpy as np
from rlbench.envs.tasks import find_task
env = find_task("halfcheetah-pixels-medium").make()
first = env.reset(seed=0)[0]
env.unwrapped.data.qpos[0] = 200.0
far = env.step(env.action_space.sample())[0]
np.savez(sys.argv[1], first=first, far=far)
"""


@pytest.mark.skipif(
    sys.platform != "linux" or ctypes.util.find_library("EGL") is None,
    reason="draws without a screen through EGL",
)
@pytest.mark.slow
def test_pictures_show_the_robot_on_its_floor(tmp_path: Path) -> None:
    # In a separate process, in which the GL library is not chosen yet.
    environment = {k: v for k, v in os.environ.items() if k != "MUJOCO_GL"}
    words = [sys.executable, "-W", "ignore", "-c", DRAW, str(tmp_path / "a.npz")]
    subprocess.run(words, check=True, env=environment)
    found = np.load(tmp_path / "a.npz")
    for frame in (found["first"][..., 3:], found["far"][..., 3:]):
        lower = frame[50:].astype(int)
        # The floor has light and dark squares.
        assert lower.max() - lower.min() > 120
        assert (lower.max(axis=2) < 40).mean() > 0.1
