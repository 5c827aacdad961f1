"""Data sets: packed transitions and their provenance.

Each data set has its own folder, written once by a reader or by the generator:

    rows.npy      packed rows in the order of recording, float32 [N, width] (`storage.Layout`)
    frames.bin    observations, if they are images (`frames`)
    returns.npy   undiscounted return of each complete episode, float64 [E]
    bounds.npy    episode e is rows[bounds[e]:bounds[e + 1]], int64 [E + 1], or one more if the
                  recording was cut within an episode
    meta.json     shapes, statistics of the observations, provenance
    stamp.json    in the cache only: hashes of the other files (`stamp`)
"""

import functools
import hashlib
import json
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rlbench.errors import UserError
from rlbench.experience import Trajectories
from rlbench.offline_data.frames import FrameWriter, open_frames
from rlbench.storage import Layout, TransitionTable

Array = NDArray[Any]
Kind = Literal["generated", "d4rl", "minari", "file", "shipped", "custom"]

ROWS, RETURNS, BOUNDS, META = "rows.npy", "returns.npy", "bounds.npy", "meta.json"


@dataclass(frozen=True)
class Provenance:
    """Origin of data, in plain values; stored in every run folder."""

    kind: Kind
    """generated (by our policies or a source of examples), d4rl (a file that D4RL published), minari, file,
    shipped (with another package) or custom (a source of the user's own)."""
    name: str
    """Name of the data set or of the file."""
    source: str
    """Policies, URL or data-set id behind it."""
    sha256: str = ""
    """Hash of the packed rows."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """Counts, mean return and score of the behaviour, versions, seed, repairs."""

    def to_json(self) -> dict[str, Any]:
        """Plain values for a JSON file."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Provenance":
        """The inverse of `to_json`."""
        return cls(**values)


class DataSet(TransitionTable):
    """Offline transitions in a memory map: rows that are never sampled are never read."""

    def __init__(self, folder: Path) -> None:
        """Opens a folder written by a `Recording`.

        Raises:
            OSError, ValueError, KeyError: Something in the folder is missing or damaged.
        """
        meta = json.loads((folder / META).read_text(encoding="utf-8"))
        images = bool(meta.get("images", False))
        layout = Layout(tuple(meta["obs_shape"]), tuple(meta["action_shape"]), images)
        # Copy-on-write, because PyTorch warns about read-only memory; it is never written to.
        rows = np.load(folder / ROWS, mmap_mode="c")
        if rows.dtype != np.float32 or len(rows) != meta["provenance"]["details"]["transitions"]:
            raise ValueError(f"{folder / ROWS} holds {rows.shape} of {rows.dtype}")
        frames = open_frames(folder, layout.obs_shape) if images else None
        super().__init__(torch.from_numpy(rows), layout, frames)
        self.provenance = Provenance.from_json(meta["provenance"])
        self.episode_returns: NDArray[np.float64] = np.load(folder / RETURNS)
        """Undiscounted returns of the complete episodes of the raw recording, [E]."""
        self.episode_bounds: NDArray[np.int64] = np.load(folder / BOUNDS)
        """Episode e is rows[bounds[e]:bounds[e + 1]]; a cut last episode has bounds too."""
        self.obs_mean = torch.tensor(meta["obs_mean"], dtype=torch.float32)
        """Mean of the observations, [D]; [0] for images."""
        self.obs_std = torch.tensor(meta["obs_std"], dtype=torch.float32)
        """Population standard deviation of the observations, [D]; [0] for images."""

    @property
    def return_range(self) -> tuple[float, float] | None:
        """Smallest and largest return of the complete episodes; None if there are none."""
        returns = self.episode_returns
        return (float(returns.min()), float(returns.max())) if len(returns) else None

    def starts(self, size: int, length: int, generator: torch.Generator) -> Tensor:
        """First positions of `size` stretches of `length` rows, uniform with replacement, [size].

        Raises:
            UserError: The data set is shorter.
        """
        if length > len(self):
            raise UserError(
                f"sequence_length is {length}, but the data set has {len(self)} transitions; give a "
                "smaller length or more data"
            )
        last, device = len(self) - length, self.rows.device
        return torch.randint(last + 1, (size,), generator=generator, device=device)

    def stretches(self, starts: Tensor, length: int) -> Trajectories:
        """Stretches of `length` rows in order, [..., T, B, ...], from positions [..., B].

        An episode that ends within a stretch without a flag counts as truncated: the row with its
        flag may be missing from the file.
        """
        index = starts[..., None, :] + torch.arange(length, device=starts.device)[:, None]
        rows = self.take(index)
        cut = torch.maximum(rows.truncated, self._last_rows[index])
        return Trajectories(
            obs=rows.obs,
            action=rows.action,
            reward=rows.reward,
            terminated=rows.terminated,
            truncated=cut * (1 - rows.terminated),
            final_obs=rows.next_obs,
            time=self._in_episodes[0][index],
            return_to_go=self._in_episodes[1][index],
        )

    @functools.cached_property
    def _last_rows(self) -> Tensor:
        """1.0 if a row is the last of its episode, [N]; computed once for all samples."""
        last = torch.zeros(len(self), device=self.rows.device)
        last[torch.from_numpy(self.episode_bounds[1:] - 1).to(last.device)] = 1.0
        return last

    @functools.cached_property
    def _in_episodes(self) -> tuple[Tensor, Tensor]:
        """For each row the number of steps of its episode before it, int64 [N], and its return-to-go, [N]; computed once.

        If the recording stops within its last episode, returns-to-go there lack the rewards that were not recorded.
        """
        bounds = torch.from_numpy(self.episode_bounds).to(self.rows.device)
        row = torch.arange(len(self), device=bounds.device)
        episode = torch.searchsorted(bounds, row, right=True) - 1
        reward = self.layout.stored.unpack(self.rows).reward.double()
        before = torch.cat([reward.new_zeros(1), reward.cumsum(0)])
        to_go = before[bounds[episode + 1]] - before[:-1]
        return row - bounds[episode], to_go.float()


class Columns(NamedTuple):
    """Views of the columns of packed rows, each [..., width]."""

    obs: Array
    action: Array
    reward: Array
    terminated: Array
    truncated: Array
    next_obs: Array

    @classmethod
    def of(cls, rows: Array, layout: Layout) -> "Columns":
        """Views of rows [..., layout.width]; writing to them writes to the rows."""
        return cls(*np.split(rows, np.cumsum(layout.widths)[:-1], axis=-1))


class Recording:
    """Writes the folder of a data set block by block, in constant memory.

    Uses plain writes, not a memory map: on a full disk a map kills the process, a write raises.
    """

    def __init__(self, folder: Path, layout: Layout, size: int) -> None:
        """Begins `rows.npy` for `size` rows, and `frames.bin` if observations are images."""
        self._folder, self._layout, self._size = folder, layout, size
        self._count = 0
        self._hash = hashlib.sha256()
        # Hashing takes as long as everything else, and other Python threads can run meanwhile.
        self._hasher = ThreadPoolExecutor(max_workers=1)
        self._hashed = self._hasher.submit(self._hash.update, b"")
        width = layout.stored.widths[0]
        self._mean, self._squares = np.zeros(width), np.zeros(width)
        self._file = open(folder / ROWS, "wb")  # noqa: SIM115 (see `close`)
        header = {"descr": "<f4", "fortran_order": False, "shape": (size, layout.stored.width)}
        np.lib.format.write_array_header_1_0(self._file, header)
        self._frames = FrameWriter(folder, size, self._hash_next) if layout.images else None

    def close(self) -> None:
        """Closes the file of the rows, finished or not."""
        self._hasher.shutdown()
        self._file.close()
        if self._frames is not None:
            self._frames.close()

    def append(self, rows: Array, obs: Array | None = None, next_obs: Array | None = None) -> None:
        """Adds the next rows, [n, width], which must not change afterwards.

        Args:
            rows: Packed rows; those of `layout.stored` if the images are given apart from them.
            obs: Images before the transitions, uint8 [n, ...].
            next_obs: Images after them.
        """
        columns = Columns.of(rows, self._layout if obs is None else self._layout.stored)
        if self._frames is not None:
            if obs is None or next_obs is None:
                obs, next_obs = (x.astype(np.uint8) for x in (columns.obs, columns.next_obs))
                before, _, _, _, _, after = self._layout.widths
                rows = rows[:, before : self._layout.width - after]
            self._frames.append(obs.reshape(len(rows), -1), next_obs.reshape(len(rows), -1))
        rows = np.ascontiguousarray(rows, dtype="<f4")
        self._hash_next(rows.data)
        self._file.write(rows.data)
        if len(rows):
            self._update_statistics(columns.obs.astype(np.float64))

    def _hash_next(self, content: bytes | memoryview) -> None:
        self._hashed.result()  # Keeps blocks from accumulating in memory.
        self._hashed = self._hasher.submit(self._hash.update, content)

    def finish(
        self,
        provenance: Provenance,
        returns: Array,
        bounds: Array,
        score: Callable[[float], float | None],
    ) -> None:
        """Writes everything except the rows.

        Args:
            provenance: Without the hash and the counts, which are added here.
            returns: Undiscounted returns of the complete episodes, [E].
            bounds: Where episodes begin and end, [E + 1] or [E + 2].
            score: Normalised score of a mean return, for the provenance.
        """
        if self._count != self._size:
            raise ValueError(f"{self._count} rows were written; {self._size} were announced")
        if self._frames is not None:
            self._frames.finish()
        self._file.flush()
        os.fsync(self._file.fileno())
        np.save(self._folder / RETURNS, np.asarray(returns, dtype=np.float64))
        np.save(self._folder / BOUNDS, np.asarray(bounds, dtype=np.int64))
        self._hashed.result()
        mean_return = float(np.mean(returns)) if len(returns) else None
        details = {
            "transitions": self._size,
            "episodes": len(returns),
            "mean_return": mean_return,
            "score": None if mean_return is None else score(mean_return),
            **provenance.details,
        }
        meta = {
            "obs_shape": self._layout.obs_shape,
            "action_shape": self._layout.action_shape,
            "images": self._layout.images,
            "obs_mean": self._mean.tolist(),
            "obs_std": np.sqrt(self._squares / max(self._size, 1)).tolist(),
            "provenance": provenance.to_json()
            | {"sha256": self._hash.hexdigest(), "details": details},
        }
        (self._folder / META).write_text(json.dumps(meta, indent=1), encoding="utf-8")

    def _update_statistics(self, obs: Array) -> None:
        """Merges a block's mean and sum of squared deviations into the running values (Chan)."""
        total = self._count + len(obs)
        if self._layout.images:
            self._count = total
            return
        mean = obs.mean(axis=0)
        shift = mean - self._mean
        self._squares += ((obs - mean) ** 2).sum(axis=0)
        self._squares += shift**2 * (self._count * len(obs) / total)
        self._mean += shift * (len(obs) / total)
        self._count = total
