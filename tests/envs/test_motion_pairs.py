"""Clips of two robots: stick figures by hand, normalisation, the same poses, splits that share nothing."""

import ctypes.util
import os
import subprocess
import sys

import numpy as np
import pytest

from rlbench.envs.examples.frames_mujoco import SIDE
from rlbench.envs.examples.motion_pairs import (
    FRAMES,
    MotionPairs,
    Place,
    normalised,
    sticks,
)
from rlbench.errors import UserError


def test_sticks_by_hand() -> None:
    ends = np.array([[[10.5, 20.5], [14.5, 20.5]], [[40.0, 40.0], [40.0, 40.0]]])
    found = sticks(ends)
    assert found.shape == (SIDE, SIDE, 2)
    line = found[..., 0].astype(int)
    assert (line[20, 10:15] == 255).all()
    assert line[19, 12] == line[21, 12] == line[20, 9] == line[20, 15] == 128
    assert line[18, 12] == line[20, 8] == 0
    assert found[39:41, 39:41, 1].min() > 0  # A part without a length is a dot.
    assert found[..., 1].astype(bool).sum() <= 12


def test_points_are_scaled_around_the_lowest_row_and_the_middle() -> None:
    points = np.array([[[30.0, 50.0], [34.0, 40.0]]])
    found = normalised(points, Place(50, 10, 32), Place(55, 20, 30))
    assert found.tolist() == [[[26, 55], [34, 35]]]


@pytest.fixture(scope="module")
def source() -> MotionPairs:
    return MotionPairs("halfcheetah")


DRAW = """
import sys
import numpy as np
from rlbench.envs.examples.motion_pairs import MotionPairs
source, columns = MotionPairs("halfcheetah"), {}
for split, size, seed in (("train", 2, 0), ("test", 2, 0), ("test", 1, 1)):
    for name, column in source.sample(split, size, seed).items():
        columns[f"{split}{seed}/{name}"] = column
np.savez(sys.argv[1], **columns)
"""


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, np.ndarray]]:
    """Clips by split and seed, drawn in a separate process, in which the GL library is not chosen yet."""
    if sys.platform != "linux" or ctypes.util.find_library("EGL") is None:
        pytest.skip("draws without a screen through EGL")
    out = tmp_path_factory.mktemp("clips") / "clips.npz"
    environment = {k: v for k, v in os.environ.items() if k != "MUJOCO_GL"}
    words = [sys.executable, "-W", "ignore", "-c", DRAW, str(out)]
    subprocess.run(words, check=True, env=environment)
    found: dict[str, dict[str, np.ndarray]] = {}
    with np.load(out) as saved:
        for name, column in saved.items():
            part, _, title = name.partition("/")
            found.setdefault(part, {})[title] = column
    return found


@pytest.fixture(scope="module")
def clips(drawn: dict[str, dict[str, np.ndarray]]) -> dict[str, dict[str, np.ndarray]]:
    return {split: drawn[f"{split}0"] for split in ("train", "test")}


def test_columns_fit_their_spaces(
    source: MotionPairs, clips: dict[str, dict[str, np.ndarray]]
) -> None:
    for columns in clips.values():
        for name, space in source.fields.items():
            assert columns[name].shape == (2, *(space.shape or ()))
            assert space.contains(columns[name][0].astype(space.dtype))
    assert clips["train"]["obs"].shape[1] == FRAMES


def test_stick_figures_of_both_robots_lie_on_the_target(
    clips: dict[str, dict[str, np.ndarray]],
) -> None:
    for split, least in (("train", 0.97), ("test", 0.8)):
        drawn = clips[split]["obs"].max(axis=-1) > 200
        assert (clips[split]["mask"][drawn] == 1).mean() > least
    # The source is smaller: without normalisation its pictures are not where the target is.
    assert not np.array_equal(clips["test"]["source"], clips["test"]["frames"])


def test_the_face_is_at_its_channel(
    source: MotionPairs, clips: dict[str, dict[str, np.ndarray]]
) -> None:
    columns = clips["test"]
    for t in range(FRAMES):
        column, row = np.floor(columns["face"][0, t]).astype(int)
        assert columns["obs"][0, t, row, column, source.face] > 200


def test_the_target_is_in_the_pose_of_the_source(source: MotionPairs) -> None:
    angles, tilts = source.source.movement(np.random.default_rng(3))
    assert angles.shape == (FRAMES, len(source.source.joints))
    for robot in (source.source, source.target):
        robot.put(angles[2], float(tilts[2]))
        assert robot._lowest() == pytest.approx(0, abs=1e-9)
    one, other = source.source, source.target
    np.testing.assert_allclose(one._data.geom_xmat, other._data.geom_xmat, atol=1e-12)
    changes = np.abs(np.diff(angles, axis=0)).max()
    assert 0 < changes < 0.5  # Consecutive frames are near each other.


def test_seeds_and_splits_have_other_movements(drawn: dict[str, dict[str, np.ndarray]]) -> None:
    train, test, other = (drawn[name]["frames"] for name in ("train0", "test0", "test1"))
    assert not np.array_equal(other[0], test[0])
    assert not np.array_equal(train[0], test[0])


def test_other_robots_are_refused() -> None:
    with pytest.raises(UserError, match="'ant'; give one of halfcheetah, hopper, walker2d"):
        MotionPairs("ant")
