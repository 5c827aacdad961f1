"""Spaces of tokens: the numbers of an observation by hand, and both forms hold the same."""

import copy
import pickle

import numpy as np
import pytest
import torch
from gymnasium.vector.utils import batch_space

from rlbench.tokens import OneHotTokens, TokenNumbers

CHOICES = (3, 2, 3)
TOKENS = np.array([[-1, -1, -1], [2, 0, -1], [1, 1, 2]])


def test_one_hot_tokens_by_hand() -> None:
    obs = OneHotTokens(CHOICES).encode(TOKENS)
    none = [0, 0, 0, 1]
    assert obs.dtype == np.float32
    assert obs[0].tolist() == [*none, *none, *none, 1, 0, 0]
    assert obs[1].tolist() == [0, 0, 1, 0, 1, 0, 0, 0, *none, 0, 0, 1]
    assert obs[2].tolist() == [0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0]


def test_token_numbers_by_hand() -> None:
    obs = TokenNumbers(CHOICES).encode(TOKENS)
    assert obs.tolist() == [[0, 0, 0, 0], [3, 1, 0, 2], [2, 2, 3, 3]]


@pytest.mark.parametrize("kind", [OneHotTokens, TokenNumbers])
def test_observations_lie_in_the_space_and_hold_the_tokens(kind: type) -> None:
    space = kind(CHOICES)
    obs = space.encode(TOKENS)
    assert all(space.contains(row) for row in obs)
    assert space.decode(torch.from_numpy(obs).float()).tolist() == TOKENS.tolist()


@pytest.mark.parametrize("kind", [OneHotTokens, TokenNumbers])
def test_spaces_are_copied_with_their_choices(kind: type) -> None:
    space = kind(CHOICES)
    for other in (copy.deepcopy(space), pickle.loads(pickle.dumps(space))):
        assert other == space
        assert other.choices == CHOICES
    assert batch_space(space, 4).shape == (4, *space.shape)
