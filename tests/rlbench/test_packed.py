"""Dict observations as vectors, and their parts again."""

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Text

from rlbench.packed import Packed
from rlbench.sequences import SPECIAL, TokenSequence

IMAGE = Box(0, 255, (2, 3, 1), np.uint8)
WHOLE = Dict(
    image=IMAGE, heading=Discrete(3, start=2), text=TokenSequence((*SPECIAL, "go"), 4),
    arm=Dict(place=Box(-1, 1, (2,)), hand=Dict(open=MultiBinary(2))),
)  # fmt: skip


def test_every_part_is_at_its_place_by_hand() -> None:
    space = Packed(WHOLE)
    assert list(space.parts) == ["image", "heading", "text", "arm.place", "arm.hand.open"]
    given = {
        "image": np.arange(6, dtype=np.uint8).reshape(2, 3, 1), "heading": 4, "text": [1, 3, 0, 0],
        "arm": {"place": np.array([0.5, -0.5]), "hand": {"open": np.array([1, 0])}},
    }  # fmt: skip
    expected = [0, 1, 2, 3, 4, 5, 0, 0, 1, 1, 3, 0, 0, 0.5, -0.5, 1, 0]
    assert space.pack(given).tolist() == expected
    assert space.shape == (17,)
    parts = space.unpack(torch.tensor([expected]).expand(3, 5, -1))
    assert parts["image"].shape == (3, 5, 2, 3, 1)
    assert parts["image"][0, 0].flatten().tolist() == [0, 1, 2, 3, 4, 5]
    assert parts["heading"][0, 0].tolist() == [0, 0, 1]
    assert parts["arm.hand.open"][2, 4].tolist() == [1, 0]


def test_a_multi_discrete_part_becomes_one_hot() -> None:
    space = Packed(Dict(x=MultiDiscrete([2, 3])))
    assert space.pack({"x": np.array([1, 0])}).tolist() == [0, 1, 1, 0, 0]


def test_keys_may_contain_dots_and_be_numbers() -> None:
    numbers: Any = {3: MultiBinary(1)}
    space = Packed(Dict({"a.b": Box(-1, 1, (1,)), "a": Dict(c=Discrete(2)), "d": Dict(numbers)}))
    assert list(space.parts) == ["a.c", "a.b", "d.3"]
    given = {"a.b": [0.5], "a": {"c": 1}, "d": {3: [1]}}
    assert space.pack(given).tolist() == [0, 1, 0.5, 1]


@pytest.mark.parametrize(
    ("whole", "message"),
    [
        (Dict({"a.b": Discrete(2), "a": Dict(b=Discrete(2))}), r"two parts of one name among a\.b"),
        (Dict(), "no parts"),
        (Dict(a=Dict()), "no parts"),
    ],
)
def test_parts_need_different_names(whole: Dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Packed(whole)


def test_the_numbers_of_a_box_are_not_rounded() -> None:
    space = Packed(Dict(x=Box(0, 9, (3,), np.int64)))
    packed = space.pack({"x": [0.5, 300, np.nan]})
    assert packed[:2].tolist() == [0.5, 300]
    assert np.isnan(packed[2])


@pytest.mark.parametrize(
    ("part", "value"),
    [
        (Discrete(3), -1), (Discrete(3), 3), (Discrete(3), 0.5), (Discrete(3), np.nan), (Discrete(3, start=2), 1),
        (MultiDiscrete([2, 3]), [2, 0]), (MultiBinary(2), [7, 0]), (TokenSequence((*SPECIAL, "go"), 3), [1, 4, 0]),
        (TokenSequence((*SPECIAL, "go"), 3), [1, -1, 0]), (TokenSequence((*SPECIAL, "go"), 3), [1, 0, 3]),
    ],
)  # fmt: skip
def test_whole_numbers_that_are_not_in_their_space_are_refused(part: Any, value: Any) -> None:
    with pytest.raises(ValueError, match=r"'x' as .*, which is not in"):
        Packed(Dict(x=part)).pack({"x": value})


@pytest.mark.parametrize("value", [["1", "2"], [1j, 0], None, [None, 1]])
def test_what_is_no_number_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match=r"'x' of the type .*, not numbers"):
        Packed(Dict(x=Box(-1, 1, (2,)))).pack({"x": value})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"x": np.zeros(2)}, "an observation without 'y.z'"),
        ({"x": np.zeros(2), "y": 3}, "an observation without 'y.z'"),
        ({"x": np.zeros(3), "y": {"z": 1}}, r"'x' of shape \[3\], not \[2\]"),
        ({"x": np.zeros(2), "y": {"z": [1, 0]}}, r"'y.z' of shape \[2\], not \[\]"),
    ],
)
def test_an_observation_that_does_not_fit_is_refused(given: object, message: str) -> None:
    space = Packed(Dict(x=Box(-1, 1, (2,)), y=Dict(z=Discrete(2))))
    with pytest.raises(ValueError, match=message):
        space.pack(given)  # type: ignore[arg-type]


def test_a_part_of_another_kind_is_named() -> None:
    with pytest.raises(TypeError, match=r"a\.b is Text"):
        Packed(Dict(a=Dict(b=Text(3))))


def test_only_vectors_and_numbers_can_be_read_as_one_vector() -> None:
    assert Packed(Dict(x=Box(-1, 1, (2,)), y=Discrete(2))).vectors
    assert not Packed(Dict(x=IMAGE)).vectors
    assert not Packed(Dict(x=TokenSequence(SPECIAL, 3))).vectors


def test_spaces_with_other_parts_differ() -> None:
    space = Packed(Dict(x=Box(-1, 1, (2,))))
    assert space == Packed(Dict(x=Box(-1, 1, (2,))))
    assert space != Packed(Dict(y=Box(-1, 1, (2,))))
    assert space != Packed(Dict(x=Box(-1, 1, (2, 1))))
