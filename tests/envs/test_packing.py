"""Environments with Dict observations."""

from typing import Any

import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, Text

from rlbench.envs.contract import check, made
from rlbench.envs.minigrid.words import encode
from rlbench.envs.tasks import find_task
from rlbench.errors import UserError
from rlbench.packed import Packed
from rlbench.sequences import SPECIAL, TokenSequence
from tests.odd import Line

WORDS = TokenSequence((*SPECIAL, "go"), 3)
PLACE = Dict(place=Box(-9, 9, (2,)))


def test_a_dict_becomes_one_vector_that_passes_the_checks() -> None:
    checked = check(lambda: Line(lambda x: {"place": x}, PLACE), "mine")
    assert isinstance(checked.observation_space, Packed)
    env: Any = made("mine", lambda: Line(lambda x: {"place": x}, PLACE))
    obs, _ = env.reset(seed=0)
    assert obs.dtype == np.float32
    assert obs.tolist() == [np.float32(env.unwrapped.x), 0.0]


@pytest.mark.parametrize(
    ("obs", "space", "message"),
    [
        (lambda x: {"other": x}, PLACE, "mine returned an observation without 'place'"),
        (lambda x: x, PLACE, "mine returned an observation without 'place'"),
        (lambda x: {"place": x[:1]}, PLACE, r"'place' of shape \[1\], not \[2\]"),
        (lambda x: {"place": ["a", "b"]}, PLACE, "mine returned"),
        (lambda x: {"text": [1, 9, 0]}, Dict(text=WORDS), r"mine returned 'text' as \[1, 9, 0\], which is not in TokenSequence of 3 numbers below 4"),
        (lambda x: {"place": x * np.nan}, PLACE, "nan at"),
        (lambda x: {"place": 7}, Dict(place=Discrete(3)), r"'place' as 7, which is not in Discrete\(3\)"),
        (lambda _: {}, Dict(place=Dict()), "the observation space of mine has no parts"),
        (lambda _: [1, 0, 3], WORDS, r"mine: reset\(seed=0\) returned \[1.0, 0.0, 3.0\], which is not in TokenSequence of 3"),
        (lambda x: {"place": "go"}, Dict(place=Text(3)), "in the observations of mine, place is Text"),
    ],
)  # fmt: skip
def test_an_observation_that_does_not_fit_is_one_sentence(obs: Any, space: Any, message: str) -> None:  # fmt: skip
    with pytest.raises(UserError, match=message):
        check(lambda: Line(obs, space), "mine")


def test_minigrid_has_a_view_of_all_parts() -> None:
    pytest.importorskip("minigrid")
    task = find_task("BabyAI-GoToLocalS5N2-v0")
    env: Any = task.views["parts"].make()
    usual: Any = task.make()
    obs, _ = env.reset(seed=3)
    image, _ = usual.reset(seed=3)
    space = env.observation_space
    assert list(space.parts) == ["direction", "image", "mission"]
    expected = {
        "direction": env.unwrapped.agent_dir, "image": image, "mission": encode(env.unwrapped.mission),
    }  # fmt: skip
    np.testing.assert_array_equal(obs, space.pack(expected))
    env.reset(seed=4)
    np.testing.assert_array_equal(env.env.observation(env.unwrapped.gen_obs())["mission"], encode(env.unwrapped.mission))  # fmt: skip
