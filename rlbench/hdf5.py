"""HDF5 files, which may come from anywhere: only what is in the file itself is read, and only as much as can be in it.

HDF5 can refer to other places and files, and can claim any number of rows without storing them.
"""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py

from rlbench.errors import UserError
from rlbench.files import refuse_other_than_file

MOST_COMPRESSED = 1_000
"""Largest ratio of the claimed size of arrays to the size of their file: gzip reaches about this on zeros alone."""
SMALL = 1 << 26
"""Claimed bytes that are never refused."""


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """An HDF5 file to read; use `member` to look into it.

    Raises:
        UserError: It cannot be read, is not an HDF5 file, or is damaged.
    """
    refuse_other_than_file(path)
    try:
        with open(path, "rb") as plain:
            start = plain.read(64)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; give the path of a file") from None
    if start.startswith(b"version https://git-lfs"):
        raise UserError(
            f"{path} is a Git LFS pointer, not the data; run `git lfs pull` in its repository"
        )
    if not start.startswith(b"\x89HDF"):
        raise UserError(f"{path} is not an HDF5 file; give one")
    with explaining_damage(path):
        file = h5py.File(path, "r")
    with file:
        yield file


@contextmanager
def explaining_damage(path: Path) -> Iterator[None]:
    """Turns h5py's errors on a damaged file into a UserError."""
    try:
        yield
    except UserError:
        raise
    except (OSError, RuntimeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path} is damaged or cut off ({f'{error} '.splitlines()[0].strip()}); download or "
            "copy it again"
        ) from None


def member(path: Path, group: Any, name: str) -> Any:
    """The array or group with a name in a group of a file; None if there is none.

    Args:
        path: The file, for messages.
        group: The file, or a group of it.
        name: A name without slashes.

    Raises:
        UserError: Its content is elsewhere.
    """
    links, key = group.id.links, name.encode("utf-8", "surrogateescape")
    if not links.exists(key):
        return None
    # Not `group.get`, which looks for the target of a link, also in other files.
    elsewhere = links.get_info(key).type != h5py.h5l.TYPE_HARD
    found = None if elsewhere else group[name]
    if isinstance(found, h5py.Dataset):
        elsewhere = bool(found.external) or found.is_virtual
    if elsewhere:
        raise UserError(
            f"{path} has {name} as a reference to another place or another file, which is not followed; give a "
            "file that holds its arrays itself"
        )
    return found


def refuse_overclaimed(path: Path, arrays: Iterable[Any]) -> None:
    """Refuses a file whose arrays would fill far more memory than it can hold.

    Args:
        path: The file.
        arrays: All of its arrays that will be read.
    """
    claimed, size = sum(map(_claimed, arrays)), path.stat().st_size
    if claimed > max(SMALL, MOST_COMPRESSED * size):
        raise UserError(
            f"{path} claims arrays of {claimed:,} bytes in a file of {size:,} bytes, which is too few even if they are "
            "compressed; give a file with all of its rows"
        )


def _claimed(array: Any) -> int:
    """Bytes of an array, or of one chunk if that is larger: HDF5 reads whole chunks."""
    counts = (math.prod(shape) for shape in (array.shape, array.chunks) if shape is not None)
    return max(counts, default=0) * int(array.dtype.itemsize)
