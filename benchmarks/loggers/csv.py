"""All curves in one CSV file: a row for each point."""

import csv
from collections.abc import Mapping

from rlbench.benchmarks.loggers._base import LoggedRun, Logger

FILE = "curves.csv"
COLUMNS = "curve", "update", "env_steps", "value"


class CSV(Logger):
    """`curves.csv` in the run folder, which a resume writes anew."""

    def __init__(self, run: LoggedRun) -> None:
        """Begins the file with its heading."""
        super().__init__(run)
        self._path = run.folder / FILE
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._write(COLUMNS, mode="w")

    def add(self, update: int, values: Mapping[str, float], env_steps: int | None = None) -> None:
        """Adds a row for each value."""
        steps = "" if env_steps is None else env_steps
        self._write(*((name, update, steps, value) for name, value in values.items()))

    def _write(self, *rows: tuple[object, ...], mode: str = "a") -> None:
        with self._path.open(mode, newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(rows)
