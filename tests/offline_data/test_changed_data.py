"""Data and examples in the cache that were changed after they were made: noticed, and made again."""

import os
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlbench.cli import main
from rlbench.envs.examples import Arrays
from rlbench.envs.tasks import Task
from rlbench.files import file_hash
from rlbench.offline_data import index, stamp
from rlbench.offline_data.cache import cache_folder, entry, open_or_make
from rlbench.offline_data.dataset import DataSet, Provenance, Recording
from rlbench.offline_data.examples import open_examples
from rlbench.storage import Layout

LAYOUT = Layout((2, 3, 3), (2,), images=True)
FILES = ("rows.npy", "frames.bin", "after.npy", "returns.npy", "bounds.npy", "meta.json")
PLACES = (0, 0.2, 0.4, 0.6, 0.8, 1)
"""Where a byte is changed, as a share of the file."""


def record(folder: Path) -> None:
    random = np.random.default_rng(0)
    rows = random.integers(0, 256, (12, LAYOUT.width)).astype(np.float32)
    with closing(Recording(folder, LAYOUT, len(rows))) as out:
        out.append(rows)
        bounds = np.array([0, 4, 12])
        out.finish(Provenance("file", "f", "f"), np.ones(2), bounds, lambda mean: mean)


def opened(said: list[str]) -> DataSet:
    return open_or_make(entry("x", {}), record, said.append)


def flip(file: Path, place: float, mask: int = 1) -> None:
    """Flips bits of one byte, and keeps the size and the time of the file."""
    before = file.stat()
    content = bytearray(file.read_bytes())
    content[int(place * (len(content) - 1))] ^= mask
    file.write_bytes(content)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def values(data: DataSet) -> list[Any]:
    """Everything in a data set, as copies."""
    assert data.frames is not None
    tensors = (data.rows, data.frames.images, data.frames.after, data.obs_mean, data.obs_std)
    return [
        *(x.tolist() for x in tensors),
        data.episode_returns.tolist(),
        data.episode_bounds.tolist(),
        data.provenance.to_json(),
    ]


@pytest.mark.parametrize("name", FILES)
def test_one_changed_bit_is_noticed_even_if_size_and_time_are_as_before(name: str) -> None:
    good = values(opened([]))
    for place in PLACES:
        flip(entry("x", {}) / name, place)
        said: list[str] = []
        again = opened(said)
        assert said == [f"{entry('x', {})} was changed or is damaged and will be made again"], place
        assert values(again) == good, place
        said.clear()
        opened(said)
        assert said == []


def test_a_changed_stamp_never_makes_changed_data_true() -> None:
    good = values(opened([]))
    file = entry("x", {}) / stamp.STAMP
    for place in np.linspace(0, 1, 40):
        flip(file, float(place))
        assert values(opened([])) == good, place


@pytest.mark.parametrize("text", ["", "[]", "{", '{"rows.npy": []}', '{"rows.npy": 3}'])
def test_a_stamp_that_cannot_be_read_is_damaged(text: str) -> None:
    opened([])
    (entry("x", {}) / stamp.STAMP).write_text(text)
    said: list[str] = []
    opened(said)
    assert len(said) == 1


def test_data_of_an_earlier_version_without_a_stamp_are_made_again() -> None:
    opened([])
    (entry("x", {}) / stamp.STAMP).unlink()
    said: list[str] = []
    opened(said)
    assert said == [f"{entry('x', {})} has no hashes of its files and will be made again"]


def test_unchanged_files_are_hashed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    opened([])
    opened([])  # Some file may have been as new as the stamp.
    hashed: list[str] = []

    def noted(path: Path) -> str:
        hashed.append(path.name)
        return file_hash(path)

    monkeypatch.setattr(stamp, "file_hash", noted)
    opened([])
    assert hashed == []
    os.utime(entry("x", {}) / "rows.npy")
    opened([])
    opened([])
    assert set(hashed) == {"rows.npy"}
    hashed.clear()
    opened([])
    assert hashed == []


def test_damage_in_a_copy_of_the_cache_is_noticed() -> None:
    opened([])
    file = entry("x", {}) / stamp.STAMP
    content = file.read_bytes()
    flip(entry("x", {}) / "rows.npy", 1)
    time.sleep(0.05)
    file.write_bytes(content)  # A copy of the stamp is newer than the copies of the other files.
    said: list[str] = []
    opened(said)
    assert len(said) == 1


def test_a_cache_that_cannot_be_written_to_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    good = values(opened([]))
    os.utime(entry("x", {}) / "rows.npy")

    def refused(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(stamp, "write_atomically", refused)
    assert values(opened([])) == good


def test_changed_statistics_are_not_listed() -> None:
    assert main(["data", "make", "point-mixed", "--size", "300"]) == 0
    (file,) = cache_folder().glob("*/meta.json")
    assert len(index.data_info("point-mixed")["cached"]) == 1
    file.write_text(file.read_text().replace('"score": ', '"score": 9'))
    assert index.data_info("point-mixed")["cached"] == []


RUN = [
    "run",
    "bc",
    "--env",
    "point-mixed",
    "--data-size",
    "500",
    "--hidden",
    "8",
    "--eval-every",
    "0",
]
RUN += ["--eval-episodes", "2", "--checkpoint-every", "4"]


def test_a_resume_notices_zeroed_columns(
    in_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*RUN, "--updates", "8", "--out", "run"]) == 0
    last = in_folder / "run/checkpoint/update-000000008"
    weights = last.with_suffix(".safetensors").read_bytes()
    for file in (*last.parent.glob("*"), in_folder / "run/measures.npz"):
        file.unlink()  # As if it had been killed before its first checkpoint.
    (rows,) = cache_folder().glob("*/rows.npy")
    content = rows.read_bytes()
    changed = np.load(rows)
    changed[:, :2] = 0
    np.save(rows, changed)
    assert rows.stat().st_size == len(content)
    capsys.readouterr()
    assert main(["run", "--resume", "run"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "was changed or is damaged and will be made again" in printed
    assert last.with_suffix(".safetensors").read_bytes() == weights
    assert rows.read_bytes() == content


class Slow(Arrays):
    """Examples that are kept in the cache."""

    cached = True

    def __init__(self) -> None:
        x = np.arange(8, dtype=np.float32)[:, None]
        split: dict[str, Any] = {"obs": x, "label": np.arange(8) % 2}
        super().__init__(split, split)


def test_changed_examples_are_drawn_again() -> None:
    task = Task("slow", make=pytest.fail, source=Slow)
    good = open_examples(task, 8, 0, pytest.fail)
    open_examples(task, 8, 0, pytest.fail)
    files = [file for file in cache_folder().glob("*/examples.*") if file.suffix != ".lock"]
    assert len(files) == 4
    for file in files:
        for place in PLACES:
            flip(file, place, mask=0x11)
            said: list[str] = []
            again = open_examples(task, 8, 0, said.append)
            assert said == [f"{file.parent} was changed or is damaged and will be made again"]
            assert again.provenance == good.provenance
