"""Pieces of photographs: training and tests have different halves of the pictures."""

import numpy as np
import pytest

from rlbench.envs.examples import photographs
from rlbench.envs.examples.photographs import NAMES, SIDE, WHOLE, Photographs


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> Photographs:
    """Pictures whose first channel is the column, the second the row and the third the number of the picture."""

    def picture(name: str) -> np.ndarray:
        rows, columns = np.mgrid[:WHOLE, :WHOLE]
        number = np.full_like(rows, NAMES.index(name))
        return np.stack([columns, rows, number], axis=2).astype(np.uint8)

    monkeypatch.setattr(photographs, "photograph", picture)
    return Photographs()


def test_pieces_are_from_their_half_of_their_picture(source: Photographs) -> None:
    for split, columns in (("train", range(128)), ("test", range(128, 256))):
        found = source.sample(split, 60, 0)  # type: ignore[arg-type]
        obs, label = found["obs"], found["label"]
        assert obs.shape == (60, SIDE, SIDE, 3)
        assert (obs[..., 2] == label[:, None, None]).all()
        assert {*np.unique(label)} == {*range(len(NAMES))}
        assert {*np.unique(obs[..., 0])} <= {*columns}
        first = obs[:, :1, :1, :2].astype(int)
        within = obs[..., :2].astype(int) - first
        assert (within[..., 0] == np.arange(SIDE)).all()
        assert (within[..., 1] == np.arange(SIDE)[:, None]).all()
        assert len(np.unique(first.reshape(60, 2), axis=0)) > 50


def test_seeds_have_other_pieces_and_columns_fit_their_spaces(source: Photographs) -> None:
    one, same, other = (source.sample("train", 8, seed) for seed in (0, 0, 1))
    assert np.array_equal(one["obs"], same["obs"])
    assert not np.array_equal(one["obs"], other["obs"])
    for name, space in source.fields.items():
        assert all(space.contains(x) for x in one[name])
    assert source.classes["label"] == NAMES
