"""Curves for TensorBoard, written immediately, so that a full disk raises an error at once.

The axis of a curve is the number of updates. The curves of an agent that gathers its own experience are also in a second
event file, `env_steps/`, whose axis is the number of environment steps; there `eval/return` is `eval_by_env_steps/return`.
"""

import time
from collections.abc import Mapping
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from rlbench.benchmarks.loggers._base import LoggedRun, Logger, by_env_steps


class TensorBoard(Logger):
    """The event files of one run, in the folder `tensorboard` of the run folder."""

    def __init__(self, run: LoggedRun) -> None:
        """Creates nothing yet."""
        super().__init__(run)
        self._folder, self._first = run.folder / "tensorboard", run.first
        self._files: dict[str, _EventFile] = {}

    def add(self, update: int, values: Mapping[str, float], env_steps: int | None = None) -> None:
        """Adds one point to each curve; also by environment steps if they are given."""
        if update <= self._first:  # It is in an older file.
            return
        self._file("", update).add(update, values)
        if env_steps is not None:
            self._file("env_steps", env_steps).add(env_steps, by_env_steps(values))

    def close(self, *, complete: bool) -> None:
        """Closes the files."""
        for file in self._files.values():
            file.close()

    def _file(self, name: str, first_step: int) -> "_EventFile":
        if name not in self._files:
            self._files[name] = _EventFile(self._folder / name, first_step)
        return self._files[name]


class _EventFile:
    """One event file; each axis needs its own, because a resume makes TensorBoard hide older points by their place on the axis."""

    def __init__(self, folder: Path, first_step: int) -> None:
        """Opens a new file; TensorBoard then hides older points from `first_step` on."""
        folder.mkdir(parents=True, exist_ok=True)
        self._file = (folder / f"events.out.tfevents.{time.time_ns()}").open("wb")
        self._records = RecordWriter(self._file)
        self._write(Event(file_version="brain.Event:2"))
        start = SessionLog(status=SessionLog.START)
        self._write(Event(step=first_step, session_log=start))

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Adds one point to each named curve."""
        points = [Summary.Value(tag=name, simple_value=x) for name, x in values.items()]
        self._write(Event(step=step, summary=Summary(value=points)))

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def _write(self, event: Event) -> None:
        event.wall_time = time.time()
        self._records.write(event.SerializeToString())
        self._file.flush()
