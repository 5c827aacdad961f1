"""Curves in MLflow, with the number of updates as the step; curves over environment steps have names of their own.

MLFLOW_TRACKING_URI names the server or database, and MLFLOW_EXPERIMENT_NAME the experiment.
"""

import os
import re
import time
from collections.abc import Iterator, Mapping
from typing import Any

from rlbench.benchmarks.loggers._base import LoggedRun, Logger, by_env_steps, required

PARAMETERS, LENGTH = 100, 500
"""Largest number of parameters in a request, and largest number of characters of one that all versions accept."""


class MLflow(Logger):
    """One run of MLflow, which a resume continues.

    MLflow stores a point that is logged twice as two, so a continued run asks for the steps that a curve has.
    """

    package = "mlflow"

    def __init__(self, run: LoggedRun) -> None:
        """Begins or continues the run, and stores its settings."""
        super().__init__(run)
        self._mlflow = required(self.package)
        self._client = self._mlflow.MlflowClient()
        self._continues = "run" in run.kept
        self._there: dict[str, set[int]] = {}
        if self._continues:
            self._id = str(run.kept["run"])
            self._client.update_run(self._id, status="RUNNING")
        else:
            self._id = self._client.create_run(
                self._experiment(), run_name=run.folder.name
            ).info.run_id
            self._describe(run.config)
        self.kept = {"run": self._id}

    def add(self, update: int, values: Mapping[str, float], env_steps: int | None = None) -> None:
        """Adds those points that the run lacks."""
        points = [(name, value, update) for name, value in values.items()]
        if env_steps is not None:
            points += [(name, x, env_steps) for name, x in by_env_steps(values).items()]
        now = int(time.time() * 1000)
        metrics = [
            self._mlflow.entities.Metric(_key(name), value, now, step)
            for name, value, step in points
            if step not in self._steps(_key(name))
        ]
        self._client.log_batch(self._id, metrics=metrics)

    def close(self, *, complete: bool) -> None:
        """Ends the run."""
        self._client.set_terminated(self._id, status="FINISHED" if complete else "KILLED")

    def _experiment(self) -> str:
        """The id of the experiment, which is created if it is missing."""
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "rlbench")
        if (found := self._client.get_experiment_by_name(name)) is None:
            try:
                return str(self._client.create_experiment(name))
            except self._mlflow.exceptions.MlflowException:  # Another run may have been faster.
                if (found := self._client.get_experiment_by_name(name)) is None:
                    raise
        return str(found.experiment_id)

    def _describe(self, config: Mapping[str, Any]) -> None:
        """Stores the contents of config.json as parameters, such as `learner.settings.hidden`."""
        parameters = [
            self._mlflow.entities.Param(_key(name), str(value)[:LENGTH])
            for name, value in _flat(config)
        ]
        for start in range(0, len(parameters), PARAMETERS):
            self._client.log_batch(self._id, params=parameters[start : start + PARAMETERS])

    def _steps(self, name: str) -> set[int]:
        """The steps that a curve had when this process began."""
        if not self._continues:
            return set()
        if name not in self._there:
            history = self._client.get_metric_history(self._id, name)
            self._there[name] = {metric.step for metric in history}
        return self._there[name]


def _flat(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Nested values by their path, as in `run.updates`."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield before + name, value


def _key(name: str) -> str:
    """A name in the characters that MLflow accepts."""
    return re.sub(r"[^\w.\- /]", "_", name)
