"""The folder of a run: everything that one agent, one task and one seed gave.

    config.json     every setting, seed, versions, git commit, provenance of the data
    metrics.jsonl   one line per log step; equal, byte for byte, for equal runs
    timing.jsonl    seconds and updates per second, which are not
    returns.npz     every return of every evaluation episode, with update and episode seed
    tensorboard/    the same curves for TensorBoard
    checkpoint/     the last checkpoint
    snapshots/      agents that were kept for good, where asked for

Means, scores and intervals are derived from these and never stored.
"""

import io
import json
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rlbench.errors import UserError
from rlbench.files import explaining_os_errors, only_one, write_atomically

if TYPE_CHECKING:  # A table of finished runs is printed without PyTorch and TensorBoard.
    import torch

    from rlbench.benchmarks.training.tensorboard_log import TensorBoardLog

FORMAT = 1


class RunFolder:
    """Reads and writes one run folder."""

    def __init__(self, path: Path) -> None:
        """Looks at `path`; nothing is made yet."""
        self.path = path
        self._tensorboard: TensorBoardLog | None = None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other processes out while the run is written to."""
        refusal = f"{self.path} is in use by a running process; wait for it or give another --out"
        with only_one(self.path / ".lock", refusal):
            yield
            if self._tensorboard is not None:
                self._tensorboard.close()

    def start(self, config: Mapping[str, Any]) -> None:
        """Writes config.json of a new run.

        Raises:
            UserError: The folder holds a run already.
        """
        if (self.path / "config.json").exists():
            raise UserError(
                f"{self.path} already holds a run; continue it with `rlbench run --resume "
                f"{self.path}` or give another --out"
            )
        text = json.dumps({"format": FORMAT, **config}, indent=2) + "\n"
        write_atomically(self.path / "config.json", text.encode())

    def config(self) -> dict[str, Any]:
        """What config.json holds.

        Raises:
            UserError: There is none, it is damaged, or another version wrote it.
        """
        file = self.path / "config.json"
        try:
            config: dict[str, Any] = json.loads(file.read_bytes())
            written = config["format"]
            if written == FORMAT and not is_whole(config):
                raise ValueError
        except (FileNotFoundError, NotADirectoryError):
            raise UserError(f"{self.path} holds no run; give the folder of a run") from None
        except (ValueError, KeyError, TypeError, AttributeError):
            raise UserError(f"{file} is damaged; restore it from a copy") from None
        if written != FORMAT:
            raise UserError(
                f"{file} has format {written}, but this version reads {FORMAT}; "
                "install the version of rlbench that wrote it"
            )
        return config

    def log(self, update: int, metrics: Mapping[str, float], rate: float, seconds: float) -> None:
        """Adds a line to metrics.jsonl and timing.jsonl, and the curves.

        Args:
            update: Updates so far.
            metrics: What the agent told of the last of them.
            rate: Updates per second, without the time of evaluations.
            seconds: Seconds that the run took so far, with them.
        """
        timing = {"update": update, "updates_per_second": rate, "seconds": seconds}
        self._append("metrics.jsonl", {"update": update, **metrics})
        self._append("timing.jsonl", timing)
        curves = {f"train/{name}": value for name, value in metrics.items()}
        self._curves(update, {**curves, "speed/updates_per_second": rate})

    def add_returns(
        self,
        update: int,
        seeds: list[int],
        returns: NDArray[Any],
        score: float | None,
        held_out: NDArray[Any] | None = None,
    ) -> None:
        """Adds one evaluation to returns.npz: seeds and undiscounted returns of E episodes.

        `held_out` are those of as many episodes with the same seeds on the task's held-out levels.
        """
        old = self.returns()
        new = {
            "update": np.append(old["update"], update),
            "seed": np.vstack([*old["seed"], np.asarray(seeds)]),
            "return": np.vstack([*old["return"], returns]),
        }
        curves = {"eval/return": float(returns.mean())}
        if held_out is not None:
            new["held_out"] = np.vstack([*old.get("held_out", ()), held_out])
            curves["eval/held_out_return"] = float(held_out.mean())
        self._write_returns(new)
        self._curves(update, curves if score is None else {**curves, "eval/score": score})

    def returns(self) -> dict[str, NDArray[Any]]:
        """All evaluations: update int64 [K], seed int64 [K, E] and return float64 [K, E].

        Also `held_out` float64 [K, E], where the task has held-out levels.
        """
        file = self.path / "returns.npz"
        if not file.exists():
            empty = np.empty((0, 0))
            return {"update": np.empty(0, np.int64), "seed": empty, "return": empty}
        try:
            with np.load(file, allow_pickle=False) as saved:
                names = [x for x in ("update", "seed", "return", "held_out") if x in saved]
                return {name: saved[name] for name in names}
        except (ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
            raise UserError(f"{file} is damaged ({error}); restore it from a copy") from None

    def save_checkpoint(self, update: int, state: Mapping[str, Any], keep: int = 1) -> None:
        """Saves one and removes all but the last `keep`; until it is complete the old ones stay."""
        from rlbench import checkpoint

        checkpoint.save(self._checkpoint(update), {"update": update, **state})
        for old in self.checkpoints()[:-keep]:
            checkpoint.remove(self._checkpoint(old))

    def checkpoints(self) -> list[int]:
        """Updates of the checkpoints there are, in order."""
        from rlbench import checkpoint

        return [
            int(path.name.rpartition("-")[2])
            for path in checkpoint.all_in(self._checkpoint(0).parent)
        ]

    def load_checkpoint(
        self, device: "torch.device | str" = "cpu", update: int | None = None
    ) -> dict[str, Any] | None:
        """The checkpoint of an update or the last one; None before the first."""
        from rlbench import checkpoint

        there = self.checkpoints()
        if not there:
            return None
        return checkpoint.load(self._checkpoint(there[-1] if update is None else update), device)

    def _checkpoint(self, update: int) -> Path:
        return self.path / "checkpoint" / f"update-{update:09d}"

    def save_snapshot(self, update: int, agent: Mapping[str, Any]) -> None:
        """Keeps the agent's state for good."""
        from rlbench import checkpoint

        checkpoint.save(self.path / "snapshots" / f"update-{update:09d}", {"agent": agent})

    def seconds(self) -> float:
        """Seconds that the run took up to its last log line."""
        file = self.path / "timing.jsonl"
        lines = file.read_bytes().splitlines() if file.exists() else []
        return float(json.loads(lines[-1])["seconds"]) if lines else 0.0

    def rewind(self, update: int) -> None:
        """Forgets what was written after the checkpoint of `update`, as if it never happened."""
        for name in ("metrics.jsonl", "timing.jsonl"):
            file = self.path / name
            if file.exists():
                lines = file.read_bytes().splitlines(keepends=True)
                kept = [line for line in lines if _update_of(line) <= update]
                write_atomically(file, b"".join(kept))
        old = self.returns()
        keep = old["update"] <= update
        if not keep.all():
            self._write_returns({name: column[keep] for name, column in old.items()})

    def _append(self, name: str, line: Mapping[str, Any]) -> None:
        with explaining_os_errors(self.path / name), (self.path / name).open("a") as file:
            file.write(json.dumps(line) + "\n")

    def _write_returns(self, columns: Mapping[str, NDArray[Any]]) -> None:
        buffer = io.BytesIO()
        np.savez(buffer, **columns)  # type: ignore[arg-type]
        write_atomically(self.path / "returns.npz", buffer.getvalue())

    def _curves(self, update: int, values: Mapping[str, float]) -> None:
        with explaining_os_errors(self.path / "tensorboard"):
            if self._tensorboard is None:
                from rlbench.benchmarks.training.tensorboard_log import TensorBoardLog

                self._tensorboard = TensorBoardLog(self.path / "tensorboard", first_step=update)
            self._tensorboard.add(update, values)


def is_whole(config: Mapping[str, Any]) -> bool:
    """Whether a config has what every reader of runs needs; older runs lack some settings."""
    agent, run, data = config["agent"], config["run"], config["data"]
    scale = config["reference_returns"]
    return (
        isinstance(agent["name"], str)
        and isinstance(agent["settings"], dict)
        and isinstance(run["env"], str)
        and all(isinstance(run[name], int) for name in ("updates", "seed"))
        and (data is None or {"kind", "name", "source", "details"} <= data.keys())
        and (scale is None or len(list(map(float, scale))) == 2)
    )


def folder_name(words: str) -> str:
    """Words as the name of a folder.

    >>> folder_name("bear-my_world:make-s0")
    'bear-my_world-make-s0'
    """
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in words)


def _update_of(line: bytes) -> float:
    """Update of a line in a .jsonl file; infinite where a crash tore the line."""
    try:
        return int(json.loads(line)["update"])
    except (ValueError, KeyError, TypeError):
        return float("inf")
