"""Loggers by name: where the learning curves of a run go, apart from its own files. Importing this loads no logger."""

from rlbench.benchmarks.loggers._base import LoggedRun as LoggedRun, Logger as Logger
from rlbench.names import NameTable

LOGGERS = NameTable(
    "logger",
    "rlbench.benchmarks.loggers",
    {
        "tensorboard": ("tensorboard:TensorBoard", "event files in the run folder"),
        "csv": ("csv:CSV", "curves.csv in the run folder"),
        "wandb": ("wandb:WandB", "Weights & Biases, online or offline (extra wandb)"),
        "mlflow": ("mlflow:MLflow", "an MLflow tracking server or database (extra mlflow)"),
    },
    group="rlbench.loggers",
)
"""Names for `rlbench run --loggers`."""
