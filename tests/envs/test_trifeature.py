"""Pictures with known features: their independence, their agreement, and what they show."""

import numpy as np
import pytest

from rlbench.envs.examples import find_source
from rlbench.envs.examples.trifeature import COLOURS, FEATURES, GREY, Trifeature
from rlbench.errors import UserError


def source(name: str) -> Trifeature:
    found = find_source(name)
    assert found is not None
    made = found()
    assert isinstance(made, Trifeature)
    return made


def test_every_combination_of_features_is_equally_frequent() -> None:
    columns = source("trifeature").sample("train", 1_500, 0)
    counts = np.zeros((5, 5, 5))
    np.add.at(counts, tuple(columns[name] for name in FEATURES), 1)
    assert counts.min() >= 2
    assert counts.mean() == 12
    assert (
        (counts - 12) ** 2 / 12
    ).sum() < 190  # Chi-squared with 124 degrees of freedom: 1 in 10,000.


@pytest.mark.parametrize(("name", "share"), [("shape-colour-100", 1.0), ("texture-shape-90", 0.92), ("colour-texture-20", 0.36)])  # fmt: skip
def test_two_features_agree_in_training_alone(name: str, share: float) -> None:
    first, second, _ = name.split("-")
    (third,) = set(FEATURES) - {first, second}
    made = source(f"trifeature-{name}")
    columns = made.sample("train", 1_000, 0)
    assert (columns[first] == columns[second]).mean() == pytest.approx(share, abs=0.04)
    assert (columns[first] == columns[third]).mean() == pytest.approx(0.2, abs=0.04)
    assert np.bincount(columns[second]).min() > 150
    columns = made.sample("test", 1_000, 0)
    assert (columns[first] == columns[second]).mean() == pytest.approx(0.2, abs=0.04)


def test_pictures_show_their_features() -> None:
    columns = source("trifeature").sample("train", 300, 0)
    obs, colours = columns["obs"].astype(int), np.array([*COLOURS.values()])
    for picture, shape, colour, texture in zip(obs, *(columns[x] for x in FEATURES), strict=True):
        object_pixels = (picture != GREY).any(-1)
        lit = (picture == colours[colour]).all(-1)
        share = lit.sum() / object_pixels.sum()
        # Pixels at edges are mixed, so that shares are below those of the textures.
        if FEATURES["texture"][texture] == "solid":
            assert share > 0.6
            assert not (picture.max(-1) < 20).any()
        else:
            assert share < 0.6
            assert (picture.max(-1) < 20).any()
        rows, columns_ = np.nonzero(object_pixels)
        assert max(np.ptp(rows), np.ptp(columns_)) <= 20
        area = object_pixels.sum()
        low, high = {"triangle": (100, 180), "square": (180, 260), "plus": (160, 260), "circle": (220, 300), "tee": (110, 200)}[FEATURES["shape"][shape]]  # fmt: skip
        assert low < area < high, FEATURES["shape"][shape]


def test_the_first_pictures_do_not_depend_on_their_number() -> None:
    made = source("trifeature-shape-colour-50")
    few, many = (made.sample("train", size, 3) for size in (10, 300))
    for name in few:
        assert np.array_equal(few[name], many[name][:10])
    assert not np.array_equal(few["obs"], made.sample("train", 10, 4)["obs"])
    assert not np.array_equal(few["obs"], made.sample("test", 10, 3)["obs"])


def test_places_and_angles_vary() -> None:
    columns = source("trifeature").sample("train", 400, 0)
    seen = (columns["obs"] != GREY).any(-1).mean(0)
    # Corners are only reached by corners.
    assert (seen > 0).mean() > 0.8
    assert seen.max() < 0.95


@pytest.mark.parametrize(
    "rest",
    [
        "shape",
        "shape-shape-50",
        "shape-colour-0",
        "shape-colour-101",
        "shape-size-50",
        "shape-colour-5x",
    ],
)
def test_wrong_names_are_refused(rest: str) -> None:
    with pytest.raises(UserError, match="does not name two features and a percentage"):
        source(f"trifeature-{rest}")


def test_navon_shows_a_large_letter_of_small_letters() -> None:
    found = find_source("navon")
    assert found is not None
    made = found()
    columns = made.sample("train", 200, 0)
    names = made.classes["large"]
    for picture, large, small in zip(
        columns["obs"][..., 0], columns["large"], columns["small"], strict=True
    ):
        rows, places = np.nonzero(picture)
        cut = picture[rows.min() :, places.min() :]
        # The first cell of the large letter E, H, S and X is not empty, and shows the small letter.
        if names[large] in "EHSX":
            letter = cut[:5, :5] > 0
            assert letter.sum() == {"E": 16, "H": 13, "S": 17, "T": 9, "X": 9}[names[small]]
    assert (columns["large"] == columns["small"]).mean() == pytest.approx(0.2, abs=0.1)
    few = made.sample("train", 5, 0)
    assert np.array_equal(few["obs"], columns["obs"][:5])
    assert not np.array_equal(few["obs"], made.sample("test", 5, 0)["obs"])
