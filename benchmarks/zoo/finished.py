"""Evaluates agents and writes finished runs that contain only the weights of their learners."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from rlbench.benchmarks.training.evaluation import evaluators_of
from rlbench.benchmarks.training.loading import WEIGHTS_ONLY, weights_of
from rlbench.benchmarks.training.run_folder import RunFolder
from rlbench.envs.tasks import Task
from rlbench.interface import Agent, Learner


def evaluate(agent: Agent, task: Task, episodes: int, seed: int) -> dict[str, NDArray[Any]]:
    """Measures of each episode of an agent on its task and, if the task has them, on held-out levels; see `RunFolder.add_evaluation`."""
    columns: dict[str, NDArray[Any]] = {}
    for each in evaluators_of(agent, task, episodes):
        columns |= each.columns(agent, seed)
    return columns


def write(
    path: Path, config: Mapping[str, Any], update: int, learner: Learner, columns: Mapping[str, NDArray[Any]]
) -> None:  # fmt: skip
    """Writes the folder of a finished run that cannot be resumed.

    Args:
        path: A new folder.
        config: See `RunFolder.config`.
        update: The last update.
        learner: The trained learner.
        columns: The evaluation after this update.
    """
    folder = RunFolder(path)
    folder.start(config)
    folder.add_evaluation(update, columns)
    folder.save_checkpoint(update, {"learner": weights_of(learner), WEIGHTS_ONLY: True})
