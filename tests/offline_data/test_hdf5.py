"""D4RL's file format: every trap of real files, and the way there and back."""

import errno
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete

from rlbench.errors import UserError
from rlbench.offline_data import open_data, write_hdf5
from rlbench.offline_data.cache import cache_folder
from rlbench.offline_data.formats import d4rl, hdf5
from rlbench.offline_data.formats._reader import World
from tests.data_files import TOY, WORLD, Array, columns_of, random_episodes, read, recording, write

EPISODES = [(3, "terminal"), (5, "timeout"), (2, "terminal"), (2, "cut")]


def _naive(columns: dict[str, Array]) -> tuple[dict[str, list[Any]], list[float]]:
    """A reader as one would first write it, row by row."""
    names = ("obs", "action", "reward", "next_obs", "terminated", "truncated")
    out: dict[str, list[Any]] = {name: [] for name in names}
    returns, total = [], 0.0
    count = len(columns["rewards"])
    for i in range(count):
        terminal, timeout = columns["terminals"][i], columns["timeouts"][i]
        total += float(columns["rewards"][i])
        if "next_observations" in columns:
            following = columns["next_observations"][i]
        elif terminal:
            following = columns["observations"][i]
        elif timeout or i == count - 1:
            following = None
        else:
            following = columns["observations"][i + 1]
        if following is not None:
            row = (columns["observations"][i], columns["actions"][i], columns["rewards"][i])
            for name, value in zip(names, (*row, following, terminal, timeout), strict=True):
                out[name].append(value)
        if terminal or timeout:
            returns.append(total)
            total = 0.0
    return out, returns


@pytest.mark.parametrize("next_recorded", [True, False])
@pytest.mark.parametrize("seed", range(8))
def test_reader_agrees_with_a_naive_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, next_recorded: bool, seed: int
) -> None:
    monkeypatch.setattr(hdf5, "BLOCK", 7)  # so that episodes and blocks cross
    columns = recording([(1, "terminal"), (2, "terminal"), *random_episodes(seed)], seed)
    if not next_recorded:
        del columns["next_observations"]
    data = read(write(tmp_path / "f.hdf5", columns), tmp_path / "d")
    expected, returns = _naive(columns)
    for name, values in columns_of(data).items():
        assert np.array_equal(values, np.array(expected[name], dtype=np.float32)), name
    np.testing.assert_allclose(data.episode_returns, returns, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(data.obs_mean, np.mean(expected["obs"], axis=0), atol=1e-6)
    np.testing.assert_allclose(data.obs_std, np.std(expected["obs"], axis=0), atol=1e-6)
    bounds = data.episode_bounds
    assert (bounds[0], bounds[-1]) == (0, len(data))
    for start, stop in pairwise(bounds):
        inside = data.layout.unpack(data.rows[start:stop])
        assert np.array_equal(inside.next_obs[:-1], inside.obs[1:])
        assert not inside.terminated[:-1].any()


def _column(name: str) -> Callable[[dict[str, Array]], dict[str, Any]]:
    return lambda c: {name: c[name][:, None]}


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda c: {}, id="as it is"),
        pytest.param(lambda c: {k: c[k].astype(np.float64) for k in c if c[k].ndim == 2}, id="f64"),
        pytest.param(_column("rewards"), id="rewards N x 1"),
        pytest.param(_column("terminals"), id="terminals N x 1"),
        pytest.param(lambda c: {"terminals": c["terminals"].astype(np.float32)}, id="float flags"),
        pytest.param(lambda c: {"infos/qpos": c["observations"], "metadata/x": 3}, id="more"),
    ],
)
def test_variants_of_the_format_read_alike(
    tmp_path: Path, change: Callable[[dict[str, Array]], dict[str, Any]]
) -> None:
    columns = recording(EPISODES)
    plain = read(write(tmp_path / "a.hdf5", columns), tmp_path / "a")
    other = read(write(tmp_path / "b.hdf5", columns | change(columns)), tmp_path / "b")
    assert other.provenance.sha256 == plain.provenance.sha256
    assert other.provenance.kind == "file"


def test_missing_timeouts_are_counted_from_the_start_of_each_episode(tmp_path: Path) -> None:
    columns = recording([(3, "terminal"), (5, "timeout"), (5, "timeout"), (2, "cut")])
    stored = {k: v for k, v in columns.items() if k not in ("timeouts", "next_observations")}
    data = read(write(tmp_path / "f.hdf5", stored), tmp_path / "d")
    assert data.provenance.details["timeouts"] == "missing"
    assert data.provenance.details["timeouts_added_at_the_limit_of_steps"] == 2
    assert data.episode_bounds.tolist() == [0, 3, 7, 11, 12]
    assert len(data.episode_returns) == 3


def test_time_limits_stored_as_terminals_are_truncations(tmp_path: Path) -> None:
    columns = recording([(5, "terminal")] * 3 + [(2, "cut")]) | {"timeouts": None}
    data = read(write(tmp_path / "f.hdf5", columns), tmp_path / "d")
    got = columns_of(data)
    assert not got["terminated"].any()
    assert np.flatnonzero(got["truncated"]).tolist() == [4, 9, 14]
    assert data.provenance.details["terminals_at_the_limit_of_steps"] == 3
    # Each episode is judged by itself: one that falls earlier keeps its end.
    columns = recording([(5, "terminal"), (4, "terminal")]) | {"timeouts": None}
    got = columns_of(read(write(tmp_path / "g.hdf5", columns), tmp_path / "e"))
    assert np.flatnonzero(got["terminated"]).tolist() == [8]
    assert np.flatnonzero(got["truncated"]).tolist() == [4]


@pytest.mark.parametrize(("excess", "warned"), [(5e-4, False), (4.1, True)])
def test_actions_outside_the_box_are_clipped_and_counted(
    tmp_path: Path, recwarn: pytest.WarningsRecorder, excess: float, warned: bool
) -> None:
    columns = recording(EPISODES)
    columns["actions"][4, 1] = 1 + excess
    columns["actions"][6, 0] = -1 - excess
    data = read(write(tmp_path / "f.hdf5", columns), tmp_path / "d")
    got = columns_of(data)["action"]
    assert (got[4, 1], got[6, 0]) == (1, -1)
    assert data.provenance.details["clipped_actions"] == 2
    assert data.provenance.details["clipped_by_at_most"] == pytest.approx(excess, rel=1e-3)
    assert ["2 actions were up to" in str(w.message) for w in recwarn] == [True] * warned


def _with(name: str, row: int, value: float) -> Callable[[Path], Path]:
    def make(path: Path) -> Path:
        columns = recording(EPISODES)
        columns[name][row] = value
        return write(path, columns)

    return make


def _changed(**columns: Any) -> Callable[[Path], Path]:
    return lambda path: write(path, recording(EPISODES) | columns)


def _bytes(content: bytes) -> Callable[[Path], Path]:
    def make(path: Path) -> Path:
        path.write_bytes(content)
        return path

    return make


def _shortened(path: Path) -> Path:
    write(path, recording(EPISODES))
    path.write_bytes(path.read_bytes()[:-100])
    return path


def _corrupt(path: Path) -> Path:
    """A compressed column with bytes overwritten."""
    with h5py.File(path, "w") as file:
        for name, values in recording(EPISODES).items():
            file.create_dataset(name, data=values, compression="gzip", chunks=values.shape)
        place = file["observations"].id.get_chunk_info(0)
    content = bytearray(path.read_bytes())
    content[place.byte_offset : place.byte_offset + place.size] = bytes(place.size)
    path.write_bytes(content)
    return path


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


BAD_FILES: dict[str, tuple[Callable[[Path], Path], str]] = {
    "missing": (lambda path: path, "no file .* give `auto`"),
    "a folder": (_folder, "is a folder, not a file"),
    "Git LFS": (_bytes(b"version https://git-lfs.github.com/spec/v1\noid"), "git lfs pull"),
    "not HDF5": (_bytes(b"PK\x03\x04 a zip"), "not an HDF5 file"),
    "empty": (_bytes(b""), "not an HDF5 file"),
    "shortened": (_shortened, "damaged or cut off"),
    "corrupt": (_corrupt, r"damaged or cut off \(.*failure"),
    "no actions": (_changed(actions=None), "no actions; .* has observations, actions"),
    "no rows": (lambda path: write(path, {k: v[:0] for k, v in recording(EPISODES).items()}), "no"),
    "one cut row": (
        lambda path: write(path, recording([(1, "cut")]) | {"next_observations": None}),
        "no row whose next observation is known",
    ),
    "NaN": (_with("observations", 3, np.nan), "NaN or infinity, first in row 3 of its obs"),
    "infinity": (_with("rewards", 9, np.inf), "first in row 9 of its rewards"),
    "NaN in next": (_with("next_observations", 0, np.nan), "row 0 of its next_observations"),
    "too large": (_changed(rewards=np.full(12, 1e300)), "row 0 of its rewards"),
    "other task": (_changed(observations=np.zeros((12, 4))), r"\[12, 4\].*toy.*\[12, 3\]"),
    "other actions": (_changed(actions=np.zeros((12, 3))), r"actions of shape \[12, 3\]"),
    "unequal lengths": (_changed(terminals=np.zeros(11, bool)), r"terminals of shape \[11\]"),
    "short next": (_changed(next_observations=np.zeros((11, 3))), r"shape \[11, 3\]"),
    "text": (_changed(rewards=np.array([b"x"] * 12)), "rewards of type .*numbers"),
    "flags": (_changed(terminals=np.full(12, 2)), "terminals other than 0 and 1"),
    "scalar": (_changed(rewards=np.float32(1)), "no transitions"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_bad_file_gives_one_sentence_and_leaves_nothing(tmp_path: Path, case: str) -> None:
    make, words = BAD_FILES[case]
    path = make(tmp_path / "f.hdf5")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match=words) as error:
        open_data(TOY, str(path))
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)
    assert sorted(tmp_path.rglob("*")) == before
    assert not [x for x in cache_folder().glob("*") if x.suffix != ".lock"]


def test_a_written_file_is_d4rls_format_and_comes_back(tmp_path: Path) -> None:
    columns = recording(EPISODES)
    first = read(write(tmp_path / "f.hdf5", columns), tmp_path / "d")
    write_hdf5(first, tmp_path / "g.hdf5")
    with h5py.File(tmp_path / "g.hdf5") as file:  # what anybody reads
        for name, values in columns.items():
            assert file[name].dtype == values.dtype
            assert np.array_equal(file[name][:], values), name
        assert not file.attrs["synthetic"]
    back = read(tmp_path / "g.hdf5", tmp_path / "e")
    assert back.provenance.sha256 == first.provenance.sha256
    assert back.provenance.details["origin"] == first.provenance.to_json()
    assert np.array_equal(back.episode_returns, first.episode_returns)
    assert np.array_equal(back.episode_bounds, first.episode_bounds)


def test_episodes_whose_last_row_was_dropped_stay_apart_when_written(tmp_path: Path) -> None:
    episodes = [(1, "timeout"), (4, "timeout"), (3, "terminal"), (5, "timeout"), (3, "cut")]
    columns = recording(episodes) | {"next_observations": None}
    first = read(write(tmp_path / "f.hdf5", columns), tmp_path / "d")
    assert first.episode_bounds.tolist() == [0, 0, 3, 6, 10, 12]
    write_hdf5(first, tmp_path / "g.hdf5")
    back = read(tmp_path / "g.hdf5", tmp_path / "e")
    assert back.episode_bounds.tolist() == [0, 3, 6, 10, 12]
    assert len(back.episode_returns) == 3


def test_a_generated_file_stays_generated_under_any_name(tmp_path: Path) -> None:
    file = write(tmp_path / "hopper_medium-v2.hdf5", recording(EPISODES), synthetic=True)
    assert read(file, tmp_path / "d").provenance.kind == "generated"


def test_only_the_published_bytes_are_d4rls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tmp_path / "hopper_medium-v2.hdf5", recording(EPISODES))
    assert read(file, tmp_path / "d").provenance.kind == "file"
    from rlbench.envs.d4rl.names import parse
    from rlbench.files import file_hash

    monkeypatch.setattr(d4rl, "_names_by_hash", lambda: {file_hash(file): parse("hopper-medium")})
    provenance = read(file, tmp_path / "e").provenance
    assert (provenance.kind, provenance.name) == ("d4rl", "hopper-medium-v2")
    assert provenance.source.endswith("/gym_mujoco_v2/hopper_medium-v2.hdf5")


def test_a_full_disk_leaves_no_half_written_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = read(write(tmp_path / "f.hdf5", recording(EPISODES)), tmp_path / "d")
    target = tmp_path / "out" / "g.hdf5"

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(h5py.Group, "create_dataset", full)
    with pytest.raises(UserError, match="disk is full"):
        write_hdf5(data, target)
    assert not list(target.parent.iterdir())


def test_reading_a_file_again_comes_from_the_cache(tmp_path: Path) -> None:
    file = write(tmp_path / "f.hdf5", recording(EPISODES))
    said: list[str] = []
    first = open_data(TOY, str(file), notify=said.append)
    again = open_data(TOY, str(file), notify=said.append)
    assert (len(said), first.provenance) == (1, again.provenance)
    assert first.provenance.details["score"] is None
    write(file, recording([(4, "terminal")] * 9))  # another file under the same path
    assert len(open_data(TOY, str(file), notify=said.append)) == 36


def test_columns_of_one_number_may_be_flat(tmp_path: Path) -> None:
    box = Box(-1, 1, (1,))
    world = World("flat", box, box, None, lambda mean_return: None)
    values = np.linspace(-1, 1, 6, dtype=np.float32)
    columns: dict[str, Any] = {
        "rewards": values, "terminals": np.arange(6) == 5, "next_observations": values, "observations": values,
    }  # fmt: skip
    for actions in (values, values[:, None]):
        with h5py.File(tmp_path / "flat.hdf5", "w") as file:
            for name, column in (columns | {"actions": actions}).items():
                file[name] = column
        got = columns_of(read(tmp_path / "flat.hdf5", tmp_path / f"{actions.ndim}", world))
        assert got["action"].tolist() == values[:, None].tolist()
        assert got["obs"].tolist() == values[:, None].tolist()


def test_other_spaces_than_vectors_keep_their_shapes(tmp_path: Path) -> None:
    columns = recording(EPISODES)
    images = np.arange(48.0).reshape(12, 2, 2)
    columns |= {
        "observations": images,
        "next_observations": images + 1,
        "actions": np.arange(12) % 3,
    }
    world = replace(WORLD, observation_space=Box(0, 99, (2, 2)), action_space=Discrete(3))
    file = write(tmp_path / "f.hdf5", columns)
    data = read(file, tmp_path / "d", world)
    got = columns_of(data)
    assert np.array_equal(got["obs"], images)
    assert np.array_equal(got["action"], columns["actions"])
    write_hdf5(data, tmp_path / "g.hdf5")
    back = read(tmp_path / "g.hdf5", tmp_path / "e", world)
    assert torch.equal(back.rows, data.rows)


def test_any_damaged_byte_is_read_or_refused_in_one_sentence(tmp_path: Path) -> None:
    good = write(tmp_path / "f.hdf5", recording(EPISODES)).read_bytes()
    rng = np.random.default_rng(0)
    refusals = []
    for trial in range(80):
        content = bytearray(good)
        content[rng.integers(len(good))] ^= int(rng.integers(1, 256))
        (tmp_path / "f.hdf5").write_bytes(content)
        try:
            read(tmp_path / "f.hdf5", tmp_path / str(trial))
        except UserError as error:
            refusals.append(str(error))
    assert refusals
    assert not any("\n" in refusal for refusal in refusals)


def test_a_task_without_data_asks_for_a_file() -> None:
    with pytest.raises(UserError, match="'toy' has no data set of its own; give --data FILE"):
        open_data(TOY)


def test_world_of_a_file_takes_its_shapes(tmp_path: Path) -> None:
    file = write(tmp_path / "f.hdf5", recording(EPISODES))
    assert hdf5.world_of(file).layout == WORLD.layout
