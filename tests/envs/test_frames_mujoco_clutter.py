"""Frames with clutter: whole limbs of other frames, pasted inside the picture; what they cover is no longer seen."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from rlbench.envs.examples import find_source
from rlbench.envs.examples.frames_mujoco import MujocoFrames
from rlbench.envs.examples.frames_mujoco_clutter import MOST, MujocoClutter, cluttered
from rlbench.errors import UserError

Array = NDArray[Any]
LIMBS = np.array([[False, False, True, True], [False, False, False, True]])


@pytest.mark.parametrize(
    ("family", "limbs"),
    [
        ("halfcheetah", [("bthigh", "bshin", "bfoot"), ("fthigh", "fshin", "ffoot")]),
        ("hopper", [("thigh_geom", "leg_geom", "foot_geom")]),
    ],
)
def test_limbs_hang_on_the_trunk(family: str, limbs: list[tuple[str, ...]]) -> None:
    source = MujocoClutter(family)
    names = np.array(source.classes["seg"])
    assert [tuple(names[row]) for row in source.limbs] == limbs
    assert source.fields["clean"] == source.fields["obs"]


def pictures() -> tuple[Array, Array]:
    """Four pictures whose pixels show the picture and the part: parts 2 and 3 are one limb, of 2x2 and 1x2 pixels."""
    seg = np.zeros((4, 9, 8), np.uint8)
    seg[:, 1:3, 1] = 1
    seg[:, 3:5, 2:4] = 2
    seg[:, 5, 2:4] = 3
    obs = np.zeros((4, 9, 8, 3), np.uint8)
    obs[..., 0], obs[..., 1] = np.arange(10, 50, 10)[:, None, None], seg
    return obs, seg


def test_limbs_of_other_pictures_are_pasted_as_they_are() -> None:
    obs, seg = pictures()
    rng = np.random.default_rng(0)
    counts, corners = set(), set()
    for _ in range(60):
        pasted, covered = cluttered(obs, seg, LIMBS, rng)
        assert (pasted[~covered] == obs[~covered]).all()
        assert (pasted[covered][:, 1] >= 2).all(), "parts of limbs only"
        assert (pasted[..., 0] != obs[..., 0])[covered].all(), "of another picture"
        counts |= set(covered.sum((1, 2)).tolist())
        corners |= {
            edge for edge in ("top", "bottom") if covered[:, 0 if edge == "top" else -1].any()
        }
        corners |= {edge for edge in ("left", "right") if covered[:, :, 0 if edge == "left" else -1].any()}  # fmt: skip
    assert min(counts) == 2, "the limb of part 3 alone"
    assert 6 < max(counts) <= 6 * MOST
    assert max(counts) > 6 * (MOST - 1)
    assert corners == {"top", "bottom", "left", "right"}


def test_covered_points_are_not_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    obs, seg = pictures()
    keypoints = np.zeros((4, 3, 3), np.float32)
    keypoints[:] = [[1.5, 1.5, 1], [2.5, 3.5, 1], [2.5, 5.5, 0]]
    given = {"obs": obs, "seg": seg, "keypoints": keypoints}
    monkeypatch.setattr(MujocoFrames, "sample", lambda *_: {k: x.copy() for k, x in given.items()})
    monkeypatch.setattr(MujocoClutter, "limbs", LIMBS)
    source, hidden = MujocoClutter("halfcheetah"), 0
    for seed in range(20):
        found = source.sample("train", 4, seed)
        assert np.array_equal(found["clean"], obs)
        changed = (found["obs"] != obs).any(-1)
        assert (found["seg"][changed] == 0).all()
        assert np.array_equal(found["seg"][~changed], seg[~changed])
        seen = found["keypoints"][..., 2]
        assert not seen[:, 2].any(), "it was hidden before"
        for k, (row, column) in enumerate([(1, 1), (3, 2)]):
            assert np.array_equal(seen[:, k] == 0, changed[:, row, column])
        hidden += int((seen[:, :2] == 0).sum())
        assert np.array_equal(found["keypoints"][..., :2], keypoints[..., :2])
    assert hidden
    again, test = source.sample("train", 4, 19), source.sample("test", 4, 19)
    assert np.array_equal(again["obs"], found["obs"])
    assert not np.array_equal(test["obs"], found["obs"])


def test_bad_names_and_sizes_are_refused() -> None:
    factory = find_source("frames-mujoco-clutter:dog")
    assert factory is not None
    with pytest.raises(UserError, match="there are no frames of 'dog'"):
        factory()
    with pytest.raises(UserError, match="give a --data-size of 2 or more"):
        MujocoClutter("halfcheetah").sample("train", 1, 0)
