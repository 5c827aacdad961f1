"""HDF5 files in D4RL's format: a reader that knows the traps of real files, and a writer."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np
from numpy.typing import NDArray

from rlbench.errors import UserError
from rlbench.files import write_atomically
from rlbench.offline_data import d4rl
from rlbench.offline_data.behaviour import file_hash
from rlbench.offline_data.dataset import Columns, DataSet, Provenance, Recording
from rlbench.offline_data.reading import BLOCK, Checker, World
from rlbench.offline_data.transitions import (
    Mode,
    Selection,
    episode_bounds,
    repair_ends,
    select_d4rl,
    select_exact,
)

Array = NDArray[Any]
Progress = Callable[[int, int], None]

REQUIRED = ("observations", "actions", "rewards", "terminals")


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """An HDF5 file to read.

    Raises:
        UserError: It cannot be read, or is no HDF5 file, or is damaged.
    """
    try:
        with open(path, "rb") as plain:
            start = plain.read(64)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; give the path of a file") from None
    if start.startswith(b"version https://git-lfs"):
        raise UserError(
            f"{path} is a pointer of Git LFS and not the data; run `git lfs pull` in its repository"
        )
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        what = "damaged or cut off" if start.startswith(b"\x89HDF") else "no HDF5 file"
        raise UserError(
            f"{path} is {what} ({_first_line(error)}); download or copy it again"
        ) from None
    with file:
        yield file


def read(path: Path, folder: Path, world: World, mode: Mode, progress: Progress) -> None:
    """Reads a file into the folder of a data set.

    Args:
        path: The file.
        folder: Where the data set is written; it exists.
        world: What the file must fit.
        mode: Which rows become transitions, see `transitions`.
        progress: Called with rows read and rows in all.

    Raises:
        UserError: The file is damaged, lacks something or does not fit.
    """
    with opened(path) as file:
        source = _Source.of(path, file, world)
        selection, bounds, returns, repairs = _episodes(source, world, mode)
        checker = Checker(path, world)
        with Recording(folder, world.layout, len(selection.rows)) as out:
            for start in range(0, source.count, BLOCK):
                stop = min(start + BLOCK, source.count)
                out.append(source.rows(start, stop, selection, checker))
                progress(stop, source.count)
            provenance = _provenance(path, file, repairs | checker.repairs())
            out.finish(provenance, returns, bounds, world.score)


@dataclass(frozen=True)
class _Source:
    """The columns of a file, not yet read but known to fit together."""

    path: Path
    columns: dict[str, Any]
    world: World
    count: int
    next_recorded: bool

    @classmethod
    def of(cls, path: Path, file: Any, world: World) -> "_Source":
        missing = [name for name in REQUIRED if not isinstance(file.get(name), h5py.Dataset)]
        if missing:
            raise UserError(
                f"{path} has no {' and no '.join(missing)}; a file in D4RL's format has "
                f"{', '.join(REQUIRED)}"
            )
        columns = {
            name: file[name]
            for name in (*REQUIRED, "timeouts", "next_observations")
            if isinstance(file.get(name), h5py.Dataset)
        }
        count = columns["rewards"].shape[0] if columns["rewards"].shape else 0
        if count == 0:
            raise UserError(f"{path} holds no transitions; give a file that does")
        obs, action = world.layout.obs_shape, world.layout.action_shape
        shapes = {"observations": obs, "next_observations": obs, "actions": action}
        for name, column in columns.items():
            _check_column(path, name, column, (count, *shapes.get(name, ())), world.task)
        return cls(path, columns, world, count, "next_observations" in columns)

    def read(self, name: str, start: int, stop: int) -> Array:
        """Rows of a column, [n, width]."""
        try:
            values: Array = self.columns[name][start:stop]
        except (OSError, RuntimeError, ValueError) as error:
            raise UserError(
                f"{self.path} is damaged: its {name} cannot be read ({_first_line(error)}); "
                "download or copy it again"
            ) from None
        return values.reshape(len(values), -1)

    def flags(self, name: str) -> Array:
        """A column of flags as bool [N]."""
        values = self.read(name, 0, self.count)[:, 0]
        if not np.isin(values, (0, 1)).all():
            raise UserError(f"{self.path} has {name} other than 0 and 1; correct the file")
        return values.astype(bool)

    def rows(self, start: int, stop: int, selection: Selection, checker: Checker) -> Array:
        """Packed transitions among the rows start to stop of the file."""
        first, last = np.searchsorted(selection.rows, [start, stop])
        chosen = selection.rows[first:last] - start
        layout = self.world.layout
        packed = np.empty((len(chosen), layout.width), dtype=np.float32)
        columns = Columns.of(packed, layout)
        # One more row, because s' of the last one may lie there.
        obs = self.read("observations", start, stop + 1)
        columns.obs[:] = obs[chosen]
        columns.action[:] = self.read("actions", start, stop)[chosen]
        columns.reward[:] = self.read("rewards", start, stop)[chosen]
        columns.terminated[:, 0] = selection.terminated[first:last]
        columns.truncated[:, 0] = selection.truncated[first:last]
        if selection.next_rows is None:
            columns.next_obs[:] = self.read("next_observations", start, stop)[chosen]
        else:
            columns.next_obs[:] = obs[selection.next_rows[first:last] - start]
        checker.check(packed, selection.rows[first:last])
        return packed


def _check_column(path: Path, name: str, column: Any, shape: tuple[int, ...], task: str) -> None:
    # Old files have columns N x 1 for scalars.
    fits = column.shape == shape or (column.shape == (*shape, 1) and len(shape) == 1)
    if not fits:
        raise UserError(
            f"{path} has {name} of shape {list(column.shape)}, but {list(shape)} is expected for "
            f"its {shape[0]} rewards and the task {task}; give a file that was recorded on it"
        )
    if column.dtype.kind not in "fiub":
        raise UserError(f"{path} has {name} of type {column.dtype}; expected numbers")


def _episodes(
    source: _Source, world: World, mode: Mode
) -> tuple[Selection, Array, Array, dict[str, Any]]:
    """Rows to keep, bounds of the episodes among them, returns of complete episodes, repairs."""
    stored = source.flags("terminals")
    stored_cuts = source.flags("timeouts") if "timeouts" in source.columns else None
    terminals, timeouts, repairs = repair_ends(stored, stored_cuts, world.max_episode_steps)
    if mode == "d4rl":
        selection = select_d4rl(stored, stored_cuts, world.max_episode_steps)
    else:
        selection = select_exact(terminals, timeouts, source.next_recorded)
    bounds, complete = episode_bounds(terminals, timeouts)
    rewards = source.read("rewards", 0, source.count)[:, 0].astype(np.float64)
    returns = np.add.reduceat(rewards, bounds[:-1])[:complete]
    recorded = selection.next_rows is None
    repairs = {"rows_in_file": source.count, "next_obs": "recorded" if recorded else "shifted"} | (
        repairs
    )
    return selection, np.searchsorted(selection.rows, bounds), returns, repairs


def _provenance(path: Path, file: Any, details: dict[str, Any]) -> Provenance:
    digest = file_hash(path)
    details = {"file_sha256": digest} | details
    published = d4rl.name_of(digest)
    if published is not None:
        return Provenance("d4rl", str(published), d4rl.url_of(published), "", details)
    if file.attrs.get("synthetic", False):
        written_by = json.loads(file.attrs.get("provenance", "{}"))
        return Provenance("generated", path.name, path.name, "", details | {"origin": written_by})
    return Provenance("file", path.name, str(path), "", details)


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def write_hdf5(data: DataSet, path: Path) -> None:
    """Writes a data set in D4RL's format, whole or not at all.

    Generated data carry the attribute `synthetic`, so that nobody takes them for D4RL's own.

    Args:
        data: The data set.
        path: The file to make or replace.

    Raises:
        UserError: The disk is full, or the folder cannot be written to.
    """

    def write(target: BinaryIO) -> None:
        with h5py.File(target, "w") as file:
            _write(data, file)

    write_atomically(path, write)


def _write(data: DataSet, file: Any) -> None:
    file.attrs["synthetic"] = data.provenance.kind == "generated"
    file.attrs["provenance"] = json.dumps(data.provenance.to_json())
    file["metadata/algorithm"] = np.bytes_(data.provenance.details.get("algorithm", "unknown"))
    columns = Columns.of(data.rows.numpy(), data.layout)
    # Where the last row of an episode had to be left out, the one before it ends the episode.
    ends = data.episode_bounds[1:][: len(data.episode_returns)] - 1
    timeouts = columns.truncated[:, 0] > 0
    timeouts[ends] |= columns.terminated[ends, 0] == 0
    obs, action = data.layout.obs_shape, data.layout.action_shape
    for name, column, shape, kind in (
        ("observations", columns.obs, obs, "f4"),
        ("actions", columns.action, action, "f4"),
        ("rewards", columns.reward, (), "f4"),
        ("terminals", columns.terminated, (), "?"),
        ("timeouts", timeouts[:, None], (), "?"),
        ("next_observations", columns.next_obs, obs, "f4"),
    ):
        stored = file.create_dataset(name, (len(data), *shape), kind)
        for start in range(0, len(data), BLOCK):
            block = column[start : start + BLOCK]
            stored[start : start + BLOCK] = block.reshape(len(block), *shape)
