"""How the time of attention grows with the length of a sequence: a trained encoder's pattern compared with full attention.

Untrained transformers of the encoder's sizes read one sequence of each length, without gradients. The time is the
shortest of several passes. With full attention it grows with the square of the length, with a sparse pattern linearly.

Zaheer et al., 2020, https://arxiv.org/abs/2007.14062, section 3 and figure 3 of its appendix
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from rlbench.backbones.analyses._base import Analysis, Findings, Line, Panel
from rlbench.backbones.layers.transformer import Transformer
from rlbench.errors import UserError
from rlbench.experience import Examples


@dataclass(frozen=True, kw_only=True)
class AttentionCostConfig:
    """Settings of the analysis of the cost of attention."""

    lengths: tuple[int, ...] = (512, 1024, 2048)
    """Tokens of a sequence."""
    repeats: int = 5
    """Passes over each sequence, of which the fastest counts."""

    def __post_init__(self) -> None:
        """Refuses settings that are out of range."""
        if len(self.lengths) < 2 or min(self.lengths) < 1 or self.repeats < 1:
            raise UserError(
                f"lengths is {self.lengths} and repeats is {self.repeats}; give two lengths or more, and 1 or more of each"
            )


class AttentionCost(Analysis):
    """Times of forward passes by length."""

    Config: ClassVar[type] = AttentionCostConfig
    runs = (
        "a run of a model with --encoder transformer:attention=..., such as sequence-classifier",
    )
    config: AttentionCostConfig

    def analyse(self, learners: Sequence[Any], examples: Mapping[str, Examples]) -> Findings:
        """See `Analysis`."""
        layers = getattr(getattr(learners[0], "encoder", None), "layers", None)
        trained = getattr(layers, "transformer", None)
        if not isinstance(trained, Transformer):
            raise UserError(f"{type(learners[0]).__name__} has no transformer; give {self.runs[0]}")
        first: Any = trained.blocks[0]
        kinds = dict.fromkeys((str(first.attention.pattern.kind), "full"))
        seconds = {
            kind: [self._seconds(trained, kind, n) for n in self.config.lengths] for kind in kinds
        }
        numbers: dict[str, float] = {}
        lines = []
        for kind, found in seconds.items():
            milliseconds = 1e3 * np.array(found)
            numbers |= {
                f"{kind}: ms at {n}": float(x)
                for n, x in zip(self.config.lengths, milliseconds, strict=True)
            }
            numbers[f"{kind}: ratio"] = found[-1] / found[0]
            lines.append(Line(kind, self.config.lengths, milliseconds, milliseconds, milliseconds))
        return Findings(numbers, [Panel("milliseconds of a forward pass", "tokens", lines)])

    @torch.no_grad()
    def _seconds(self, trained: Transformer, kind: Any, length: int) -> float:
        """Time of a forward pass over one sequence."""
        block: Any = trained.blocks[0]
        pattern = block.attention.pattern
        width = trained.positions.shape[1]
        network = Transformer(
            width, len(trained.blocks), block.attention.heads, block.widen.out_features, length, attention=kind,
            causal=pattern.causal, block=pattern.block, window=pattern.window, random=pattern.random,
        ).to(trained.positions.device)  # fmt: skip
        x = torch.zeros(1, length, width, device=trained.positions.device)
        network(x)  # Computes the table of blocks, once.
        times = []
        for _ in range(self.config.repeats):
            begin = time.perf_counter()
            # Copying the result to the CPU waits for a GPU.
            network(x).sum().item()
            times.append(time.perf_counter() - begin)
        return min(times)
