"""Digits on a noisy canvas: copies, places, noise and splits."""

import numpy as np
import pytest

from rlbench.envs.examples._base import Array
from rlbench.envs.examples.digits import Digits
from rlbench.envs.examples.digits_shift import DigitsShift

pytest.importorskip("sklearn")


def places(obs: Array, image: Array) -> list[tuple[int, int]]:
    """Where a digit may be on a canvas: what remains without it is noise from 0 to 0.5."""
    canvas = obs[..., 0] * (1.5 / 255)
    found = []
    for row in range(5):
        for column in range(5):
            rest = canvas.copy()
            rest[row : row + 8, column : column + 8] -= image[..., 0] / 255
            if rest.min() > -0.01 and rest.max() < 0.51:
                found.append((row, column))
    return found


def test_each_digit_is_twice_on_a_noisy_canvas() -> None:
    given, digits = DigitsShift().sample("train", 200, 0), Digits().sample("train", 100, 0)
    assert given["obs"].shape == (200, 12, 12, 1)
    assert given["obs"].dtype == np.uint8
    np.testing.assert_array_equal(given["label"], digits["label"].repeat(2))
    found = [
        places(obs, image)
        for obs, image in zip(given["obs"], digits["obs"].repeat(2, axis=0), strict=True)
    ]
    assert all(len(x) == 1 for x in found)
    assert len({x[0] for x in found}) == 25
    assert given["obs"][:, 0].mean() * (1.5 / 255) == pytest.approx(0.29, abs=0.06)
    assert not (given["obs"][::2] == given["obs"][1::2]).all(axis=(1, 2, 3)).any()


def test_splits_are_those_of_the_images() -> None:
    source = DigitsShift()
    assert source.sizes == {"train": 2874, "test": 720}
    test = source.sample("test", 720, 0)
    np.testing.assert_array_equal(test["label"], Digits().sample("test", 360, 0)["label"].repeat(2))
    assert len(places(test["obs"][7], Digits().sample("test", 4, 0)["obs"][3])) == 1


def test_the_seed_decides_and_a_smaller_set_is_the_beginning() -> None:
    few, many = (DigitsShift().sample("train", size, 0) for size in (21, 40))
    np.testing.assert_array_equal(few["obs"], many["obs"][:21])
    assert (DigitsShift().sample("train", 21, 1)["obs"] != few["obs"]).any(axis=(1, 2, 3)).all()
