"""Data sets row by row: who acted with which noise, their hash, and where stretches are cut."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

from rlbench.envs.tasks import find_task
from rlbench.offline_data import DataSet, open_data
from rlbench.offline_data.dataset import Provenance, Recording
from rlbench.seeding import derive
from rlbench.storage import Layout


@pytest.mark.parametrize("seed", [0, 3])
def test_an_episode_has_a_seed_for_its_start_and_one_for_its_noise(seed: int) -> None:
    data = open_data(find_task("point-random"), "generated", size=500, seed=seed, jobs=1)
    rows = data.take(torch.arange(500))
    env = find_task("point-random").make()
    assert data.episode_bounds.tolist() == [*range(0, 500, 30), 500]
    for e in (0, 1, 7, 15, 16):  # 16 episodes are recorded first, and then the others.
        first = 30 * e
        start, noise = (derive(seed, "generate", "point-random", x, e) for x in ("start", "noise"))
        assert np.array_equal(rows.obs[first], env.reset(seed=start)[0])
        # Uniform actions of the box [-1, 1]^2, drawn for a whole episode of 30 steps.
        unit = np.random.default_rng(noise).random((30, 2), dtype=np.float32)
        steps = min(30, 500 - first)
        assert np.array_equal(rows.action[first : first + steps], (2 * unit - 1)[:steps])


def table(folder: Path) -> DataSet:
    """Rows of three episodes, written in two blocks: of 2 with a true end, of 3, and cut after 1."""
    layout = Layout((1,), (1,))
    # Observation, action, reward, terminated, truncated, s'.
    rows = np.array(
        [
            [0, 0, 1, 0, 0, 1],
            [1, 0, 2, 1, 0, 2],
            [5, 0, 3, 0, 0, 6],
            [6, 0, 4, 0, 0, 7],
            [7, 0, 5, 0, 1, 8],
            [9, 0, 6, 0, 0, 10],
        ],
        np.float32,
    )
    out = Recording(folder, layout, len(rows))
    out.append(rows[:4])
    out.append(rows[4:])
    provenance = Provenance("file", "table", "table")
    out.finish(provenance, np.array([3.0, 12.0]), np.array([0, 2, 5, 6]), lambda mean: 2 * mean)
    out.close()
    return DataSet(folder)


def test_a_data_set_is_described_by_hand(tmp_path: Path) -> None:
    data = table(tmp_path)
    obs = np.array([0, 1, 5, 6, 7, 9])
    assert data.obs_mean.item() == pytest.approx(obs.mean())
    assert data.obs_std.item() == pytest.approx(obs.std())
    assert data.return_range == (3.0, 12.0)
    details = data.provenance.details
    assert (details["transitions"], details["episodes"]) == (6, 2)
    assert (details["mean_return"], details["score"]) == (7.5, 15.0)
    assert data.provenance.sha256 == hashlib.sha256(data.rows.numpy().tobytes()).hexdigest()


def test_a_stretch_is_cut_where_an_episode_is_and_not_at_a_true_end(tmp_path: Path) -> None:
    got = table(tmp_path).stretches(torch.tensor([0, 1, 2]), 4)
    # Column by column: rows 0 to 3, 1 to 4, and 2 to 5, whose last one ends the recording.
    assert got.terminated.T.tolist() == [[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
    assert got.truncated.T.tolist() == [[0, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 1]]
    assert got.final_obs[..., 0].T.tolist() == [[1, 2, 6, 7], [2, 6, 7, 8], [6, 7, 8, 10]]
    assert got.reward.T.tolist() == [[1, 2, 3, 4], [2, 3, 4, 5], [3, 4, 5, 6]]


def test_every_stretch_of_a_data_set_is_drawn_alike(tmp_path: Path) -> None:
    starts = table(tmp_path).starts(4_000, 3, torch.Generator().manual_seed(0))
    counts = starts.bincount()
    assert len(counts) == 4
    assert counts.min() > 900
