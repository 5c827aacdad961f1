"""Frames of MuJoCo's robots: poses within their limits, key points at the pixels that show them, masks of the parts."""

import ctypes.util
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from numpy.typing import NDArray

from rlbench.envs.examples import find_source
from rlbench.envs.examples.frames_mujoco import (
    FAMILIES,
    TILT,
    MujocoFrames,
    pixels,
    quaternion,
    visible,
)
from rlbench.errors import UserError

Array = NDArray[Any]


def test_points_in_pixels_by_hand() -> None:
    # At 90 degrees the camera sees 1 m to each side at a distance of 1 m: 32 pixels.
    points = np.array([[0, 0, -1], [0.5, 0, -1], [0, 0.5, -1], [1, -1, -2.0]])
    np.testing.assert_allclose(pixels(points, 90.0), [[32, 32], [48, 32], [32, 16], [48, 48]])


def test_a_point_is_visible_where_its_own_part_is_shown() -> None:
    seg = np.zeros((2, 3, 4), np.uint8)
    seg[0, 1, 2], seg[1, 2, 3], seg[1, 0, 0] = 1, 2, 1
    keypoints = np.array([[[2.9, 1.0, 0], [2.0, 1.0, 0]], [[-0.1, 0, 0], [3.0, 2.99, 0]]])
    assert visible(keypoints, seg).tolist() == [[True, False], [False, True]]
    keypoints[1, 1] = 4.0, 2.0, 0  # Beyond the right edge.
    assert not visible(keypoints, seg)[1, 1]


def test_rotations_by_hand() -> None:
    half = math.sqrt(0.5)
    np.testing.assert_allclose(quaternion(math.pi / 2, 0, 0.3), [half, 0, 0, half])
    np.testing.assert_allclose(quaternion(0, math.pi / 2, 0), [half, half, 0, 0])
    np.testing.assert_allclose(
        quaternion(0, math.pi / 2, math.pi / 2), [half, 0, half, 0], atol=1e-12
    )
    # First the tilt about x, then a quarter turn, which takes x to y.
    np.testing.assert_allclose(quaternion(math.pi / 2, math.pi / 2, 0), [0.5] * 4)


@pytest.mark.parametrize("family", FAMILIES)
def test_poses_are_within_their_limits_and_touch_the_floor(family: str) -> None:
    source = MujocoFrames(family)
    model, data = source._model, source._data
    rng = np.random.default_rng(0)
    poses = np.array([source._pose(rng) for _ in range(50)])
    low, high = model.jnt_range[source.joints].T
    assert ((poses >= low) & (poses <= high)).all()
    assert (np.ptp(poses, axis=0) > 0.8 * (high - low)).all()
    assert data.qpos[model.jnt_qposadr[source.joints]] == pytest.approx(poses[-1])
    if family == "swimmer":
        return
    # The lowest part is on the floor: by its distance to the plane, as MuJoCo computes it.
    import mujoco

    mujoco.mj_forward(model, data)
    floor = int(np.flatnonzero(model.geom_bodyid == 0)[0])
    apart = [
        mujoco.mj_geomDistance(model, data, floor, int(part), 10, None) for part in source.parts
    ]
    assert min(apart) == pytest.approx(0, abs=1e-6)


def test_the_body_is_tilted_to_both_sides() -> None:
    source, rng = MujocoFrames("hopper"), np.random.default_rng(0)
    tilts = []
    for _ in range(60):
        source._pose(rng)
        tilts.append(source._data.qpos[2])
    assert -TILT <= min(tilts) < -0.8 * TILT
    assert 0.8 * TILT < max(tilts) <= TILT


def test_fields_and_names_of_the_parts() -> None:
    source = MujocoFrames("halfcheetah")
    parts = ("torso", "head", "bthigh", "bshin", "bfoot", "fthigh", "fshin", "ffoot")
    assert source.classes == {"seg": ("background", *parts)}
    assert source.fields["seg"] == spaces.Box(0, 8, (64, 64), np.int64)
    assert source.fields["keypoints"].shape == source.fields["keypoints3d"].shape == (8, 3)
    assert source.fields["pose"].shape == (6,)
    assert MujocoFrames("swimmer").classes["seg"] == ("background", "torso", "mid", "back")


@pytest.mark.parametrize("family", ["dog", ""])
def test_other_families_are_refused(family: str) -> None:
    factory = find_source(f"frames-mujoco:{family}")
    assert factory is not None
    with pytest.raises(
        UserError, match=rf"there are no frames of '{family}'; give one of ant, half"
    ):
        factory()


DRAW = """
import sys, numpy as np
from rlbench.envs.tasks import find_task
from rlbench.offline_data.examples import open_examples
from rlbench.envs.examples.frames_mujoco import MujocoFrames
MujocoFrames.sizes = {"train": 40, "test": 20}
family, out = sys.argv[1:]
columns = {}
for seed in (0, 1):
    found = open_examples(find_task(f"frames-mujoco:{family}"), 40, seed)
    for split, part in (("train", found.train), ("test", found.test)):
        columns |= {f"{seed}{split}{name}": x.numpy() for name, x in part.columns.items()}
np.savez(out, **columns)
"""


@pytest.mark.skipif(
    sys.platform != "linux" or ctypes.util.find_library("EGL") is None,
    reason="draws without a screen through EGL",
)
@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "least"), [("halfcheetah", 0.99), ("humanoid", 0.8), ("ant", 0.4)]
)
def test_points_lie_in_their_parts(family: str, least: float, tmp_path: Path) -> None:
    # In a separate process, in which the GL library is not chosen yet.
    environment = {k: v for k, v in os.environ.items() if k != "MUJOCO_GL"}
    words = [sys.executable, "-W", "ignore", "-c", DRAW, family, str(tmp_path / "a.npz")]
    subprocess.run(words, check=True, env=environment)
    columns = dict(np.load(tmp_path / "a.npz"))
    seg, depth = columns["0trainseg"], columns["0traindepth"]
    points, places = columns["0trainkeypoints"], columns["0trainkeypoints3d"]
    assert points[..., 2].mean() > least
    for example, part in np.argwhere(points[..., 2] == 0):
        # A point that is not visible is behind another part, outside the picture, or within a pixel of its own mask.
        u, v = points[example, part, :2].astype(int)
        if 0 < u < 63 and 0 < v < 63:
            around = (slice(v - 1, v + 2), slice(u - 1, u + 2))
            hidden = depth[example][around].min() < -places[example, part, 2]
            assert hidden or (seg[example][around] == part + 1).any()
    # The surface of a visible part is at most a radius of 0.3 m before its middle.
    for example, part in np.argwhere(points[..., 2] == 1):
        u, v = points[example, part, :2].astype(int)
        before = -places[example, part, 2] - depth[example, v, u]
        assert -0.02 < before < 0.3
    parts = [
        {row.tobytes() for row in columns[f"{seed}{split}pose"]}
        for seed in (0, 1)
        for split in ("train", "test")
    ]
    assert len(set.union(*parts)) == 120
