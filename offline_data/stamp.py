"""Stamps show whether the files of a folder are still those that were written, without reading them each time.

`stamp.json` holds, for each other file, its SHA-256, and its size and times when that hash was last found. A file whose
size and times have not changed since then is not read; every other file is hashed again.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rlbench.errors import UserError
from rlbench.files import file_hash, write_atomically

STAMP = "stamp.json"


def write(folder: Path) -> None:
    """Forces all files of a folder to disk and stamps them."""
    found: dict[str, list[Any]] = {}
    for path in sorted(folder.iterdir()):
        with path.open("r+b") as file:
            os.fsync(file.fileno())
            found[path.name] = [hashlib.file_digest(file, "sha256").hexdigest(), *_facts(path)]
    _save(folder, found)


def exists(folder: Path) -> bool:
    """Whether a folder has a stamp; earlier versions wrote none."""
    return (folder / STAMP).exists()


def is_true(folder: Path, names: Iterable[str] | None = None) -> bool:
    """Whether files have the contents of their stamp.

    Args:
        folder: The folder.
        names: Names of the files; all that are stamped by default.
    """
    try:
        file = folder / STAMP
        saved, stamped_at = json.loads(file.read_bytes()), file.stat().st_mtime_ns
        renewed = False
        if not saved:
            return False
        for name in saved if names is None else names:
            sha256, *before = saved[name]
            now = _facts(folder / name)
            # A file as new as the stamp may have been changed after it, within one tick of the file system's clock.
            if now == before and max(now[1:]) < stamped_at:
                continue
            if file_hash(folder / name) != sha256:
                return False
            saved[name], renewed = [sha256, *now], True
    except (OSError, ValueError, KeyError, TypeError):
        return False
    if renewed:
        with contextlib.suppress(UserError, OSError):  # The cache may be read-only.
            _save(folder, saved)
    return True


def _facts(path: Path) -> list[int]:
    """Size of a file, and when its content and its metadata were last changed."""
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]


def _save(folder: Path, found: dict[str, list[Any]]) -> None:
    write_atomically(folder / STAMP, json.dumps(found, indent=1).encode())
