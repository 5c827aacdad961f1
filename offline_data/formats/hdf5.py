"""HDF5 files in D4RL's format: a writer, and a reader that handles the faults of real files."""

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray

from rlbench.errors import UserError
from rlbench.files import file_hash, write_atomically
from rlbench.hdf5 import explaining_damage, member, opened, refuse_overclaimed
from rlbench.offline_data.dataset import Columns, DataSet, Kind, Provenance, Recording
from rlbench.offline_data.formats import d4rl
from rlbench.offline_data.formats._reader import BLOCK, Checker, Progress, World, warn_of_limit
from rlbench.offline_data.formats._transitions import (
    Selection,
    episode_bounds,
    repair_ends,
    select_exact,
)

Array = NDArray[Any]

REQUIRED = ("observations", "actions", "rewards", "terminals")


def read(path: Path, folder: Path, world: World, progress: Progress) -> None:
    """Reads a file into the folder of a data set.

    Args:
        path: The file.
        folder: Where the data set is written; it exists.
        world: The task that the file must fit.
        progress: Called with rows read and total rows.

    Raises:
        UserError: The file is damaged, lacks something or does not fit.
    """
    with opened(path) as file, ThreadPoolExecutor(max_workers=1) as hasher:
        digest = hasher.submit(file_hash, path)  # This is slow, and the rest can be done meanwhile.
        with explaining_damage(path):
            source = _Source.of(path, file, world)
        selection, ends, bounds, returns, details = _episodes(source, world)
        checker = Checker(path, world, ends if selection.next_rows is None else None)
        with closing(Recording(folder, world.layout, len(selection.rows))) as out:
            block = min(BLOCK, world.block)
            for start in range(0, source.count, block):
                stop = min(start + block, source.count)
                with np.errstate(
                    over="ignore"
                ):  # Values too large for float32 become infinity and are refused.
                    out.append(source.rows(start, stop, selection, checker))
                progress(stop, source.count)
            details |= {"file_sha256": digest.result()} | checker.findings()
            provenance = _provenance(path, file, details)
            out.finish(provenance, returns, bounds, world.score)


def world_of(path: Path) -> World:
    """A world that fits any file whose columns are arrays."""
    with opened(path) as file, explaining_damage(path):
        arrays = _arrays(path, file)
        refuse_overclaimed(path, arrays.values())
        shapes = [arrays[name].shape[1:] if name in arrays else () for name in REQUIRED[:2]]
    obs, action = (spaces.Box(-np.inf, np.inf, shape) for shape in shapes)
    return World(path.name, obs, action, None, lambda mean_return: None)


@dataclass(frozen=True)
class _Source:
    """The columns of a file, not yet read but with matching shapes."""

    path: Path
    columns: dict[str, Any]
    world: World
    count: int

    @classmethod
    def of(cls, path: Path, file: Any, world: World) -> "_Source":
        columns = _arrays(path, file)
        if missing := [name for name in REQUIRED if name not in columns]:
            raise UserError(
                f"{path} has no {' and no '.join(missing)}; a file in D4RL's format has "
                f"{', '.join(REQUIRED)}"
            )
        count = columns["rewards"].shape[0] if columns["rewards"].shape else 0
        if count == 0:
            raise UserError(f"{path} holds no transitions; give a file that does")
        obs, action = world.layout.obs_shape, world.layout.action_shape
        shapes = {"observations": obs, "next_observations": obs, "actions": action}
        for name, column in columns.items():
            check_column(path, column, (count, *shapes.get(name, ())), world.task)
        refuse_overclaimed(path, columns.values())
        return cls(path, columns, world, count)

    def read(self, name: str, start: int, stop: int) -> Array:
        """Rows of a column, [n, width]."""
        return read_rows(self.path, self.columns[name], start, stop)

    def flags(self, name: str) -> Array:
        """A column of flags as bool [N]."""
        return read_flags(self.path, self.columns[name])

    def rows(self, start: int, stop: int, selection: Selection, checker: Checker) -> Array:
        """Packed transitions from rows start to stop of the file."""
        first, last = np.searchsorted(selection.rows, [start, stop])
        chosen = selection.rows[first:last] - start
        layout = self.world.layout
        packed = np.zeros((stop - start, layout.width), dtype=np.float32)
        columns = Columns.of(packed, layout)
        # One more row, because it may hold s' of the last one.
        obs = self.read("observations", start, stop + 1)
        columns.obs[:] = obs[: stop - start]
        columns.action[:] = self.read("actions", start, stop)
        columns.reward[:] = self.read("rewards", start, stop)
        columns.terminated[chosen, 0] = selection.terminated[first:last]
        columns.truncated[chosen, 0] = selection.truncated[first:last]
        if selection.next_rows is None:
            columns.next_obs[:] = self.read("next_observations", start, stop)
        else:
            columns.next_obs[chosen] = obs[selection.next_rows[first:last] - start]
        checker.check(packed, start)
        kept: Array = packed[chosen]
        return kept


def check_column(path: Path, column: Any, shape: tuple[int, ...], task: str) -> None:
    """Refuses a column that is not numeric or has another shape; N x 1 for N and N for N x 1 are allowed."""
    name = column.name.lstrip("/")
    flat = shape[:1] if shape[1:] == (1,) else shape
    if column.shape not in (shape, (*shape, 1), flat):
        raise UserError(
            f"{path} has {name} of shape {list(column.shape)}, but the task {task} and the number "
            f"of its rewards make {list(shape)}; give a file that was recorded on the task"
        )
    if column.dtype.kind not in "fiub":
        raise UserError(f"{path} has {name} of type {column.dtype}; give a file with numbers")


def read_rows(path: Path, column: Any, start: int, stop: int) -> Array:
    """Rows of a column, [n, width]."""
    with explaining_damage(path):
        values: Array = column[start:stop]
    return values.reshape(len(values), -1)


def read_flags(path: Path, column: Any) -> Array:
    """A column of flags as bool [N].

    Raises:
        UserError: It has other values.
    """
    values: Array = read_rows(path, column, 0, column.shape[0])[:, 0]
    if not np.isin(values, (0, 1)).all():
        raise UserError(
            f"{path} has {column.name.lstrip('/')} other than 0 and 1; correct the file"
        )
    return values.astype(bool)


def _arrays(path: Path, file: Any) -> dict[str, Any]:
    """The columns of a file that are arrays."""
    names = (*REQUIRED, "timeouts", "next_observations")
    found = {name: member(path, file, name) for name in names}
    return {name: x for name, x in found.items() if isinstance(x, h5py.Dataset)}


def _episodes(
    source: _Source, world: World
) -> tuple[Selection, Array, Array, Array, dict[str, Any]]:
    """Rows to keep, ends [N], bounds of their episodes, returns of complete episodes, details."""
    terminals, timeouts, repairs = repair_ends(
        source.flags("terminals"),
        source.flags("timeouts") if "timeouts" in source.columns else None,
        world.max_episode_steps,
    )
    warn_of_limit(source.path, repairs)
    next_recorded = "next_observations" in source.columns
    selection = select_exact(terminals, timeouts, next_recorded)
    if not len(selection.rows):
        raise UserError(
            f"{source.path} has no row whose next observation is known; give a longer recording"
        )
    bounds, complete = episode_bounds(terminals, timeouts)
    rewards = source.read("rewards", 0, source.count)[:, 0].astype(np.float64)
    returns = np.add.reduceat(rewards, bounds[:-1])[:complete]
    details = {
        "rows_in_file": source.count,
        "next_obs": "recorded" if next_recorded else "shifted",
        **repairs,
    }
    bounds = np.searchsorted(selection.rows, bounds)
    return selection, terminals | timeouts, bounds, returns, details


def _provenance(path: Path, file: Any, details: dict[str, Any]) -> Provenance:
    published = d4rl.name_of(details["file_sha256"])
    if published is not None:
        return Provenance("d4rl", str(published), d4rl.url_of(published), "", details)
    with explaining_damage(path):
        kind: Kind = "generated" if file.attrs.get("synthetic", False) else "file"
        origin = file.attrs.get("provenance")
    with suppress(
        TypeError, ValueError, RecursionError
    ):  # Only our own files record their provenance.
        details["origin"] = json.loads(origin)
    return Provenance(kind, path.name, path.name, "", details)


def write_hdf5(data: DataSet, path: Path) -> None:
    """Writes a data set in D4RL's format, atomically.

    Generated data carry the attribute `synthetic`, so that they are not mistaken for D4RL's own.

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
    columns = Columns.of(data.rows.numpy(), data.layout.stored)
    # If the last row of an episode was left out, the one before it ends the episode.
    bounds, complete = data.episode_bounds, len(data.episode_returns)
    ends = bounds[1 : complete + 1][np.diff(bounds)[:complete] > 0] - 1
    timeouts = columns.truncated[:, 0] > 0
    timeouts[ends] |= columns.terminated[ends, 0] == 0
    obs, action = data.layout.obs_shape, data.layout.action_shape
    pixels = "u1" if data.layout.images else "f4"
    stored = {
        name: file.create_dataset(name, (len(data), *shape), kind)
        for name, shape, kind in (
            ("observations", obs, pixels), ("actions", action, "f4"), ("rewards", (), "f4"),
            ("terminals", (), "?"), ("timeouts", (), "?"), ("next_observations", obs, pixels),
        )
    }  # fmt: skip
    for start in range(0, len(data), BLOCK):
        rows = slice(start, min(start + BLOCK, len(data)))
        batch = data.take(torch.arange(rows.start, rows.stop))
        for name, column in (
            ("observations", batch.obs), ("actions", batch.action), ("rewards", batch.reward),
            ("next_observations", batch.next_obs),
        ):  # fmt: skip
            stored[name][rows] = column.numpy()
        stored["terminals"][rows] = batch.terminated.numpy() > 0
        stored["timeouts"][rows] = timeouts[rows]
