"""Views of MuJoCo's robots: normals by hand, the action and its return as the environment gives them, and the camera."""

import ctypes.util
import math
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from rlbench.envs.examples import find_source
from rlbench.envs.examples.views_mujoco import DISTANCE, HELD, SIDE, TURN, MujocoViews, normals
from rlbench.errors import UserError


@pytest.mark.parametrize("plane", [(0, 0, 1), (0, 1, 0.6), (0.6, -0.3, 1), (-1, 0.5, 2)])
def test_normals_of_planes_by_hand(plane: tuple[float, float, float]) -> None:
    rows, columns, fovy = 6, 8, 45.0
    unit = np.array(plane) / np.linalg.norm(plane)
    focal = rows / 2 / math.tan(math.radians(fovy) / 2)
    depth = np.empty((rows, columns))
    for v in range(rows):
        for u in range(columns):
            ray = np.array([(u + 0.5 - columns / 2) / focal, (rows / 2 - v - 0.5) / focal, -1])
            depth[v, u] = -3 / (unit @ ray)  # Where the ray meets the plane with the distance 3.
    found = normals(depth, fovy)
    np.testing.assert_allclose(found, np.broadcast_to(unit, (rows, columns, 3)), atol=1e-9)


class Drawn:
    """A renderer that draws nothing and remembers what it was to draw."""

    def __init__(self, shown: int) -> None:
        self.scene = SimpleNamespace(flags=np.zeros(20))
        self.seen: list[Any] = []
        self.shown, self.mode = shown, "obs"

    def update_scene(self, data: Any, camera: Any) -> None:
        self.seen.append((data.qpos.copy(), camera.azimuth, camera.lookat.copy(), camera.distance))

    def render(self) -> Any:
        geoms = np.full((SIDE, SIDE, 2), -1)
        geoms[0, 0, 0] = self.shown
        depth = np.full((SIDE, SIDE), 2.0)
        depth[5:] = 1e6
        colours = np.full((SIDE, SIDE, 3), len(self.seen), np.uint8)
        return {"obs": colours, "seg": geoms, "depth": depth}[self.mode]

    def enable_segmentation_rendering(self) -> None:
        self.mode = "seg"

    def enable_depth_rendering(self) -> None:
        self.mode = "depth"

    def disable_segmentation_rendering(self) -> None:
        self.mode = "obs"

    disable_depth_rendering = disable_segmentation_rendering


def test_an_example_is_what_the_environment_does() -> None:
    source = MujocoViews("halfcheetah")
    renderer, rng = Drawn(int(source.parts[2])), np.random.default_rng(3)
    for example in range(2):  # The first leaves nothing behind for the second.
        row = source._view(renderer, rng)
        (before, azimuth, target, distance), (after, *camera) = renderer.seen[-2:]
        assert camera[0] == azimuth == pytest.approx(90 + math.degrees(row["azimuth"][0]))
        assert camera[1].tolist() == target.tolist()
        assert camera[2] == distance == DISTANCE
        env: Any = gym.make("HalfCheetah-v5").unwrapped
        env.reset(seed=0)
        env.set_state(before, np.zeros(env.model.nv))
        np.testing.assert_allclose(target, env.data.xpos[1])
        total = sum(float(env.step(row["action"])[1]) for _ in range(HELD))
        assert row["return"] == pytest.approx([total], abs=1e-9)
        np.testing.assert_allclose(after, env.data.qpos, atol=1e-9)
        assert np.abs(after - before).max() > 0.05
        assert row["obs"].max() == 2 * example + 1
        assert row["next_obs"].max() == 2 * example + 2
    assert row["seg"][0, 0] == 3
    assert row["seg"].sum() == 3
    np.testing.assert_allclose(row["normals"][:4], np.broadcast_to([0, 0, 1], (4, SIDE, 3)))
    assert not row["normals"][5:].any()


def test_angles_and_actions_are_random_in_their_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    source = MujocoViews("halfcheetah")
    monkeypatch.setattr("rlbench.envs.examples.views_mujoco.make_renderer", lambda *x: Renderer(1))
    one, same, other, test = (
        source.sample(split, 20, seed)  # type: ignore[arg-type]
        for split, seed in (("train", 0), ("train", 0), ("train", 1), ("test", 0))
    )
    assert all(np.array_equal(x, same[name]) for name, x in one.items())
    for different in (other, test):
        assert not {*one["azimuth"].ravel()} & {*different["azimuth"].ravel()}
    assert -TURN <= one["azimuth"].min() < -0.7 * TURN
    assert 0.7 * TURN < one["azimuth"].max() <= TURN
    assert np.ptp(one["action"], axis=0).min() > 1.4
    for name, space in source.fields.items():
        assert one[name].shape == (20, *(space.shape or ())), name
    first = source.sample("train", 3, 0)
    assert all(np.array_equal(x, one[name][:3]) for name, x in first.items())


class Renderer(Drawn):
    """As `Drawn`, and it can be closed."""

    def close(self) -> None:
        self.mode = "closed"


def test_other_families_are_refused() -> None:
    factory = find_source("views-mujoco:dog")
    assert factory is not None
    with pytest.raises(UserError, match="there are no frames of 'dog'; give one of ant, half"):
        factory()


DRAW = """
import sys, numpy as np
from rlbench.envs.tasks import find_task
from rlbench.offline_data.examples import open_examples
from rlbench.envs.examples.views_mujoco import MujocoViews
MujocoViews.sizes = {"train": 20, "test": 10}
found = open_examples(find_task(f"views-mujoco:{sys.argv[1]}"), 20, 0)
np.savez(sys.argv[2], **{name: x.numpy() for name, x in found.train.columns.items()})
"""


@pytest.mark.skipif(
    sys.platform != "linux" or ctypes.util.find_library("EGL") is None,
    reason="draws without a screen through EGL",
)
@pytest.mark.slow
@pytest.mark.parametrize("family", ["halfcheetah", "humanoid"])
def test_drawn_views_show_the_robot_on_the_floor(family: str, tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "MUJOCO_GL"}
    words = [sys.executable, "-W", "ignore", "-c", DRAW, family, str(tmp_path / "a.npz")]
    subprocess.run(words, check=True, env=environment)
    columns = dict(np.load(tmp_path / "a.npz"))
    robot = columns["seg"] > 0
    assert 0.02 < robot.mean() < 0.5
    assert (robot[:, 10:22, 10:22].any((1, 2))).all()  # The trunk is in the middle.
    lengths = np.linalg.norm(columns["normals"], axis=3)
    assert np.isclose(lengths, 1, atol=1e-4).mean() + (lengths == 0).mean() == pytest.approx(1)
    # Away from the robot the lowest row shows the floor, whose normal is up, tilted by the camera's 10 degrees.
    floor = columns["normals"][:, -1][~robot[:, -3:].any(1)]
    up = np.array([0, math.cos(math.radians(10)), math.sin(math.radians(10))])
    assert np.median(np.abs(floor - up)) < 0.05
    assert (columns["obs"] != columns["next_obs"]).any((1, 2, 3)).all()
