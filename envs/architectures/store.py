"""Results on disk: one small JSON file for each, written at once and atomically.

A file holds its key, the values and the hash of both. A damaged one counts as missing.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rlbench.files import cache_root, write_atomically

try:
    import fcntl
except ModuleNotFoundError:  # Windows
    fcntl = None  # type: ignore[assignment]


def default_folder() -> Path:
    """The folder of the results in the user's cache."""
    return cache_root() / "architectures"


def read(folder: Path, key: Mapping[str, Any]) -> dict[str, Any] | None:
    """The values of a key; None if there are none, or they are damaged.

    Args:
        folder: Where results of one kind are.
        key: Plain values.
    """
    try:
        found = json.loads(_file(folder, key).read_bytes())
        if found["key"] == key and found.pop("sha256") == _hash(found):
            return dict(found["values"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    return None


def write(folder: Path, key: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    """Stores the values of a key.

    Raises:
        UserError: The disk is full or the folder cannot be written to.
    """
    whole: dict[str, Any] = {"key": key, "values": values}
    text = json.dumps(whole | {"sha256": _hash(whole)}, indent=1) + "\n"
    write_atomically(_file(folder, key), text.encode())


@contextmanager
def machine(*, alone: bool) -> Iterator[None]:
    """Holds the lock of all searches on this computer, which ends with the process.

    Children train under a shared lock, and latencies are measured under an exclusive one, so that no search disturbs the
    measurements of another. Without the locks of POSIX nothing is locked.

    Args:
        alone: Whether the lock is exclusive.
    """
    if fcntl is None:
        yield
        return
    path = Path(tempfile.gettempdir()) / "rlbench-architectures.lock"
    try:
        # Opened for reading first: the file may belong to another user.
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        handle = os.open(path, os.O_RDONLY | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield
    finally:
        os.close(handle)


def _file(folder: Path, key: Mapping[str, Any]) -> Path:
    return folder / f"{hashlib.sha256(_text(key)).hexdigest()[:32]}.json"


def _hash(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(_text(values)).hexdigest()


def _text(values: Mapping[str, Any]) -> bytes:
    return json.dumps(values, sort_keys=True).encode()
