"""Downloads: resumed, checked, and never half a file under its name. All on this machine."""

import errno
import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from rlbench.errors import UserError
from rlbench.offline_data import get_data
from rlbench.offline_data.formats import d4rl
from rlbench.offline_data.formats._download import download

CONTENT = bytes(range(256)) * 12_000  # 3 MB, three blocks
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves one file, as badly as it is told to."""

    content = CONTENT
    ranges = True
    status = 200
    cut_after: int | None = None

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str | None] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}/f.hdf5"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, Server)
        asked = self.headers["Range"]
        server.asked.append(asked)
        start = int(asked[6:-1]) if asked and server.ranges else 0
        if server.status != 200:
            self.send_error(server.status)
            return
        body = server.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: server.cut_after])

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def fetch(server: Server, target: Path) -> list[tuple[int, int]]:
    seen: list[tuple[int, int]] = []
    download(
        server.url,
        target,
        size=len(CONTENT),
        sha256=SHA256,
        progress=lambda done, total: seen.append((done, total)),
    )
    return seen


def names(folder: Path) -> list[str]:
    return sorted(x.name for x in folder.iterdir() if x.suffix != ".lock")


def test_a_file_is_downloaded_with_progress(server: Server, tmp_path: Path) -> None:
    seen = fetch(server, tmp_path / "new" / "f")
    assert (tmp_path / "new" / "f").read_bytes() == CONTENT
    assert names(tmp_path / "new") == ["f"]
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert seen == sorted(seen)


@pytest.mark.parametrize("ranges", [True, False])
def test_a_cut_download_is_taken_up_again(server: Server, tmp_path: Path, ranges: bool) -> None:
    server.cut_after, server.ranges = 1_500_000, ranges
    with pytest.raises(UserError, match="broke off after 1,500,000 of 3,072,000 bytes") as error:
        fetch(server, tmp_path / "f")
    assert "\n" not in str(error.value)
    assert names(tmp_path) == ["f.part"]
    server.cut_after = None
    fetch(server, tmp_path / "f")
    assert server.asked == [None, "bytes=1500000-"]
    assert (tmp_path / "f").read_bytes() == CONTENT
    assert names(tmp_path) == ["f"]


def test_a_whole_part_needs_no_network(server: Server, tmp_path: Path) -> None:
    (tmp_path / "f.part").write_bytes(CONTENT)
    fetch(server, tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == CONTENT
    assert not server.asked


@pytest.mark.parametrize(
    ("fault", "words", "left"),
    [
        ("flipped byte", "has the SHA-256 .* was expected, so it was removed", []),
        ("flipped part", "has the SHA-256 .* was expected, so it was removed", []),
        ("longer", "is a file of 3,072,001 bytes, but 3,072,000 were expected", []),
        ("not found", "the server answered 404 Not Found", []),
        ("part too long", "the server answered 404", []),
    ],
)
def test_a_wrong_file_gives_one_sentence(
    server: Server, tmp_path: Path, fault: str, words: str, left: list[str]
) -> None:
    if fault == "flipped byte":
        server.content = CONTENT[:-1] + b"x"
    elif fault == "flipped part":
        (tmp_path / "f.part").write_bytes(b"x" + CONTENT[1:100])
    elif fault == "longer":
        server.content = CONTENT + b"x"
    else:
        server.status = 404
    if fault == "part too long":
        (tmp_path / "f.part").write_bytes(CONTENT + b"x")
    with pytest.raises(UserError, match=words) as error:
        fetch(server, tmp_path / "f")
    assert "\n" not in str(error.value)
    assert server.url in str(error.value)
    assert names(tmp_path) == left


def test_no_network_is_one_sentence(server: Server, tmp_path: Path) -> None:
    url = server.url
    server.shutdown()
    server.server_close()
    with pytest.raises(UserError, match=r"cannot be reached \(.*refused\); check the network"):
        download(url, tmp_path / "f", size=1, sha256="", progress=lambda *_: None)
    assert names(tmp_path) == []


def test_a_full_disk_keeps_what_has_come(server: Server, tmp_path: Path) -> None:
    def full(done: int, total: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(UserError, match="disk is full"):
        download(server.url, tmp_path / "f", size=len(CONTENT), sha256=SHA256, progress=full)
    assert names(tmp_path) == ["f.part"]


def test_get_puts_the_file_into_d4rls_folder_once(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(d4rl, "url_of", lambda name: server.url)
    table = {"gym_mujoco_v2/hopper_medium-v2.hdf5": (len(CONTENT), SHA256)}
    monkeypatch.setattr(d4rl, "_table", lambda: table)
    path = get_data("hopper-medium", lambda *_: None)
    assert path == d4rl.folder() / "hopper_medium-v2.hdf5"
    assert get_data("hopper-medium-v2", lambda *_: None) == path
    assert len(server.asked) == 1
    path.write_bytes(b"something else")
    with pytest.raises(UserError, match=r"not the file that D4RL published .* move it away"):
        get_data("hopper-medium", lambda *_: None)
    assert path.read_bytes() == b"something else"
