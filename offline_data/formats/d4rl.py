"""The files that D4RL published: addresses, sizes and hashes.

Sources: D4RL's `infos.py` for the addresses, TensorFlow Datasets' checksums for sizes and hashes.
The data are licensed CC BY 4.0; cite Fu et al., 2020, arXiv:2004.07219.
"""

import functools
import json
import os
from pathlib import Path
from typing import NamedTuple

from rlbench.envs.d4rl.names import ENVIRONMENTS, LEVELS, D4RLName

_SERVER = "http://rail.eecs.berkeley.edu/datasets/offline_rl/"
_FOLDERS = ("gym_mujoco", "gym_mujoco_v1", "gym_mujoco_v2")


class Published(NamedTuple):
    """A file on D4RL's server."""

    path: str
    """Path below the server's folder."""
    size: int
    """Size in bytes."""
    sha256: str


def published(name: D4RLName) -> Published:
    """The file of a data set."""
    path = _path(name)
    size, sha256 = _table()[path]
    return Published(path, size, sha256)


def url_of(name: D4RLName) -> str:
    """The address of the file of a data set."""
    return _SERVER + _path(name)


def folder() -> Path:
    """D4RL's own folder, in which files downloaded by D4RL are found."""
    return Path(os.environ.get("D4RL_DATASET_DIR") or Path.home() / ".d4rl" / "datasets")


def target(name: D4RLName) -> Path:
    """Path of the file of a data set after its download."""
    return folder() / _path(name).rpartition("/")[2]


def local_file(name: D4RLName) -> Path | None:
    """The downloaded file of a data set, or None."""
    path = target(name)
    return path if path.is_file() else None


def name_of(sha256: str) -> D4RLName | None:
    """The data set whose file has this hash, or None."""
    return _names_by_hash().get(sha256)


def _path(name: D4RLName) -> str:
    family, level = name.family, name.level.replace("-", "_")
    if name.version > 0:
        return f"{_FOLDERS[name.version]}/{family}_{level}-v{name.version}.hdf5"
    if name.level == "medium-replay":  # its old name
        level = "mixed"
        family = "walker" if family == "walker2d" else family
    return f"{_FOLDERS[0]}/{family}_{level}.hdf5"


@functools.cache
def _table() -> dict[str, tuple[int, str]]:
    text = (Path(__file__).parent / "d4rl_files.json").read_text(encoding="utf-8")
    return {path: (size, sha256) for path, (size, sha256) in json.loads(text).items()}


@functools.cache
def _names_by_hash() -> dict[str, D4RLName]:
    names = [
        D4RLName(family, level, version)
        for version in range(3)
        for family in ENVIRONMENTS
        for level in (*LEVELS, *(["full-replay"] if version else []))
    ]
    return {published(name).sha256: name for name in names}
