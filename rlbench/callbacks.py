"""Callbacks: the user's own code that a run calls after its log lines and evaluations.

class Patience(Callback):
    def __init__(self):
        self.best, self.since = -math.inf, 0

    def on_evaluation(self, progress, learner):
        self.since = 0 if progress.values["return"] > self.best else self.since + 1
        self.best = max(self.best, progress.values["return"])
        if self.since == 3:
            progress.stop("no better return in three evaluations")
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from numpy.typing import NDArray

from rlbench.interface import Learner
from rlbench.state import capture, restore

Values = Mapping[str, float] | None
"""Numbers for the log by name, or nothing."""


@dataclass(kw_only=True)
class Progress:
    """How far a run is, and what was just logged or measured."""

    update: int
    """Updates so far."""
    updates: int
    """Updates of the whole run."""
    env_steps: int | None
    """Environment steps so far; None for a learner that takes none."""
    values: Mapping[str, float]
    """After a log line: the metrics of the update. After an evaluation: the mean of each measure, such as `return` and
    `held_out_return`, and the normalised `score` if the task has one."""
    columns: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    """After an evaluation: every measure of each episode or example, [E, ...]; see `measures.npz`."""
    seed: int
    """Seed of the run."""
    task: Any
    """The `rlbench.envs.tasks.Task`; `task.make()` makes its environment."""
    folder: Path
    """Folder of the run, in which a callback may write files of its own."""
    reason: str = ""
    """Why the run should stop; empty if it should not."""

    @property
    def last(self) -> bool:
        """Whether this is the last update of the run."""
        return self.update == self.updates

    def stop(self, reason: str) -> None:
        """Ends the run with this update: it is evaluated, saved and complete."""
        self.reason = reason or "a callback stopped it"


class Callback:
    """Called while a run trains; a subclass overrides what it needs.

    Its attributes that are plain values (numbers, texts, None, and lists and dicts of them), tensors, random generators,
    networks and optimisers are saved in the checkpoints of the run, and restored by a resume; override `state_dict` and
    `load_state_dict` to save others.
    """

    changes_learner: ClassVar[bool] = False
    """Whether `on_evaluation` may change the learner. Such a run does not compile its updates."""

    def on_log(self, progress: Progress) -> Values:
        """Called after each line of `metrics.jsonl`; see `--log-every`.

        Returns:
            Further numbers for the loggers and `callbacks.jsonl`, or None.
        """
        return None

    def on_evaluation(self, progress: Progress, learner: Learner) -> Values:
        """Called after each evaluation; see `--eval-every`.

        Args:
            progress: The measures and how far the run is.
            learner: The learner, with its networks in evaluation mode. Its random generators are restored afterwards; anything
                else in it may be changed only with `changes_learner`.

        Returns:
            As in `on_log`.
        """
        return None

    def state_dict(self) -> dict[str, Any]:
        """Everything that a resume needs, as nested dicts of tensors and plain values."""
        plain = {name: value for name, value in vars(self).items() if is_plain(value)}
        parts = {name: value for name, value in capture(self).items() if name not in plain}
        return {"plain": plain, "parts": parts}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues from `state_dict`."""
        vars(self).update(state["plain"])
        restore(self, capture(self) | dict(state["parts"]))


def is_plain(value: object) -> bool:
    """Whether JSON can hold a value and give it back, with lists for tuples.

    >>> is_plain({"best": [1.5, None]}), is_plain({1: "a"}), is_plain(object())
    (True, False, False)
    """
    if isinstance(value, Mapping):
        return all(isinstance(name, str) and is_plain(x) for name, x in value.items())
    if isinstance(value, list | tuple):
        return all(map(is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)
