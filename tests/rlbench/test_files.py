"""Atomic writes and locks."""

import errno
import os
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest

from rlbench.errors import UserError
from rlbench.files import (
    PASSING,
    explaining_os_errors,
    new_folder_atomically,
    only_one,
    write_atomically,
)


def test_a_failing_writer_leaves_the_old_content_and_no_rest(tmp_path: Path) -> None:
    file = tmp_path / "f"
    write_atomically(file, b"old")

    def half(out: BinaryIO) -> None:
        out.write(b"new")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_atomically(file, half)
    assert file.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["f"]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.ENOSPC, "disk is full"), (errno.EROFS, "read-only"), (errno.EFBIG, "larger than is allowed"),
        (errno.EIO, "reported an error"), (errno.ESTALE, "network file system"), (errno.EBUSY, "in use by the system"),
        (errno.EXDEV, "two file systems"),
    ],
)  # fmt: skip
def test_refusals_of_the_system_are_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, words: str
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(UserError, match=words) as error:
        write_atomically(tmp_path / "f", b"new")
    assert "\n" not in str(error.value)
    again = str(error.value).endswith("; afterwards run the same command again")
    assert again == (code in PASSING)
    assert os.listdir(tmp_path) == []


def test_a_new_folder_is_whole_or_absent(tmp_path: Path) -> None:
    out = tmp_path / "new" / "run"
    with pytest.raises(RuntimeError), new_folder_atomically(out) as part:  # noqa: PT012
        (part / "file").write_bytes(b"half")
        raise RuntimeError
    assert os.listdir(out.parent) == []
    with new_folder_atomically(out) as part:
        (part / "file").write_bytes(b"whole")
        assert not out.exists()
    assert os.listdir(out.parent) == ["run"]
    assert (out / "file").read_bytes() == b"whole"
    assert out.stat().st_mode == out.parent.stat().st_mode


def test_a_new_folder_replaces_nothing(tmp_path: Path) -> None:
    out, link = tmp_path / "run", tmp_path / "link"
    with pytest.raises(UserError, match="exists already"), new_folder_atomically(out):  # noqa: PT012
        out.mkdir()  # Another process is faster.
        (out / "first").touch()
    assert os.listdir(out) == ["first"]
    link.symlink_to("nothing")
    for taken in (out, link):
        with pytest.raises(UserError, match="exists already"), new_folder_atomically(taken):
            pass
    assert sorted(os.listdir(tmp_path)) == ["link", "run"]


def test_an_array_that_was_written_in_part_means_a_full_disk(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full, where all is full")
    rows = np.zeros(100_000)
    with pytest.raises(UserError, match="rows: the disk is full"), explaining_os_errors(tmp_path / "rows"):  # fmt: skip
        rows.tofile("/dev/full")


def test_a_symbolic_link_stays_and_its_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "there" / "f")
    for content in (b"old", b"new"):
        write_atomically(link, content)
        assert link.is_symlink()
        assert (tmp_path / "there" / "f").read_bytes() == content


def test_devices_are_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="pipe is not a file; give the name of a file"):
        write_atomically(tmp_path / "pipe", b"")
    assert (tmp_path / "pipe").is_fifo()


def test_a_parent_that_is_a_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("")
    with pytest.raises(UserError, match="is a file"):
        write_atomically(tmp_path / "f" / "g", b"")


def test_a_name_that_is_too_long_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is too long; choose a shorter one"):
        write_atomically(tmp_path / ("x" * 300) / "f", b"")


def test_only_one_holds_a_lock(tmp_path: Path) -> None:
    with (
        only_one(tmp_path / "lock", "taken"),
        pytest.raises(UserError, match="taken"),
        only_one(tmp_path / "lock", "taken"),
    ):
        pass
    with only_one(tmp_path / "lock", "taken"):
        pass
