"""The encoder of observations of several parts."""

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete

from rlbench.backbones.encoders import make_encoder, observations_of
from rlbench.backbones.encoders.parts import film
from rlbench.errors import UserError
from rlbench.packed import Packed
from rlbench.sequences import SPECIAL, TokenSequence

GRID = Box(0, 255, (7, 7, 3), np.uint8)
TEXT = TokenSequence((*SPECIAL, "go"), 4)
SPACE = Packed(Dict(image=GRID, heading=Discrete(4), text=TEXT))
NAME = "parts:image=one-hot-grid,text=bag-of-words/width=5"


def packed(text: list[int], heading: int = 0, grid: int = 0) -> torch.Tensor:
    given = {"image": np.full((7, 7, 3), grid), "heading": heading, "text": np.array(text)}
    return torch.from_numpy(SPACE.pack(given))


def made(name: str) -> Any:
    torch.manual_seed(0)
    return make_encoder(name, SPACE)


def test_features_are_those_of_the_parts_side_by_side() -> None:
    encoder, obs = made(NAME), packed([1, 3, 0, 0], heading=2, grid=1)[None]
    see, hear = encoder.layers.encoders
    image = see(torch.ones(1, 7, 7, 3))
    text = hear(torch.tensor([[1, 3, 0, 0]]))
    heading = torch.tensor([[0.0, 0, 1, 0]])
    # The parts of a Dict are in the order in which it was given.
    torch.testing.assert_close(encoder(obs), torch.cat([image, heading, text], dim=1))
    assert encoder.size == see.size + 4 + 5


def test_with_film_the_text_changes_what_is_read_from_the_image() -> None:
    encoder = made(f"{NAME},join=film")
    first, second = encoder(torch.stack([packed([1, 3, 0, 0]), packed([1, 0, 0, 0])]))
    size = encoder.layers.encoders[0].size
    assert not torch.equal(first[:size], second[:size])
    plain = made(NAME)
    first, second = plain(torch.stack([packed([1, 3, 0, 0]), packed([1, 0, 0, 0])]))
    assert torch.equal(first[:size], second[:size])


def test_film_by_hand() -> None:
    x, modulation = torch.tensor([[1.0, -2.0]]), torch.tensor([[0.5, 1.0, -1.0, 3.0]])
    assert film(x, modulation).tolist() == [[0.5, 0.0]], "1.5 - 1, and the ReLU of -4 + 3"


def test_options_of_an_inner_encoder_follow_slashes() -> None:
    assert made(f"{NAME},join=concat").layers.encoders[1].size == 5
    assert made("parts:image=one-hot-grid/head=gap").layers.encoders[0].size == 32


@pytest.mark.parametrize(
    "whole",
    [Dict(camera=Dict(left=GRID)), Dict({"a b": GRID, "a": Dict(b=GRID)}), Dict(values=GRID), Dict({"": GRID, "0": GRID})],
)  # fmt: skip
def test_images_may_have_any_names(whole: Dict) -> None:
    encoder = make_encoder("parts:image=grid", Packed(whole))
    space = Packed(whole)
    assert encoder(torch.zeros(2, *(space.shape or ()))).shape == (2, encoder.size)
    assert len(encoder.layers.encoders) == len(space.parts)  # type: ignore[arg-type]


def test_numbers_matrices_and_stacks_are_read_as_they_are() -> None:
    shapes: list[tuple[int, ...]] = [(), (2, 2), (2, 1, 1, 2)]
    whole = Dict({str(len(x)): Box(-9, 9, x) for x in shapes})
    packed = torch.from_numpy(Packed(whole).pack(whole.sample()))[None]
    assert torch.equal(make_encoder("parts", Packed(whole))(packed), packed)


@pytest.mark.parametrize(
    ("name", "space", "message"),
    [
        ("parts", SPACE, "the image 'image'; name its encoder"),
        ("grid", SPACE, "give --encoder parts:image=grid"),
        ("resnet:units=1,width=8", SPACE, "give --encoder parts:image=resnet/units=1/width=8"),
        (
            "token-gru:width=4",
            SPACE,
            "are the parts image, heading, text; give --encoder parts:text=token-gru/width=4",
        ),
        ("parts:image=grid", GRID, "takes Dict observations"),
        ("parts:join=film", Packed(Dict(text=TEXT)), "but the observations have text"),
        ("parts:image=gird", SPACE, "no encoder 'gird'; did you mean grid"),
    ],
)
def test_what_does_not_fit_is_refused(name: str, space: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_encoder(name, space)


def test_vectors_need_no_encoder_and_images_do() -> None:
    assert observations_of(Packed(Dict(x=Box(-1, 1, (2,)), y=Discrete(3)))) == 5
    with pytest.raises(UserError, match="the parts image, heading, text, which are not one vector"):
        observations_of(SPACE)
