"""How the inputs of a network's sigmoids drift during training, from the snapshots of a run (`--snapshot-every`).

For each unit in the last layer of the encoder sigmoid-mlp and each snapshot, the 15th, 50th and 85th percentiles of the
sigmoid's input are taken over the test examples. The curves show one unit, as in the paper; `drift` is the range of the
median over training, averaged over all units.

Ioffe & Szegedy, 2015, https://arxiv.org/abs/1502.03167, figure 1, b and c
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from rlbench.backbones.analyses._base import Analysis, Findings, Line, Panel
from rlbench.errors import UserError
from rlbench.experience import Examples

PERCENTILES = (15, 50, 85)


@dataclass(frozen=True, kw_only=True)
class DriftConfig:
    """Settings of the analysis of drift."""

    unit: int = 0
    """The unit whose curves are shown."""


class Drift(Analysis):
    """Percentiles of the inputs of the last layer's sigmoids, over the course of training."""

    Config: ClassVar[type] = DriftConfig
    runs = ("a run of classifier with --encoder sigmoid-mlp and --snapshot-every",)
    config: DriftConfig

    def analyse(self, learners: Sequence[Any], examples: Mapping[str, Examples]) -> Findings:
        """See `Analysis`."""
        (given,) = examples.values()
        layers = getattr(getattr(learners[0], "encoder", None), "layers", None)
        if not hasattr(layers, "before"):
            raise UserError(
                f"{type(learners[0]).__name__} has no sigmoid layers; give {self.runs[0]}"
            )
        updates, rows = [], []
        for update, learner in self.history():
            encoder = learner.encoder
            read = encoder.layers.before(given["obs"].float() * encoder.kind.scale)
            updates.append(update)
            rows.append(np.percentile(read.cpu().numpy(), PERCENTILES, axis=0))
        if len(rows) < 2:
            raise UserError(f"the run has {len(rows)} snapshots; give {self.runs[0]}")
        curves = np.stack(rows)
        if not 0 <= self.config.unit < curves.shape[-1]:
            raise UserError(
                f"unit is {self.config.unit}, but the last layer has {curves.shape[-1]} units; give a number from 0 to "
                f"{curves.shape[-1] - 1}"
            )
        medians = curves[:, 1]
        drift = float((medians.max(0) - medians.min(0)).mean())
        shown = curves[:, :, self.config.unit]
        lines = [
            Line(f"{percentile}th percentile", updates, shown[:, i], shown[:, i], shown[:, i])
            for i, percentile in enumerate(PERCENTILES)
        ]
        panel = Panel(f"input of the sigmoid of unit {self.config.unit}", "updates", lines)
        # One row, because these results are over all test examples together.
        return Findings({"drift": drift}, [panel], {"percentiles": curves[None]})
