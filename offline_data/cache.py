"""The cache: one folder per data set, made once and atomically."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from rlbench.files import cache_root, explaining_os_errors, only_one, sync_folder
from rlbench.offline_data import stamp

if TYPE_CHECKING:
    from rlbench.offline_data.dataset import DataSet


def cache_folder() -> Path:
    """The folder of cached data sets and examples."""
    return cache_root() / "data"


def entry(name: str, key: Mapping[str, object]) -> Path:
    """The folder of a data set.

    Args:
        name: Readable beginning of the folder's name.
        key: Everything on which the content depends, in plain values.
    """
    digest = hashlib.sha256(json.dumps([name, key], sort_keys=True).encode()).hexdigest()
    return cache_folder() / f"{name}-{digest[:16]}"


def open_or_make(
    folder: Path, make: Callable[[Path], None], notify: Callable[[str], None]
) -> "DataSet":
    """Opens a data set of the cache; makes it first if it is missing, changed or damaged.

    Args:
        folder: From `entry`.
        make: Fills the given folder; if it raises, the folder is removed.
        notify: Called with a message if a changed or damaged data set is made again.

    Raises:
        UserError: The disk is full or the cache cannot be written to.
    """
    found = _open(folder)
    if found is not None:
        return found
    lock = folder.with_name(f".{folder.name}.lock")
    with only_one(lock, "", wait=True), explaining_os_errors(folder):
        found = _open(folder)  # Another process may have made it while this one waited.
        if found is not None:
            return found
        if folder.exists():
            why = (
                "was changed or is damaged"
                if stamp.exists(folder)
                else "has no hashes of its files"
            )
            notify(f"{folder} {why} and will be made again")
            shutil.rmtree(folder)
        _make(folder, make)
        made = _open(folder)
    assert made is not None
    return made


def _make(folder: Path, make: Callable[[Path], None]) -> None:
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)  # of a process that was killed
    try:
        part.mkdir()
        make(part)
        stamp.write(part)
        sync_folder(part)
        os.rename(part, folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    sync_folder(folder.parent)


def _open(folder: Path) -> "DataSet | None":
    from rlbench.offline_data.dataset import DataSet

    try:
        return DataSet(folder) if stamp.is_true(folder) else None
    except (OSError, ValueError, KeyError, TypeError, EOFError):
        return None
