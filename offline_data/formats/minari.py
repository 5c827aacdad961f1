"""Minari's data sets, read from its own HDF5 format without its package.

A data set is a folder with `data/metadata.json` and `data/main_data.hdf5`; each group `episode_<i>`
of the latter holds one episode, with one more observation than actions, so every s' is known.
"""

import json
import math
import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from rlbench.errors import UserError
from rlbench.files import refuse_other_than_file
from rlbench.hdf5 import explaining_damage, member, opened, refuse_overclaimed
from rlbench.offline_data.dataset import Columns, Provenance, Recording
from rlbench.offline_data.formats._reader import Checker, Progress, World, warn_of_limit
from rlbench.offline_data.formats._transitions import probable_limit, true_ends
from rlbench.offline_data.formats.hdf5 import check_column, read_flags, read_rows

Array = NDArray[Any]

_COLUMNS = ("observations", "actions", "rewards", "terminations", "truncations")


def find(dataset_id: str) -> Path:
    """The file of a downloaded data set.

    Raises:
        UserError: It is not there, or is stored in another format.
    """
    root = Path(os.environ.get("MINARI_DATASETS_PATH") or Path.home() / ".minari" / "datasets")
    file = root / dataset_id / "data" / "main_data.hdf5"
    if not file.is_file():
        raise UserError(
            f"the Minari data set {dataset_id!r} is not in {root} as HDF5; "
            f"run `minari download {dataset_id}`"
        )
    return file


def holds(path: Path) -> bool:
    """Whether a path is the main file of a data set in Minari's format, wherever it lies."""
    return path.name == "main_data.hdf5" and (path.parent / "metadata.json").exists()


def world_of(path: Path) -> World:
    """A world that fits any data set whose observations and actions are arrays."""
    with opened(path) as file, explaining_damage(path):
        first = min((name for name in file if name.startswith("episode_")), default=None)
        group = None if first is None else member(path, file, first)
        columns = [
            member(path, group, name) if isinstance(group, h5py.Group) else None
            for name in _COLUMNS[:2]
        ]
        shapes = [x.shape[1:] if isinstance(x, h5py.Dataset) else () for x in columns]
    obs, action = (spaces.Box(-np.inf, np.inf, shape) for shape in shapes)
    return World(_metadata(path)[0], obs, action, None, lambda mean_return: None)


def read(path: Path, folder: Path, world: World, progress: Progress) -> None:
    """Reads a data set into the folder of one of ours.

    Args:
        path: From `find`.
        folder: Where the data set is written; it exists.
        world: The task that the data must fit.
        progress: Called with episodes read and total episodes.

    Raises:
        UserError: The data set is damaged, lacks something or does not fit.
    """
    dataset_id, low, high = _metadata(path)
    with opened(path) as file:
        with explaining_damage(path):
            episodes = _episodes(path, file, world)
        lengths = np.array([len(columns["rewards"]) for columns in episodes])
        bounds = np.concatenate([[0], np.cumsum(lengths)])
        terminals, timeouts, details = _ends(path, episodes, lengths, world)
        is_last = np.zeros(bounds[-1], dtype=bool)
        is_last[bounds[1:] - 1] = True
        checker = Checker(path, world, is_last)
        returns = []
        with closing(Recording(folder, world.layout, len(is_last))) as out:
            for number, columns in enumerate(episodes):
                inside = slice(bounds[number], bounds[number + 1])
                rows = _transitions(path, columns, world, terminals[inside], timeouts[inside])
                checker.check(rows, bounds[number])
                out.append(rows)
                rewards = read_rows(path, columns["rewards"], 0, len(rows))
                returns.append(float(rewards.astype(np.float64).sum()))
                progress(number + 1, len(episodes))
            details |= {"next_obs": "recorded", "reference_returns": [low, high]}
            details |= checker.findings()
            provenance = Provenance("minari", dataset_id, f"minari:{dataset_id}", "", details)
            out.finish(provenance, np.array(returns), bounds, _score(low, high))


def _episodes(path: Path, file: Any, world: World) -> list[dict[str, Any]]:
    """The columns of every episode, in the order of recording."""
    names = [name for name in file if name.startswith("episode_")]
    shapes = dict(zip(_COLUMNS, (world.layout.obs_shape, world.layout.action_shape), strict=False))
    episodes: list[dict[str, Any]] = []
    for name in sorted(names, key=lambda name: int(name.removeprefix("episode_"))):
        group = member(path, file, name)
        if not isinstance(group, h5py.Group):
            raise UserError(
                f"{path} has {name} as an array, expected a group of arrays; download the data set again"
            )
        columns = {column: member(path, group, column) for column in _COLUMNS}
        for column, found in columns.items():
            # Rewards of one number alone would not tell the number of steps.
            if not isinstance(found, h5py.Dataset) or not found.shape:
                raise UserError(
                    f"{path} has no array {column} in {name}; data sets with such parts cannot be "
                    "read, so choose another one"
                )
        count = columns["rewards"].shape[0]
        if count == 0:
            continue
        for key, column in columns.items():
            rows = count + 1 if key == "observations" else count
            check_column(path, column, (rows, *shapes.get(key, ())), world.task)
        episodes.append(columns)
    refuse_overclaimed(path, (column for columns in episodes for column in columns.values()))
    if not episodes:
        raise UserError(f"{path} holds no episodes; download the data set again")
    return episodes


def _ends(
    path: Path, episodes: list[dict[str, Any]], lengths: Array, world: World
) -> tuple[Array, Array, dict[str, Any]]:
    """Terminals and time-outs of all episodes, bool [N] each, and a record of the repairs."""
    terminals, timeouts = (
        np.concatenate([read_flags(path, columns[name]) for columns in episodes])
        for name in ("terminations", "truncations")
    )
    last = np.cumsum(lengths) - 1
    at_limit = np.zeros_like(terminals)
    at_limit[last] = lengths == world.max_episode_steps
    terminals, timeouts, details = true_ends(terminals, timeouts, at_limit)
    details |= probable_limit(terminals, timeouts)
    warn_of_limit(path, details)
    cut = last[~(terminals | timeouts)[last]]
    if len(cut):
        details["episodes_without_end"] = len(cut)
        timeouts[cut] = True
    return terminals, timeouts, details


def _transitions(
    path: Path, columns: dict[str, Any], world: World, terminals: Array, timeouts: Array
) -> Array:
    """Packed rows of an episode."""
    count = columns["rewards"].shape[0]
    packed = np.empty((count, world.layout.width), dtype=np.float32)
    into = Columns.of(packed, world.layout)
    obs = read_rows(path, columns["observations"], 0, count + 1)
    with np.errstate(over="ignore"):  # As in `hdf5.read`.
        into.obs[:], into.next_obs[:] = obs[:-1], obs[1:]
        into.action[:] = read_rows(path, columns["actions"], 0, count)
        into.reward[:] = read_rows(path, columns["rewards"], 0, count)
    into.terminated[:, 0], into.truncated[:, 0] = terminals, timeouts
    return packed


def _metadata(path: Path) -> tuple[str, float | None, float | None]:
    """Id and returns that score 0 and 100; D4RL's own must not be used for Minari's data."""
    file = path.parent / "metadata.json"
    refuse_other_than_file(file)
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        dataset_id, *scores = (
            values["dataset_id"],
            values.get("ref_min_score"),
            values.get("ref_max_score"),
        )
        known = all(x is None or _is_number(x) for x in scores)
        if not isinstance(dataset_id, str) or not known or scores[0] == scores[1] is not None:
            raise ValueError
        return dataset_id, *scores
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise UserError(
            f"{file} is missing or damaged; it needs the text dataset_id, and numbers that differ if it has ref_min_score "
            "and ref_max_score, so download the data set again"
        ) from None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _score(low: float | None, high: float | None) -> Callable[[float], float | None]:
    if low is None or high is None:
        return lambda mean_return: None
    return lambda mean_return: 100 * (mean_return - low) / (high - low)
