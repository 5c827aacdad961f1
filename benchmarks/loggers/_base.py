"""The interface of loggers. Standard library only.

A logger receives numbers and nothing else, so it cannot affect a run, and a run does not depend on it.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

from rlbench.errors import UserError


@dataclass(frozen=True, kw_only=True)
class LoggedRun:
    """What a logger knows of a run."""

    folder: Path
    config: Mapping[str, Any]
    """The contents of config.json: learner, settings, options, data, versions."""
    first: int = 0
    """The update after which the run continues; 0 for a new run."""
    kept: Mapping[str, Any] = field(default_factory=dict)
    """What the logger kept when the run was logged before; empty for a new run."""


class Logger(ABC):
    """Curves of one run. An exception in any method is reported; the run then continues without the logger."""

    package: ClassVar[str] = ""
    """Optional package that it needs, which an extra of the same name installs; empty for none."""
    kept: Mapping[str, Any]
    """Plain values that `loggers.json` keeps for a resume, such as the id of a run on a server."""

    def __init__(self, run: LoggedRun) -> None:
        """Opens the log.

        In a resumed run, `add` is given all points up to `run.first` again, because some may be missing, and then the
        points that follow, some of which were perhaps added before the run was killed. Each point must appear once.
        """
        self.kept = {}

    @abstractmethod
    def add(self, update: int, values: Mapping[str, float], env_steps: int | None = None) -> None:
        """Adds one point to each of several curves.

        Args:
            update: Updates so far; it never decreases.
            values: Values of the curves, which are named `group/name`, such as `train/policy_loss` and `eval/return`.
            env_steps: Environment steps so far; None for a learner that takes none.
        """

    def close(self, *, complete: bool) -> None:  # noqa: B027
        """Closes the log; `complete` is whether the run is, which otherwise was stopped or failed."""


def by_env_steps(values: Mapping[str, float]) -> dict[str, float]:
    """The same values under the names of their curves over environment steps.

    >>> by_env_steps({"eval/return": 1.0})
    {'eval_by_env_steps/return': 1.0}
    """
    return {name.replace("/", "_by_env_steps/", 1): value for name, value in values.items()}


def required(package: str) -> Any:
    """An optional package, which an extra of the same name installs.

    Raises:
        UserError: It is missing.
    """
    try:
        return import_module(package)
    except ModuleNotFoundError as error:
        raise UserError(
            f"the logger {package} needs the package {error.name}; install it with pip install 'rlbench[{package}]'"
        ) from None
