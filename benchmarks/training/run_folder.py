"""The folder of a run: all results of one learner, one task and one seed.

    config.json     every setting, seed, versions, git commit, provenance of the data
    metrics.jsonl   one line per log step; equal, byte for byte, for equal runs
    timing.jsonl    seconds and updates per second, which are not
    measures.npz    every measure of every evaluation episode or example, with update and episode seed
    callbacks.jsonl numbers that callbacks returned, if there are any
    loggers.json    where the same curves go, such as TensorBoard (`tensorboard/`)
    checkpoint/     the last checkpoint
    snapshots/      permanent snapshots of the learner, if requested

A run is complete once its last update has been evaluated and saved, or the update at which a callback stopped it. Each
checkpoint holds the hashes of all other files that a resume reads, and config.json its own, so a changed file is noticed.

Means, scores and intervals are derived from these and never stored.
"""

import hashlib
import io
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rlbench.benchmarks.training.formats import (
    FORMAT,
    HASHED,
    is_whole,
    update_of_line,
    update_of_name,
    upgraded,
    upgraded_evaluations,
)
from rlbench.benchmarks.zoo import located, no_run
from rlbench.errors import UserError
from rlbench.files import (
    Edited,
    explaining_os_errors,
    file_hash,
    only_one,
    sync_file,
    with_hash,
    without_hash,
    write_atomically,
)

if TYPE_CHECKING:  # A table of finished runs is printed without PyTorch.
    import torch


class RunFolder:
    """Reads and writes one run folder."""

    def __init__(self, path: Path) -> None:
        """Reads or writes the folder `path`, which may be `zoo:NAME`; nothing is created yet."""
        self.path = located(path)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Locks out other processes while the run is being written."""
        refusal = f"{self.path} is in use by a running process; wait for it or give another --out"
        with only_one(self.path / ".lock", refusal):
            with explaining_os_errors(self.path):
                self._remove_rests()
            yield

    def _remove_rests(self) -> None:
        """Removes temporary files and halves of checkpoints that a kill left behind."""
        for file in self.path.glob("**/.*.part"):
            file.unlink(missing_ok=True)
        for tensors in self.path.glob("*/update-*.safetensors"):
            if not tensors.with_suffix(".json").exists():
                tensors.unlink(missing_ok=True)

    def refuse_other_run(self) -> None:
        """Refuses a folder that already contains a run."""
        if (self.path / "config.json").exists():
            raise UserError(
                f"{self.path} already contains a run; continue it with `rlbench run --resume "
                f"{self.path}` or give another --out"
            )

    def start(self, config: Mapping[str, Any]) -> None:
        """Writes config.json of a new run.

        Raises:
            UserError: The folder already contains a run.
        """
        self.refuse_other_run()
        self._write_config({"format": FORMAT, **config})

    def config(self) -> dict[str, Any]:
        """The contents of config.json.

        Raises:
            UserError: There is none, it is damaged, or another version wrote it.
        """
        file = self.path / "config.json"
        try:
            written: dict[str, Any] = json.loads(file.read_bytes())
            known = written["format"] in range(1, FORMAT + 1)
            config = upgraded(without_hash(written)) if known else {}
            if known and not (
                is_whole(config) and (written["format"] < HASHED or "sha256" in written)
            ):
                raise ValueError
        except (FileNotFoundError, NotADirectoryError):
            raise no_run(self.path) from None
        except Edited:
            raise UserError(
                f"{file} was changed after it was written, so it no longer describes the run; undo the "
                "change, or start a new run with the settings that you want"
            ) from None
        except (ValueError, KeyError, TypeError, AttributeError):
            raise UserError(f"{file} is damaged; restore it from a copy") from None
        if not known:
            raise UserError(
                f"{file} has format {written['format']}, but this version reads 1 to {FORMAT}; "
                "install the version of rlbench that wrote it"
            )
        return config

    def lacks_hashes(self) -> bool:
        """Whether an earlier version began the run, so that not every change to its files is noticed."""
        return "sha256" not in json.loads((self.path / "config.json").read_bytes())

    def upgrade(self) -> None:
        """Rewrites a folder of format 1 in the present format; a kill in between leaves it readable.

        The config.json of format 2 stays as it is, because the checkpoints hold its hash.
        """
        config = self.config()
        old = self.path / "returns.npz"
        if old.exists():
            self._write_evaluations(self.evaluations())
        if json.loads((self.path / "config.json").read_bytes())["format"] == 1:
            self._write_config(config)
        old.unlink(missing_ok=True)

    def _refuse_removed(self) -> None:
        """Raises a UserError if the folder was removed or renamed since the run began: writing would make a part of it again."""
        if not (self.path / "config.json").exists():
            raise UserError(
                f"{self.path} was removed or renamed while the run was writing to it, so the run cannot go on; resume it "
                "from where it is now, or start it again"
            )

    def complete(self) -> bool:
        """Whether the last update of the run has been evaluated and saved; see `stopped`."""
        return self.reached(int(self.config()["run"]["updates"])) or self.stopped() is not None

    def reached(self, update: int) -> bool:
        """Whether an update of the run has been evaluated and saved, perhaps with later ones."""
        # Looked up by name, because the module of checkpoints loads PyTorch.
        files = self._checkpoint(0).parent.glob("update-*.json")
        saved = any((update_of_name(file.with_suffix("")) or 0) >= update for file in files)
        return saved and update in self.evaluations()["update"]

    def stopped(self) -> tuple[int, str] | None:
        """The update after which a callback ended the run, and the reason; None if none did."""
        state = self._last_state()
        return (int(state["update"]), str(state["stopped"])) if "stopped" in state else None

    def log(
        self, update: int, metrics: Mapping[str, float], rates: Mapping[str, float], seconds: float,
        env_steps: int | None = None,
    ) -> None:  # fmt: skip
        """Adds a line to metrics.jsonl and timing.jsonl.

        Args:
            update: Updates so far.
            metrics: Metrics of the last update.
            rates: Speeds, such as `updates_per_second`, without the time of evaluations.
            seconds: Seconds that the run took so far, including evaluations.
            env_steps: Environment steps so far; None for a learner that takes none.
        """
        self._refuse_removed()
        at = {"update": update} | ({} if env_steps is None else {"env_steps": env_steps})
        self._append("metrics.jsonl", {**at, **metrics})
        self._append("timing.jsonl", {**at, **rates, "seconds": seconds})

    def log_callbacks(self, update: int, values: Mapping[str, float]) -> None:
        """Adds a line to callbacks.jsonl."""
        self._refuse_removed()
        self._append("callbacks.jsonl", {"update": update, **values})

    def logged(self, name: str) -> Iterator[dict[str, Any]]:
        """The lines of a .jsonl file, in order, each with its `update`; without a line that a crash truncated."""
        for line in self._lines(name):
            if update_of_line(line) < float("inf"):
                yield json.loads(line)

    def add_evaluation(self, update: int, columns: Mapping[str, NDArray[Any]]) -> None:
        """Adds one evaluation to measures.npz.

        Args:
            update: Updates so far.
            columns: Every measure of each episode or example, [E, ...] each.

        Raises:
            UserError: Its columns differ from the columns of the previous evaluation.
        """
        self._refuse_removed()
        old = self.evaluations()
        before = {name: column.shape[1:] for name, column in old.items() if name != "update"}
        now = {name: column.shape for name, column in columns.items()}
        if len(old["update"]) and now != before:
            changed = sorted(name for name, _ in now.items() ^ before.items())
            raise UserError(
                f"the evaluation of update {update:,} has other columns than the previous one, or columns of "
                f"another shape ({', '.join(dict.fromkeys(changed))}); let the learner return the same measures "
                "each time"
            )
        new = {name: np.stack([*old.get(name, ()), column]) for name, column in columns.items()}
        self._write_evaluations({"update": np.append(old["update"], update), **new})

    def evaluations(self) -> dict[str, NDArray[Any]]:
        """All evaluations: `update` int64 [K] and every measure, [K, E, ...].

        Episodes also have their `seed`, [K, E]. Columns of episodes or examples that do not score
        the run begin with `held_out/` (the task's held-out levels) or `train/` (training examples).
        """
        file = self.path / "measures.npz"
        if not file.exists():
            file = self.path / "returns.npz"
        if not file.exists():
            return {"update": np.empty(0, np.int64)}
        try:
            with np.load(file, allow_pickle=False) as saved:
                columns = upgraded_evaluations(saved)
            if {len(column) for column in columns.values()} != {len(columns["update"])}:
                raise ValueError("its columns differ in length")
            return columns
        except Exception as error:  # Damaged files raise many kinds of exceptions.
            raise UserError(f"{file} is damaged; restore it from a copy") from error

    def last_evaluation(self) -> dict[str, NDArray[Any]]:
        """Every measure of the last evaluation, [E, ...] each."""
        columns = self.evaluations()
        return {name: column[-1] for name, column in columns.items() if name != "update"}

    def save_checkpoint(self, update: int, state: Mapping[str, Any], keep: int = 1) -> None:
        """Saves a checkpoint; once it is complete, removes all but the last `keep`."""
        from rlbench import checkpoint

        self._refuse_removed()
        files = self._hashes(update)
        if (self.path / "metrics.jsonl").exists():  # Its hash must not outlive its lines.
            sync_file(self.path / "metrics.jsonl")
        checkpoint.save(self._checkpoint(update), {"update": update, "files": files, **state})
        self.remove_checkpoints(keep)

    def remove_checkpoints(self, keep: int = 1) -> None:
        """Removes all checkpoints but the last `keep`."""
        from rlbench import checkpoint

        for old in self.checkpoints()[:-keep]:
            checkpoint.remove(self._checkpoint(old))

    def checkpoints(self) -> list[int]:
        """Updates of the existing checkpoints, in order."""
        from rlbench import checkpoint

        found = checkpoint.all_in(self._checkpoint(0).parent)
        return [update for path in found if (update := update_of_name(path)) is not None]

    def load_checkpoint(
        self, device: "torch.device | str" = "cpu", update: int | None = None
    ) -> dict[str, Any] | None:
        """The checkpoint of an update or the last one; None before the first."""
        from rlbench import checkpoint

        there = self.checkpoints()
        if not there:
            return None
        state = checkpoint.load(self._checkpoint(there[-1] if update is None else update), device)
        if "agent" in state:  # Format 1.
            state["learner"] = state.pop("agent")
        return state

    def changed_files(self, state: Mapping[str, Any]) -> list[str]:
        """Names of files that a resume reads and that were changed since a checkpoint was saved."""
        now = self._hashes(int(state["update"]))
        return [name for name, before in state.get("files", {}).items() if now[name] != before]

    def refuse_changed_files(self) -> None:
        """Refuses logs and evaluations that were changed after the last checkpoint, before they are shown as results.

        Raises:
            UserError: There is a changed file, or the checkpoint is damaged.
        """
        if not (state := self._last_state()):
            return
        for name in self.changed_files(state):
            raise UserError(
                f"{self.path / name} was changed after the checkpoint of update {state['update']:,} was saved; restore it from "
                "a copy, or move the folder away and run that seed again"
            )

    def _last_state(self) -> dict[str, Any]:
        """The plain values of the last checkpoint; empty before the first.

        Raises:
            UserError: It is damaged.
        """
        for file in sorted(self._checkpoint(0).parent.glob("update-*.json"))[-1:]:
            try:  # Without the module of checkpoints, which loads PyTorch.
                state = json.loads(file.read_bytes())["state"]
                return {**state, "update": int(state["update"])}
            except (ValueError, KeyError, TypeError):
                raise UserError(f"{file} is damaged; restore it from a copy") from None
        return {}

    def _checkpoint(self, update: int) -> Path:
        return self.path / "checkpoint" / f"update-{update:09d}"

    def save_snapshot(self, update: int, learner: Mapping[str, Any]) -> None:
        """Saves a permanent snapshot of the learner's state."""
        from rlbench import checkpoint

        self._refuse_removed()
        checkpoint.save(self.path / "snapshots" / f"update-{update:09d}", {"learner": learner})

    def snapshots(
        self, device: "torch.device | str" = "cpu"
    ) -> "Iterator[tuple[int, dict[str, Any]]]":
        """Update and learner's state of each permanent snapshot, in order."""
        from rlbench import checkpoint

        for path in checkpoint.all_in(self.path / "snapshots"):
            if (update := update_of_name(path)) is not None:
                yield update, checkpoint.load(path, device)["learner"]

    def seconds(self) -> float:
        """Seconds that the run took up to its last log line."""
        for line in reversed(self._lines("timing.jsonl")):
            with suppress(
                ValueError, KeyError, TypeError
            ):  # A crash or a change may have damaged a line.
                return float(json.loads(line)["seconds"])
        return 0.0

    def rewind(self, update: int) -> None:
        """Removes everything that was written after the checkpoint of `update`."""
        for name in ("metrics.jsonl", "timing.jsonl", "callbacks.jsonl"):
            if lines := self._lines(name):
                kept = [line for line in lines if update_of_line(line) <= update]
                write_atomically(self.path / name, b"".join(kept))
        old = self.evaluations()
        keep = old["update"] <= update
        if not keep.all():
            self._write_evaluations({name: column[keep] for name, column in old.items()})

    def _hashes(self, update: int) -> dict[str, str]:
        """SHA-256 of each file that a resume at an update reads, except the checkpoint itself."""
        measures = hashlib.sha256()
        columns = self.evaluations()
        for name in sorted(columns):
            kept = np.ascontiguousarray(columns[name][columns["update"] <= update])
            measures.update(f"{name} {kept.dtype} {kept.shape}".encode() + kept.tobytes())
        log = b"".join(
            line for line in self._lines("metrics.jsonl") if update_of_line(line) <= update
        )
        return {
            "config.json": file_hash(self.path / "config.json"),
            "metrics.jsonl": hashlib.sha256(log).hexdigest(),
            "measures.npz": measures.hexdigest(),
        }

    def _lines(self, name: str) -> list[bytes]:
        file = self.path / name
        return file.read_bytes().splitlines(keepends=True) if file.exists() else []

    def _append(self, name: str, line: Mapping[str, Any]) -> None:
        with explaining_os_errors(self.path / name), (self.path / name).open("ab") as file:
            file.write(json.dumps(line).encode() + b"\n")

    def _write_config(self, config: Mapping[str, Any]) -> None:
        write_atomically(
            self.path / "config.json", (json.dumps(with_hash(config), indent=2) + "\n").encode()
        )

    def _write_evaluations(self, columns: Mapping[str, NDArray[Any]]) -> None:
        buffer = io.BytesIO()
        np.savez(buffer, **columns)  # type: ignore[arg-type]
        write_atomically(self.path / "measures.npz", buffer.getvalue())


def folder_name(words: str) -> str:
    """Converts words to the name of a folder.

    >>> folder_name("bear-my_world:make-s0")
    'bear-my_world-make-s0'
    """
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in words)
