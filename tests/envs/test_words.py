"""The words of missions: numbers that stay, for all levels of the package minigrid."""

import contextlib
import io

import gymnasium as gym
import numpy as np
import pytest

from rlbench.envs.minigrid.words import CLS, LONGEST, MASK, NUMBERS, PAD, WORDS, encode
from rlbench.errors import UserError


def test_special_tokens_come_first() -> None:
    assert (WORDS[PAD], WORDS[CLS]) == ("[PAD]", "[CLS]")
    assert WORDS[MASK] == "[MASK]"
    assert len(NUMBERS) == len(WORDS)


def test_numbers_never_change() -> None:
    assert [NUMBERS[word] for word in (",", "a", "ball", "red", "your", "at", "use")] == [
        3,
        4,
        7,
        27,
        35,
        36,
        56,
    ]


def test_a_mission_by_hand() -> None:
    numbers = encode("Go to the red ball, then open a door", 12)
    assert numbers.dtype == np.uint8
    assert [WORDS[number] for number in numbers] == [
        "[CLS]", "go", "to", "the", "red", "ball", ",", "then", "open", "a", "door", "[PAD]",
    ]  # fmt: skip


def test_the_longest_mission_fits() -> None:
    thing = "the purple ball in front of you"
    action = f"put {thing} next to {thing}"
    mission = f"{action} and {action}, then {action} and {action}"
    assert (encode(mission) != PAD).all()
    assert len(encode(mission)) == LONGEST


@pytest.mark.parametrize("mission", ["go to the pink ball", "go to [MASK]", "go to [PAD]"])
def test_unknown_words_are_refused(mission: str) -> None:
    with pytest.raises(UserError, match="the word"):
        encode(mission)


def test_long_missions_are_refused() -> None:
    assert len(encode("go to the red ball", 6)) == 6
    with pytest.raises(UserError, match="5 words, expected 4 or fewer"):
        encode("go to the red ball", 5)


def test_all_levels_of_the_package_are_covered() -> None:
    pytest.importorskip("minigrid")
    families: dict[str, str] = {}
    for name in gym.registry:
        if name.startswith(("BabyAI-", "MiniGrid-")) and "WFC" not in name:
            families.setdefault(name.split("-")[1].rstrip("0123456789SNRv"), name)
    assert len(families) > 50
    for name in families.values():
        with contextlib.redirect_stdout(io.StringIO()):
            encode(gym.make(name).reset(seed=0)[0]["mission"])
