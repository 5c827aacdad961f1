"""Evaluates a trained model on the examples of other tasks, or a trained agent in other environments, such as larger rooms."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from rlbench.backbones.analyses._base import Analysis, Array, Findings
from rlbench.errors import UserError
from rlbench.experience import Examples

AT_ONCE = 100


@dataclass(frozen=True, kw_only=True)
class OtherTasksConfig:
    """Settings of the evaluation on other tasks."""

    tasks: tuple[str, ...] = ()
    """Tasks whose test examples have the columns that the model reads, or whose environments have the agent's spaces."""
    episodes: int = 100
    """Episodes that an agent plays on each task."""
    explore: bool = False
    """An agent acts with its exploration noise, for example samples its actions; by default it acts as in evaluations."""

    def __post_init__(self) -> None:
        """Refuses settings that are out of range."""
        if not self.tasks:
            raise UserError("no other tasks are given; give --tasks, such as episodes-stag-hunt-6p")
        if self.episodes < 1:
            raise UserError(f"episodes is {self.episodes}; give 1 or more")


class OtherTasks(Analysis):
    """Measures of a model on its own task and on others, or returns of an agent on others."""

    Config: ClassVar[type] = OtherTasksConfig
    runs = ("a run of a model or an agent",)
    agents = True
    config: OtherTasksConfig

    @property
    def other_tasks(self) -> tuple[str, ...]:
        """See `Analysis`."""
        return self.config.tasks

    def analyse(self, learners: Sequence[Any], examples: Mapping[str, Examples]) -> Findings:
        """See `Analysis`."""
        (model,) = learners
        numbers: dict[str, float] = {}
        columns: dict[str, Array] = {}
        if not examples:
            for task in self.other_tasks:
                for name, column in self.play(
                    task, self.config.episodes, self.config.explore
                ).items():
                    columns[f"{task}: {name}"] = column
                    if name != "seed":
                        numbers[f"{task}: {name}"] = float(column.mean())
            return Findings(numbers, columns=columns)
        for task, given in examples.items():
            parts = []
            for first in range(0, len(given), AT_ONCE):
                batch = given.take(slice(first, first + AT_ONCE))
                try:
                    parts.append(model.measure(batch))
                except (RuntimeError, ValueError, LookupError) as error:
                    reason = f"no column {error}" if isinstance(error, KeyError) else error
                    raise UserError(
                        f"the model cannot read the examples of {task} ({reason}); give tasks with the same columns, and "
                        "a network whose weights fit them"
                    ) from error
            measured = {
                name: np.concatenate([x[name].cpu().numpy() for x in parts]) for name in parts[0]
            }
            summary = model.summary(measured)
            for name in (measure.name for measure in model.measures):
                if name in summary:
                    numbers[f"{task}: {name}"] = float(summary[name])
                elif name in measured:
                    columns[f"{task}: {name}"] = measured[name]
                    numbers[f"{task}: {name}"] = float(measured[name].mean())
        return Findings(numbers, columns=columns)
