"""All loggers of one run. A failing one is reported once, and the run continues without it."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rlbench.benchmarks.loggers import LOGGERS
from rlbench.benchmarks.loggers._base import LoggedRun, Logger, required
from rlbench.errors import FAILURES, UserError
from rlbench.files import with_hash, without_hash, write_atomically
from rlbench.seeding import keeping_global_generators

FILE = "loggers.json"
"""File in the run folder with the names of the loggers and what each keeps for a resume."""


def load(names: Sequence[str]) -> dict[str, type[Logger]]:
    """The classes of loggers by name.

    Raises:
        UserError: A name is given twice, there is no such logger, or its package is missing.
    """
    found = {}
    for name in names:
        kind = LOGGERS.load(name)
        if not (isinstance(kind, type) and issubclass(kind, Logger)):
            raise UserError(
                f"{name} is {kind}, expected a subclass of rlbench.benchmarks.loggers.Logger; correct --loggers"
            )
        if name in found:
            raise UserError(f"the logger {name} is given twice; give it once")
        if kind.package:
            required(kind.package)
        found[name] = kind
    return found


def is_custom(name: str) -> bool:
    """Whether a logger is custom code: neither part of the suite nor registered by an installed package."""
    return ":" in name and name not in LOGGERS


class Loggers:
    """Opens, feeds and closes the loggers of a run; leaving its context closes them."""

    def __init__(self, names: Sequence[str], say: Callable[[str], object]) -> None:
        """Imports the loggers; `say` prints a line for the user."""
        self._kinds, self._say = load(names), say
        self._open: dict[str, Logger] = {}

    def open(self, folder: Path, config: Mapping[str, Any], first: int = 0) -> None:
        """Opens all loggers that are not open yet, and notes in the folder what they keep.

        Args:
            folder: Folder of the run.
            config: Contents of its config.json.
            first: The update after which the run continues.

        Raises:
            UserError: A logger of a new run cannot be opened; in a run that continues, this is reported.
        """
        new = not (folder / "config.json").exists()
        before = {} if new else saved(folder) or {}
        kept = {name: before.get(name, {}) for name in self._kinds}
        for name, kind in self._kinds.items():
            if name in self._open:
                continue
            run = LoggedRun(folder=folder, config=config, first=first, kept=kept[name])
            with self._reporting(name, "opened", fatal=new):
                self._open[name] = kind(run)
                kept[name] = dict(self._open[name].kept)
        write_atomically(
            folder / FILE, (json.dumps(with_hash({"loggers": kept}), indent=2) + "\n").encode()
        )

    def add(self, update: int, values: Mapping[str, float], env_steps: int | None = None) -> None:
        """Adds points to all open loggers; see `Logger.add`."""
        for name, logger in list(self._open.items()):
            with self._reporting(name, "written to"):
                logger.add(update, values, env_steps)

    def __enter__(self) -> Self:
        """Opens nothing yet."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Closes the loggers; the run is complete if there was no exception."""
        for name, logger in list(self._open.items()):
            with self._reporting(name, "closed"):
                logger.close(complete=kind is None)
        self._open.clear()

    @contextmanager
    def _reporting(self, name: str, verb: str, *, fatal: bool = False) -> Iterator[None]:
        """Reports an error of a logger and drops it; also keeps its random draws from the run."""
        try:
            with keeping_global_generators():
                yield
        except FAILURES as error:
            self._open.pop(name, None)
            text = (
                str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
            )
            what = f"the logger {name} cannot be {verb} ({' '.join(text.split())})"
            if fatal:
                raise UserError(f"{what}; correct this, or leave it out of --loggers") from error
            self._say(
                f"note: {what}, so the run continues without it; all other files of the run are complete"
            )


def saved(folder: Path) -> dict[str, dict[str, Any]] | None:
    """The loggers of a run folder by name, with what they keep; None if an earlier version began the run.

    Raises:
        UserError: The file was changed.
    """
    file = folder / FILE
    try:
        return dict(without_hash(json.loads(file.read_bytes()))["loggers"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        raise UserError(
            f"{file} was changed after it was written; restore it, or remove it to continue with the default logger"
        ) from None
