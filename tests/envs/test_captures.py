"""Captures of moving robots: motions, cameras against MuJoCo's own, points of the floor, and splits of the same moments."""

import ctypes.util
import math
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from rlbench.envs.examples import find_source
from rlbench.envs.examples.captures import (
    APART,
    FOVY,
    FRAMES,
    SWAY,
    SWING,
    Captures,
    looking,
    pixel_directions,
    sways,
    swings,
)
from rlbench.envs.examples.frames_mujoco import SIDE
from rlbench.errors import UserError

Array = NDArray[Any]


class Drawn:
    """A renderer that draws nothing and remembers each camera."""

    def __init__(self, shown: int) -> None:
        self.scene, self.shown, self.seg = SimpleNamespace(flags=np.zeros(20)), shown, False
        self.seen: list[tuple[Array, Any]] = []

    def update_scene(self, data: Any, camera: Any) -> None:
        self.seen.append((data.qpos.copy(), camera))

    def render(self) -> Array:
        geoms = np.full((SIDE, SIDE, 2), -1)
        geoms[:30, :, 0] = self.shown
        return geoms if self.seg else np.full((SIDE, SIDE, 3), len(self.seen), np.uint8)

    def enable_segmentation_rendering(self) -> None:
        self.seg = True

    def disable_segmentation_rendering(self) -> None:
        self.seg = False

    def close(self) -> None:
        self.scene = SimpleNamespace()


def sampled(
    monkeypatch: pytest.MonkeyPatch, split: Any = "train", seed: int = 0, size: int = FRAMES
) -> tuple[Captures, dict[str, Array], Drawn]:
    source = Captures("humanoid")
    drawn = Drawn(int(source.parts[0]))
    monkeypatch.setattr("rlbench.envs.examples.captures.make_renderer", lambda *x: drawn)
    return source, dict(source.sample(split, size, seed)), drawn


def test_rotations_of_cameras_by_hand() -> None:
    np.testing.assert_allclose(looking(0, 0), [[1, 0, 0], [0, 0, -1], [0, 1, 0]], atol=1e-12)
    # Turned by 90 degrees it looks against x, and from straight above downwards.
    np.testing.assert_allclose(looking(math.pi / 2, 0)[:, 2], [1, 0, 0], atol=1e-12)
    np.testing.assert_allclose(looking(0.3, math.pi / 2)[:, 2], [0, 0, 1], atol=1e-12)
    rotation = looking(0.7, 0.4)
    np.testing.assert_allclose(rotation.T @ rotation, np.eye(3), atol=1e-12)
    assert np.linalg.det(rotation) == pytest.approx(1)


def test_cameras_are_those_of_mujoco(monkeypatch: pytest.MonkeyPatch) -> None:
    import mujoco

    source, columns, drawn = sampled(monkeypatch, size=5)
    scene = mujoco.MjvScene(source._model, 200)
    for (_, shown), camera in zip(drawn.seen, columns["camera"], strict=True):
        mujoco.mjv_updateScene(
            source._model, source._data, mujoco.MjvOption(), None, shown, mujoco.mjtCatBit.mjCAT_ALL, scene
        )  # fmt: skip
        position = np.mean([x.pos for x in scene.camera], axis=0)  # Of the two eyes.
        rotation = camera[3:12].reshape(3, 3)
        np.testing.assert_allclose(camera[:3], position, atol=1e-4)
        np.testing.assert_allclose(-rotation[:, 2], scene.camera[0].forward, atol=1e-5)
        np.testing.assert_allclose(rotation[:, 1], scene.camera[0].up, atol=1e-5)
        # Half the height of the picture at depth 1.
        top = scene.camera[0].frustum_top / scene.camera[0].frustum_near
        assert SIDE / 2 / camera[12] == pytest.approx(top, rel=1e-5)


def test_directions_of_pixels_by_hand() -> None:
    found = pixel_directions(90.0, 4)
    np.testing.assert_allclose(found[0, 3], [0.75, 0.75, -1])
    np.testing.assert_allclose(found[2, 0], [-0.75, -0.25, -1])


def test_joints_swing_once_within_their_limits() -> None:
    rng = np.random.default_rng(0)
    limits = np.array([[-1.0, 1], [0, 2], [-0.1, 0.1]])
    angles = swings(rng, np.array([0.0, 0.0, 0.05]), limits)
    assert angles.shape == (FRAMES, 3)
    assert (angles >= limits[:, 0] - 1e-9).all()
    assert (angles <= limits[:, 1] + 1e-9).all()
    ranges = np.ptp(angles, axis=0) / (limits[:, 1] - limits[:, 0])
    assert (ranges > SWING[0] * 0.98).all()
    assert (ranges < SWING[1] * 1.01).all()
    steps = np.abs(np.diff(angles, axis=0, append=angles[:1]))
    assert (
        steps.max(0) < 0.17 * np.ptp(angles, axis=0)
    ).all()  # pi / 20 of the amplitude, at most.


def test_the_body_turns_and_tilts_to_both_sides(monkeypatch: pytest.MonkeyPatch) -> None:
    turns, tilts = sways(np.random.default_rng(0))
    for angles, most in zip((turns, tilts), SWAY, strict=True):
        assert most * 0.98 < angles.max() <= most
        assert -most <= angles.min() < -most * 0.98
    source, _, drawn = sampled(monkeypatch)
    upright = []
    for qpos, _ in drawn.seen:
        x, y = qpos[4:6]
        upright.append(1 - 2 * (x * x + y * y))  # The cosine of the tilt.
    assert math.acos(min(upright)) == pytest.approx(SWAY[1], rel=0.02)
    halves = [math.atan2(qpos[6], qpos[3]) for qpos, _ in drawn.seen]
    assert 2 * np.ptp(halves) == pytest.approx(2 * SWAY[0], rel=0.05)
    assert source.fields["pose"].shape == (17,)


def test_splits_show_the_same_moments_from_two_cameras(monkeypatch: pytest.MonkeyPatch) -> None:
    source, one, first = sampled(monkeypatch)
    _, other, second = sampled(monkeypatch, "test")
    for name, space in source.fields.items():
        assert one[name].shape == (FRAMES, *(space.shape or ())), name
    assert one["frame"].tolist() == other["frame"].tolist() == [*range(FRAMES)]
    assert np.array_equal(one["pose"], other["pose"])
    for (pose, shown), (same, turned) in zip(first.seen, second.seen, strict=True):
        assert np.array_equal(pose, same)
        assert turned.azimuth - shown.azimuth == pytest.approx(math.degrees(APART))
        assert turned.elevation == shown.elevation
    azimuths = [shown.azimuth - 90 for _, shown in first.seen]
    assert min(azimuths) < -30 < 30 < max(azimuths)
    assert (one["obs"].max((1, 2, 3)) == np.arange(1, FRAMES + 1)).all()
    assert one["mask"][:, :30].all()
    assert not one["mask"][:, 30:].any()
    few = sampled(monkeypatch, size=3)[1]
    assert all(np.array_equal(few[name], column[:3]) for name, column in one.items())


def test_seeds_share_neither_a_motion_nor_a_camera(monkeypatch: pytest.MonkeyPatch) -> None:
    (_, one, _), (_, other, _) = (sampled(monkeypatch, seed=seed) for seed in (0, 1))
    for name in ("pose", "camera"):
        assert not {*one[name][:, 0]} & {*other[name][:, 0]}


def test_points_are_on_the_floor_at_pixels_beside_the_robot(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, columns, _ = sampled(monkeypatch, size=4)
    for camera, points in zip(columns["camera"], columns["points"], strict=True):
        np.testing.assert_allclose(points[:, 2], 0, atol=1e-6)
        own = (points - camera[:3]) @ camera[3:12].reshape(3, 3)
        places = camera[12] * own[:, :2] / -own[:, 2:]
        row = SIDE / 2 - places[:, 1] - 0.5
        column = SIDE / 2 + places[:, 0] - 0.5
        np.testing.assert_allclose(row, row.round(), atol=1e-4)
        np.testing.assert_allclose(column, column.round(), atol=1e-4)
        assert row.round().min() >= 30
        assert len({(*x,) for x in points}) == 64
        near, far = camera[13:]
        assert (near < -own[:, 2]).all()
        assert (-own[:, 2] < far).all()


@pytest.mark.parametrize("family", ["dog", ""])
def test_other_families_are_refused(family: str) -> None:
    factory = find_source(f"captures:{family}")
    assert factory is not None
    with pytest.raises(UserError, match=rf"there are no frames of '{family}'; give one of ant"):
        factory()


DRAW = """
import sys, numpy as np
from rlbench.envs.examples.captures import Captures
source = Captures(sys.argv[1])
columns = dict(source.sample("train", 12, 0))
points = []
for pose in columns["pose"]:
    source._put(pose)
    points.append(source._data.geom_xpos[source.parts].copy())
np.savez(sys.argv[2], middles=np.array(points), **columns)
"""


@pytest.mark.skipif(
    sys.platform != "linux" or ctypes.util.find_library("EGL") is None,
    reason="draws without a screen through EGL",
)
@pytest.mark.slow
@pytest.mark.parametrize("family", ["halfcheetah", "humanoid", "ant", "swimmer"])
def test_middles_of_parts_are_seen_where_the_camera_shows_them(family: str, tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "MUJOCO_GL"}
    words = [sys.executable, "-W", "ignore", "-c", DRAW, family, str(tmp_path / "a.npz")]
    subprocess.run(words, check=True, env=environment)
    columns = dict(np.load(tmp_path / "a.npz"))
    assert 0.05 < columns["mask"].mean() < 0.4
    hits = []
    for camera, middles, mask in zip(
        columns["camera"], columns["middles"], columns["mask"], strict=True
    ):
        own = (middles - camera[:3]) @ camera[3:12].reshape(3, 3)
        assert (own[:, 2] < -camera[13]).all()
        places = camera[12] * own[:, :2] / -own[:, 2:]
        row = np.floor(SIDE / 2 - places[:, 1]).astype(int)
        column = np.floor(SIDE / 2 + places[:, 0]).astype(int)
        inside = (row >= 0) & (row < SIDE) & (column >= 0) & (column < SIDE)
        hits += mask[row[inside], column[inside]].tolist()
    assert np.mean(hits) > 0.97
    assert pytest.approx(30.0) == FOVY
