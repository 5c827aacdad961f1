"""Atomic writes: a reader finds either the old content or the new, never a mixture. The folder of caches."""

import errno
import hashlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from filelock import FileLock, Timeout
from platformdirs import user_cache_dir

from rlbench.errors import CannotWrite, UserError

PART = ".part"
"""Ending of temporary files and folders, which a kill may leave behind."""


def cache_root() -> Path:
    """The folder of all caches: $RLBENCH_CACHE, or the platform's cache folder."""
    return Path(os.environ.get("RLBENCH_CACHE") or user_cache_dir("rlbench"))


def write_atomically(path: Path, content: bytes | Callable[[BinaryIO], object]) -> None:
    """Writes a temporary file next to `path`, forces the bytes to disk and renames it.

    Args:
        path: The file to make or replace; its folder is made if missing. A symbolic link stays, and the file it points to is
            made or replaced.
        content: The bytes, or a function that writes them.

    Raises:
        UserError: The disk is full, the folder cannot be written to, or `path` is a device; `path` is as it was.
    """
    with explaining_os_errors(path):
        if path.is_symlink():
            path = path.resolve()
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise UserError(f"{path} is not a file; give the name of a file")
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=PART)
        try:
            with os.fdopen(handle, "wb") as file:
                if callable(content):
                    content(file)
                else:
                    file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(name, 0o666 & ~_umask())
            os.replace(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


@contextmanager
def new_folder_atomically(path: Path) -> Iterator[Path]:
    """A folder to write into, which becomes `path` at the end; after an error or a kill there is no `path`.

    Raises:
        UserError: `path` exists, or cannot be written.
    """
    if os.path.lexists(path):
        raise UserError(f"{path} exists already; give another folder as --out, or remove it")
    with explaining_os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            prefix=f".{path.name}.", suffix=PART, dir=path.parent
        ) as temporary:
            folder = Path(temporary) / path.name  # The temporary folder itself is private.
            folder.mkdir()
            yield folder
            folder.rename(path)
            sync_folder(path.parent)


def file_hash(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Edited(ValueError):
    """Plain values differ from their hash."""


def with_hash(values: Mapping[str, Any]) -> dict[str, Any]:
    """Plain values with their SHA-256, for a JSON file in which a change is noticed."""
    return {**values, "sha256": _values_hash(values)}


def without_hash(values: Mapping[str, Any]) -> dict[str, Any]:
    """Plain values from such a file; those without a hash are returned as they are.

    Raises:
        Edited: Their hash differs.
    """
    found = {name: value for name, value in values.items() if name != "sha256"}
    if found != values and values["sha256"] != _values_hash(found):
        raise Edited
    return found


def _values_hash(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def sync_file(path: Path) -> None:
    """Forces the content of a file to disk."""
    mode = "r+b" if os.name == "nt" else "rb"  # Windows only syncs what may be written.
    with explaining_os_errors(path), path.open(mode) as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Forces renames inside `folder` to disk, where the system can."""
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


PASSING = {
    errno.ENOSPC: "the disk is full; free some space",
    errno.EDQUOT: "your disk quota is used up; free some space",
    errno.EIO: "the disk reported an error; check the disk",
    errno.ESTALE: "the network file system lost the folder; mount it again",
    errno.EBUSY: "the file is in use by the system; wait a little",
    errno.EMFILE: "too many files are open; close other programs",
}
"""Errors of the operating system that can be corrected, in words."""
_OTHER_FOLDER = "choose another folder"
LASTING = {
    errno.EFBIG: f"the file would be larger than is allowed there; {_OTHER_FOLDER}",
    errno.EXDEV: f"its folder is spread over two file systems; {_OTHER_FOLDER}",
    errno.EACCES: f"you may not write there; {_OTHER_FOLDER}",
    errno.EPERM: f"you may not write there; {_OTHER_FOLDER}",
    errno.EROFS: f"the file system is read-only; {_OTHER_FOLDER}",
    errno.EISDIR: "it is a folder; give the name of a file",
    errno.ENOTDIR: f"a part of the path is a file; {_OTHER_FOLDER}",
    errno.ENAMETOOLONG: "a name in the path is too long; choose a shorter one",
    errno.EEXIST: f"a part of the path is a file; {_OTHER_FOLDER}",
    errno.ENOTEMPTY: f"it exists already; {_OTHER_FOLDER}",
}
"""Errors of the operating system that another path avoids, in words."""


def refuse_other_than_file(path: Path) -> None:
    """Refuses a folder, pipe or device in place of a file, because reading it might never end; nothing at all is no error."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return
    if not stat.S_ISREG(mode):
        kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
        kind = kinds.get(stat.S_IFMT(mode), "a device")
        raise UserError(f"{path} is {kind}, not a file; give the path of a file")


@contextmanager
def explaining_os_errors(path: Path) -> Iterator[None]:
    """Turns write errors of the operating system into a UserError that names `path`."""
    try:
        yield
    except OSError as error:
        number = error.errno
        # NumPy writes arrays itself, and its error has no number.
        if number is None and "requested and" in str(error):
            number = errno.ENOSPC
        if number in PASSING:
            raise CannotWrite(f"cannot write {path}: {PASSING[number]}") from error
        if number in LASTING:
            raise UserError(f"cannot write {path}: {LASTING[number]}") from error
        raise


def refuse_without_space(folder: Path, needed: int, what: str, remedy: str) -> None:
    """Refuses what needs more bytes than the disk of a folder has free; `remedy` is what helps apart from more space."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"{what} needs {needed / 1e9:,.1f} GB, but the disk of {folder} has {free / 1e9:,.1f} GB free; "
            f"free some space or {remedy}"
        )


@contextmanager
def only_one(lock: Path, refusal: str, *, wait: bool = False) -> Iterator[None]:
    """Holds a lock that the operating system releases when the process dies.

    Args:
        lock: The lock file.
        refusal: The error message if another process holds the lock.
        wait: Wait for the lock instead of refusing.
    """
    with explaining_os_errors(lock):
        lock.parent.mkdir(parents=True, exist_ok=True)
        held = FileLock(lock, timeout=-1 if wait else 0)
        try:
            held.acquire()
        except Timeout:
            raise UserError(refusal) from None
    try:
        yield
    finally:
        held.release()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
