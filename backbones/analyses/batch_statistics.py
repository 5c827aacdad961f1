"""Accuracy of a trained model with the running averages of its batch normalisation, and with the statistics of each batch.

Evaluations use the averages. If they represent the batches well, both accuracies are close.

Cooijmans et al., 2017, https://arxiv.org/abs/1603.09025, section 3 (averages for each time step); the comparison is ours.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from rlbench.backbones.analyses._base import Analysis, Array, Findings
from rlbench.backbones.layers.step_norm import StepNorm
from rlbench.errors import UserError
from rlbench.experience import Examples


@dataclass(frozen=True, kw_only=True)
class BatchStatisticsConfig:
    """Settings of the comparison of statistics."""

    rows: int = 120
    """Examples in a batch; a smaller last batch is left out."""

    def __post_init__(self) -> None:
        """Refuses settings that are out of range."""
        if self.rows < 2:
            raise UserError(f"rows is {self.rows}; give 2 or more")


class BatchStatistics(Analysis):
    """Accuracies with both kinds of statistics."""

    Config: ClassVar[type] = BatchStatisticsConfig
    runs = (
        "a run of a classifier with batch normalisation, such as sequence-classifier with --memory bn-lstm",
    )
    config: BatchStatisticsConfig

    @torch.no_grad()
    def analyse(self, learners: Sequence[Any], examples: Mapping[str, Examples]) -> Findings:
        """See `Analysis`."""
        (model,), (given,) = learners, examples.values()
        networks = [x for x in vars(model).values() if isinstance(x, nn.Module)]
        norms = [
            x for net in networks for x in net.modules() if isinstance(x, StepNorm | _BatchNorm)
        ]
        if not norms:
            raise UserError(
                f"{type(model).__name__} has no batch normalisation; give {self.runs[0]}"
            )
        if len(given) < self.config.rows:
            raise UserError(
                f"there are {len(given)} test examples; give --rows {len(given)} or fewer"
            )
        columns: dict[str, Array] = {}
        for name, training in (("running averages", False), ("statistics of the batch", True)):
            for norm in norms:
                norm.train(training)
                if isinstance(norm, _BatchNorm):
                    norm.momentum = 0.0
            rows = self.config.rows
            batches = [
                given.take(slice(i * rows, (i + 1) * rows)) for i in range(len(given) // rows)
            ]
            found = [model.measure(batch)["accuracy"].cpu().numpy() for batch in batches]
            columns[name] = np.concatenate(found)
        numbers = {name: float(column.mean()) for name, column in columns.items()}
        return Findings(numbers, columns=columns)
