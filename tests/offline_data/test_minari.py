"""Minari's own format."""

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from gymnasium import spaces

from rlbench.envs.tasks import Task
from rlbench.errors import UserError
from rlbench.offline_data import check_data, open_data
from rlbench.offline_data.dataset import DataSet
from rlbench.offline_data.formats import minari
from tests.data_files import TOY, WORLD, Toy, columns_of

ID = "mujoco/toy/medium-v0"


def make(lengths: list[int], root: Path, **metadata: Any) -> Path:
    """A Minari data set whose observations count up, episode e from 100 e."""
    folder = root / ID / "data"
    folder.mkdir(parents=True)
    with h5py.File(folder / "main_data.hdf5", "w") as file:
        for e, length in enumerate(lengths):
            group = file.create_group(f"episode_{e}")
            group.attrs.update({"id": e, "total_steps": length})
            steps = np.arange(length + 1, dtype=np.float64)
            group["observations"] = np.repeat(100 * e + steps[:, None], 3, axis=1)
            group["actions"] = np.full((length, 2), 0.5)
            group["rewards"] = np.ones(length)
            group["terminations"] = (np.arange(length) == length - 1) & (e % 2 == 0)
            group["truncations"] = (np.arange(length) == length - 1) & (e % 2 == 1)
            group.create_group("infos")
    text = json.dumps({"dataset_id": ID, "data_format": "hdf5"} | metadata)
    (folder / "metadata.json").write_text(text)
    return folder / "main_data.hdf5"


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    return tmp_path


def test_every_step_becomes_a_transition_of_its_own_episode(root: Path) -> None:
    lengths = [3, 1, 2, *[2] * 9]  # episode_10 comes after episode_9, not after episode_1
    make(lengths, root, ref_min_score=1.0, ref_max_score=3.0)
    data = open_data(TOY, f"minari:{ID}")
    got = columns_of(data)
    starts = [100.0 * e + t for e, length in enumerate(lengths) for t in range(length)]
    assert got["obs"][:, 0].tolist() == starts
    assert np.array_equal(got["next_obs"], got["obs"] + 1)
    assert np.flatnonzero(got["terminated"]).tolist() == [2, 5, 9, 13, 17, 21]
    assert np.flatnonzero(got["truncated"]).tolist() == [3, 7, 11, 15, 19, 23]
    assert data.episode_returns.tolist() == lengths
    assert data.provenance.kind == "minari"
    assert data.provenance.name == ID
    # (24 / 12 - 1) / (3 - 1), by Minari's own constants
    assert data.provenance.details["score"] == 50


def test_an_episode_without_end_is_cut(root: Path) -> None:
    path = make([2, 2], root)
    with h5py.File(path, "a") as file:
        file["episode_0/terminations"][:] = False
    data = open_data(TOY, f"minari:{ID}")
    assert columns_of(data)["truncated"].tolist() == [0, 1, 0, 1]
    assert data.provenance.details["episodes_without_end"] == 1
    assert data.provenance.details["score"] is None


@pytest.mark.parametrize(
    ("lengths", "terminated"),
    [
        # The limit is 5, and the first, third and fifth episode are stored as terminated.
        ([5, 4, 3, 2, 5], [0, 0, 1, 0, 0]),
        # The second is a truncation at the limit, so the recorder distinguishes the two.
        ([5, 5, 3, 2, 5], [1, 0, 1, 0, 1]),
    ],
)
def test_terminations_at_the_step_limit_are_judged_one_by_one(
    root: Path, tmp_path: Path, lengths: list[int], terminated: list[int]
) -> None:
    path = make(lengths, root)
    (tmp_path / "d").mkdir()
    minari.read(path, tmp_path / "d", WORLD, lambda done, total: None)
    data = DataSet(tmp_path / "d")
    got, ends = columns_of(data), data.episode_bounds[1:] - 1
    assert got["terminated"][ends].tolist() == terminated
    assert got["truncated"][ends].tolist() == [1 - x for x in terminated]
    repaired = data.provenance.details.get("terminals_at_the_limit_of_steps")
    assert repaired == (None if terminated[0] else 2)


def test_a_probable_limit_that_is_not_named_gives_a_warning(root: Path) -> None:
    path = make([4, 2, 4], root)
    with h5py.File(path, "a") as file:
        for group in file.values():
            group["terminations"][-1], group["truncations"][-1] = True, False
    with pytest.warns(UserWarning, match="2 episodes end with a terminal after exactly 4 steps"):
        open_data(TOY, f"minari:{ID}")


def test_wrong_next_observations_at_ends_of_episodes_are_counted(root: Path) -> None:
    path = make([3, 3, 3], root)
    with h5py.File(path, "a") as file:
        file["episode_0/observations"][-1] = file["episode_1/observations"][0]
        file["episode_2/observations"][-1] = 0
    with pytest.warns(UserWarning, match="of 2 of 3 episodes is all zeros or the first"):
        details = open_data(TOY, f"minari:{ID}").provenance.details
    assert details["next_obs_of_the_next_episode"] == details["next_obs_of_zeros"] == 1


def test_episodes_without_steps_are_left_out(root: Path) -> None:
    make([2, 0, 3], root)
    data = open_data(TOY, f"minari:{ID}")
    assert data.episode_bounds.tolist() == [0, 2, 5]
    assert data.episode_returns.tolist() == [2, 3]


def test_a_missing_data_set_says_how_to_get_it() -> None:
    with pytest.raises(UserError, match=f"run `minari download {ID}`") as error:
        open_data(TOY, f"minari:{ID}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("no rewards", "no array rewards in episode_1"),
        ("dictionary", "no array observations in episode_1"),
        ("shape", r"observations of shape \[2, 3\]"),
        ("NaN", "NaN or infinity, first in row 2 of its rewards"),
        ("no episodes", "holds no episodes"),
        ("metadata", "metadata.json is missing or damaged"),
    ],
)
def test_damage_is_one_sentence(root: Path, fault: str, words: str) -> None:
    path = make([2, 2], root)
    with h5py.File(path, "a") as file:
        group = file["episode_1"]
        if fault == "no rewards":
            del group["rewards"]
        elif fault == "dictionary":
            del group["observations"]
            group.create_group("observations/position")
        elif fault == "shape":
            del group["observations"]
            group["observations"] = np.zeros((2, 3))
        elif fault == "NaN":
            group["rewards"][0] = np.nan
        elif fault == "no episodes":
            for name in list(file):
                del file[name]
        else:
            (path.parent / "metadata.json").write_text("{")
    with pytest.raises(UserError, match=words) as error:
        open_data(TOY, f"minari:{ID}")
    assert "\n" not in str(error.value)


def test_ids_are_looked_up_in_the_home_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("MINARI_DATASETS_PATH")
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    path = make([2], tmp_path / ".minari" / "datasets")
    assert minari.find(ID) == path


def test_a_data_set_that_lies_elsewhere_is_named_by_its_folder(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = make([3, 2], root)
    named = columns_of(open_data(TOY, f"minari:{ID}"))
    monkeypatch.setenv("MINARI_DATASETS_PATH", "/nowhere")
    for place in (file, root / ID):
        data = open_data(TOY, str(place))
        assert np.array_equal(columns_of(data)["obs"], named["obs"])
        assert data.provenance.kind == "minari"
    with pytest.raises(UserError, match="is not in /nowhere as HDF5; run `minari download"):
        open_data(TOY, f"minari:{ID}")


@pytest.mark.parametrize("task", [None, TOY])
def test_a_data_set_is_checked_by_its_id_or_its_folder(task: Any, root: Path) -> None:
    path = make([2, 2], root)
    with h5py.File(path, "a") as file:
        file["episode_0/terminations"][:] = False
    for target in (f"minari:{ID}", str(root / ID)):
        *warnings, note = check_data(target, task)
        assert note.text.startswith("minari: 4 transitions, 2 complete episodes, mean return 2.0")
        assert [x.text for x in warnings] == [
            "1 episodes have no end, so they are treated as timed out"
        ]
    (finding,) = check_data(f"minari:{ID}", Task("other", Other))
    assert finding.level == "error"
    assert "observations of shape [3, 3]" in finding.text


class Other(Toy):
    observation_space = spaces.Box(-1, 1, (4,))
