"""Figures in front of scenes: how often they agree, what the figures show, and frames without them."""

import math

import numpy as np
import pytest

from rlbench.envs.examples import find_source, scenes
from rlbench.envs.examples._base import Source
from rlbench.envs.examples.scenes import SIDE, figures
from rlbench.errors import UserError


def source_of(name: str) -> Source:
    factory = find_source(name)
    assert factory is not None
    return factory()


def test_the_scene_predicts_the_action_in_training_alone() -> None:
    for percent in (85, 100):
        source = source_of(f"scenes-{percent}")
        agree = {}
        for split, size in source.sizes.items():
            found = source.sample(split, size, 0)
            agree[split] = (found["label"] == found["scene"]).mean()
            others = np.bincount((found["scene"] - found["label"]) % 4, minlength=4)[1:]
            assert others.max() - others.min() <= 0.1 * size
        assert agree["train"] == pytest.approx(percent / 100, abs=0.02)
        assert agree["test"] == pytest.approx(0.25, abs=0.03)


def test_columns_are_in_their_spaces_and_no_two_splits_or_seeds_share_a_frame(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scenes.Scenes, "sizes", {"train": 60, "test": 40})
    source, parts = source_of("scenes-85"), []
    for seed in (0, 1):
        for split in ("train", "test"):
            found = source.sample(split, 20, seed)
            for field, space in source.fields.items():
                assert all(space.contains(x.astype(space.dtype)) for x in found[field])
            parts.append({x.tobytes() for x in found["obs"]})
            few = source.sample(split, 5, seed)
            assert all(np.array_equal(few[name], x[:5]) for name, x in found.items())
    assert len(set.union(*parts)) == 80
    assert source.classes["label"] == ("up", "right", "down", "left")


def test_only_the_figure_is_missing_in_a_masked_frame() -> None:
    found = source_of("scenes-85").sample("test", 200, 0)
    differs = (found["obs"] != found["masked"]).any(-1)
    share = differs.mean((1, 2))
    assert 0.01 < np.median(share) < 0.1
    rows, columns = (differs.any(axis).sum(1) for axis in (2, 1))
    assert max(rows.max(), columns.max()) < 18, "the figure is in one place"


def test_arms_point_where_the_action_says(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("POSTURE", 0.0), ("BRIGHTNESS", (50.0, 50.0)), ("LENGTHS", (7.0, 7.0))):
        monkeypatch.setattr(scenes, name, value)
    ink = figures(np.arange(4).repeat(50), np.random.default_rng(0)).reshape(4, 50, SIDE, SIDE)
    assert (ink >= 0).all()
    assert ink.max() == 50
    rows, columns = np.mgrid[:SIDE, :SIDE]
    for action, (axis, sign) in enumerate([(rows, -1), (columns, 1), (rows, 1), (columns, -1)]):
        # From the middle the arm reaches 7 pixels, the trunk 3.5 at 45 degrees on both sides.
        place = np.where(ink[action] > 0, sign * axis, -99).max((1, 2))
        back = np.where(ink[action] > 0, -sign * axis, -99).max((1, 2))
        length = place + back + 1
        assert length.mean() == pytest.approx(7 + 3.5 / math.sqrt(2) + 2 * 1.5, abs=0.5)
        half = sign * (ink[action] * axis).sum((1, 2)) / ink[action].sum((1, 2))
        assert (half < (place - back) / 2).all(), "most of the ink is near the trunk"


@pytest.mark.parametrize("name", ["scenes-", "scenes-101", "scenes-half", "scenes--5"])
def test_other_shares_are_refused(name: str) -> None:
    with pytest.raises(UserError, match=r"give a share in %, 0 to 100, as in scenes-85"):
        source_of(name)
