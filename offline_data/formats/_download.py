"""Downloads one file: resumes interrupted downloads and keeps only verified files."""

import hashlib
import http.client
import os
from collections.abc import Callable
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from rlbench.errors import UserError
from rlbench.files import explaining_os_errors, only_one, sync_folder

_BLOCK = 1 << 20
_TIMEOUT = 30  # seconds without any data


def download(
    url: str, target: Path, *, size: int, sha256: str, progress: Callable[[int, int], None]
) -> None:
    """Downloads a file, or the rest of it, and verifies it before giving it its name.

    A partial download stays in `<target>.part`, from which the next call continues.

    Args:
        url: The address.
        target: The file to make.
        size: Its size in bytes.
        sha256: Its hash.
        progress: Called with bytes done and total bytes.

    Raises:
        UserError: No network, another file than expected, or no room for it.
    """
    part = target.with_name(f"{target.name}.part")
    lock = target.with_name(f".{target.name}.lock")
    busy = f"another process is downloading {target}; wait for it to end"
    with only_one(lock, busy), explaining_os_errors(part):
        if part.exists() and part.stat().st_size > size:
            part.unlink()
        _fetch(url, part, size, progress)
        with open(part, "rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != sha256:
            part.unlink()
            raise UserError(
                f"{url} has the SHA-256 {found}, but {sha256} was expected, so it was removed; "
                "run the same command again, or download it over another network"
            )
        os.replace(part, target)
        sync_folder(target.parent)


def _fetch(url: str, part: Path, size: int, progress: Callable[[int, int], None]) -> None:
    """Appends the missing bytes to `part`."""
    done = part.stat().st_size if part.exists() else 0
    if done == size:
        return
    with _answer(url, done) as answer:
        if answer.status != 206:
            done = 0  # The server cannot resume.
        length = answer.length
        if length is not None and done + length != size:
            raise UserError(
                f"{url} is a file of {done + length:,} bytes, but {size:,} were expected; it is "
                "not the file that was published, so look for another source"
            )
        with open(part, "ab" if done else "wb") as file:
            while block := _read(answer):
                file.write(block)
                done += len(block)
                progress(done, size)
            file.flush()
            os.fsync(file.fileno())
    if done != size:
        raise UserError(
            f"{url} broke off after {done:,} of {size:,} bytes; run the same command again "
            "to resume the download"
        )


def _answer(url: str, start: int) -> http.client.HTTPResponse:
    request = Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        answer: http.client.HTTPResponse = urlopen(request, timeout=_TIMEOUT)
        return answer
    except HTTPError as error:
        raise UserError(
            f"{url} cannot be downloaded: the server answered {error.code} {error.reason}; try "
            "again later"
        ) from None
    except (URLError, OSError, http.client.HTTPException) as error:
        reason = error.reason if isinstance(error, URLError) else error
        raise UserError(
            f"{url} cannot be reached ({reason}); check the network, or download the file "
            "elsewhere and give it with --data FILE"
        ) from None


def _read(answer: http.client.HTTPResponse) -> bytes:
    """The next bytes; empty at the end or if the connection breaks, which the size reveals."""
    try:
        return answer.read(_BLOCK)
    except (OSError, http.client.HTTPException):
        return b""
