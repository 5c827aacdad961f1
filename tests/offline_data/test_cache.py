"""The cache: whole data sets or none, made once."""

import errno
import os
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch

from rlbench.errors import UserError
from rlbench.offline_data.cache import cache_folder, entry, open_or_make
from rlbench.offline_data.dataset import Columns, DataSet, Provenance, Recording
from rlbench.storage import Layout

LAYOUT = Layout((3,), (2,))


def record(folder: Path, size: int = 10) -> None:
    rows = np.random.default_rng(0).normal(5, 2, (size, LAYOUT.width)).astype(np.float32)
    provenance = Provenance("file", "f", "f", "", {"seed": 3})
    with closing(Recording(folder, LAYOUT, size)) as out:
        for block in np.array_split(rows, 3):
            out.append(block)
        out.finish(
            provenance, np.array([1.0, 2.0]), np.array([0, 4, 8, 10]), lambda mean: 10 * mean
        )


def quiet(text: str) -> None:
    raise AssertionError(text)


def left_over() -> list[str]:
    return [x.name for x in cache_folder().iterdir() if x.suffix != ".lock"]


def test_what_was_recorded_is_opened_without_reading_it() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = open_or_make(entry("x", {}), record, quiet)
    rows = np.random.default_rng(0).normal(5, 2, (10, LAYOUT.width)).astype(np.float32)
    assert np.array_equal(data.rows.numpy(), rows)
    assert data.episode_returns.tolist() == [1, 2]
    assert data.episode_bounds.tolist() == [0, 4, 8, 10]
    obs = Columns.of(rows, LAYOUT).obs.astype(np.float64)
    np.testing.assert_allclose(data.obs_mean.numpy(), obs.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(data.obs_std.numpy(), obs.std(axis=0), rtol=1e-6)
    assert data.provenance.details == {
        "transitions": 10, "episodes": 2, "mean_return": 1.5, "score": 15, "seed": 3
    }  # fmt: skip
    assert Provenance.from_json(data.provenance.to_json()) == data.provenance
    assert data.sample(4, torch.Generator()).obs.shape == (4, 3)


def test_nothing_written_to_a_tensor_reaches_the_file() -> None:
    folder = entry("x", {})
    open_or_make(folder, record, quiet).rows.zero_()
    assert open_or_make(folder, record, quiet).rows.any()


def test_every_part_of_the_key_names_another_folder() -> None:
    keys = [("x", {}), ("y", {}), ("x", {"seed": 0}), ("x", {"seed": 1}), ("x", {"size": 0})]
    assert len({entry(name, key) for name, key in keys}) == len(keys)
    assert entry("x", {"a": 1, "b": 2}) == entry("x", {"b": 2, "a": 1})


def test_the_folder_can_be_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RLBENCH_CACHE", str(tmp_path))
    assert entry("x", {}).is_relative_to(tmp_path)
    monkeypatch.delenv("RLBENCH_CACHE")
    assert "rlbench" in str(cache_folder())


@pytest.mark.parametrize("name", ["rows.npy", "returns.npy", "bounds.npy", "meta.json"])
@pytest.mark.parametrize("damage", ["missing", "empty", "shortened"])
def test_a_damaged_entry_is_made_again(name: str, damage: str) -> None:
    folder = entry("x", {})
    good = open_or_make(folder, record, quiet)
    file = folder / name
    content = file.read_bytes()
    file.unlink()
    if damage != "missing":
        file.write_bytes(b"" if damage == "empty" else content[:-4])
    said: list[str] = []
    again = open_or_make(folder, record, said.append)
    assert len(said) == 1
    assert "is damaged and will be made again" in said[0]
    assert torch.equal(again.rows, good.rows)
    assert left_over() == [folder.name]


def _fails(error: BaseException) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        (folder / "rows.npy").write_bytes(b"half")
        raise error

    return make


@pytest.mark.parametrize(
    ("error", "seen", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), UserError, "the disk is full"),
        (OSError(errno.EROFS, "Read-only file system"), UserError, "is read-only"),
        (UserError("a sentence"), UserError, "a sentence"),
        (KeyboardInterrupt(), KeyboardInterrupt, None),
    ],
)
def test_a_failure_leaves_nothing(
    error: BaseException, seen: type[BaseException], words: str | None
) -> None:
    with pytest.raises(seen, match=words) as caught:
        open_or_make(entry("x", {}), _fails(error), quiet)
    assert "\n" not in str(caught.value)
    assert left_over() == []


def test_a_folder_that_cannot_be_made_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("RLBENCH_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match="a part of the path is a file; choose another folder"):
        open_or_make(entry("x", {}), record, quiet)


def test_the_rest_of_a_killed_process_is_cleared() -> None:
    folder = entry("x", {})
    rest = folder.with_name(f".{folder.name}.part")
    rest.mkdir(parents=True)
    (rest / "chunk-0.npy").touch()
    open_or_make(folder, record, quiet)
    assert left_over() == [folder.name]
    assert sorted(os.listdir(folder)) == [
        "bounds.npy",
        "meta.json",
        "returns.npy",
        "rows.npy",
        "stamp.json",
    ]


def test_only_one_of_two_makes_it() -> None:
    made: list[int] = []
    found: list[DataSet] = []

    def make(folder: Path) -> None:
        made.append(1)
        time.sleep(0.2)
        record(folder)

    def work() -> None:
        found.append(open_or_make(entry("x", {}), make, quiet))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(made), len(found)) == (1, 2)


def test_a_recording_of_another_length_than_announced_is_refused(tmp_path: Path) -> None:
    with closing(Recording(tmp_path, LAYOUT, 3)) as out:
        out.append(np.zeros((2, LAYOUT.width)))
        with pytest.raises(ValueError, match="2 rows were written; 3 were announced"):
            out.finish(Provenance("file", "f", "f"), np.zeros(0), np.zeros(1), lambda mean: None)
