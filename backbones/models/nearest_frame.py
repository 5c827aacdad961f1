"""The training frame with the most similar stick figure: a baseline of `dance`, without learning.

    I_t = x_i,   i = argmin over training frames of |B(s_t) - B(s_i)|^2

where B takes means over 4x4 pixels, so that limbs that are near each other are similar. It remembers the frames of the last `memory` clips that it was
given. Measures are those of `dance`.

Efros et al., 2003, "Recognizing Action at a Distance", for copying frames of another person
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from rlbench.backbones.models._clips import moved, scores, shape_of
from rlbench.backbones.ranges import SIZE, Range, check
from rlbench.errors import UserError
from rlbench.experience import Examples
from rlbench.interface import Model
from rlbench.measures import Measure

BLOCK = 4


@dataclass(frozen=True, kw_only=True)
class NearestFrameConfig:
    """Settings of the nearest frame."""

    memory: int = 125
    """Number of clips that are remembered."""
    batch_size: int = 25
    """Clips in one update, at most as many as are remembered."""

    ranges: ClassVar[Mapping[str, Range]] = {"memory": SIZE}

    def __post_init__(self) -> None:
        """Refuses settings that are out of range."""
        check(self)
        if self.batch_size > self.memory:
            raise UserError(
                f"batch_size is {self.batch_size}, but memory is {self.memory}; give a batch that fits into the memory"
            )


class NearestFrame(Model):
    """Copies of training frames."""

    Config: ClassVar[type] = NearestFrameConfig
    measures = (
        Measure("ssim"), Measure("l1", higher_is_better=False), Measure("flicker", higher_is_better=False),
        Measure("face_error", higher_is_better=False),
    )  # fmt: skip
    run: ClassVar[Mapping[str, Any]] = {"updates": 5, "data_size": 125, "eval_every": 5, "checkpoint_every": 5, "log_every": 1}  # fmt: skip
    config: NearestFrameConfig

    def build(self) -> None:
        """An empty memory."""
        shape = shape_of(self.spec)
        if shape.rows % BLOCK or shape.columns % BLOCK:
            raise UserError(
                f"pictures have {shape.rows}x{shape.columns} pixels; give multiples of {BLOCK}"
            )
        count, picture = self.config.memory * shape.frames, (shape.rows, shape.columns)
        size = shape.parts * picture[0] * picture[1] // BLOCK**2
        self.sticks = torch.zeros(count, size, device=self.device)
        self.frames = torch.zeros(count, *picture, 3, dtype=torch.uint8, device=self.device)
        self.stored = torch.zeros(count, dtype=torch.bool, device=self.device)
        self.next = 0

    def blurred(self, obs: Tensor) -> Tensor:
        """Means over blocks of stick figures [N, H, W, K], [N, K H W / BLOCK^2]."""
        return F.avg_pool2d(moved(obs), BLOCK).flatten(1)

    def learn(self, experience: Examples) -> Mapping[str, Tensor]:
        """Remembers the frames of clips."""
        obs, frames = (experience[name].flatten(0, 1) for name in ("obs", "frames"))
        rows = (self.next + torch.arange(len(obs), device=obs.device)) % len(self.stored)
        self.sticks[rows], self.frames[rows], self.stored[rows] = self.blurred(obs), frames, True
        self.next = (self.next + len(obs)) % len(self.stored)
        return {"stored": self.stored.float().sum()}

    def decide(self, obs: Tensor, noise: Tensor | None = None) -> Tensor:
        """Copies for clips [B, T, H, W, K] of stick figures, [B, T, H, W, 3]."""
        distance = torch.cdist(self.blurred(obs.flatten(0, 1)), self.sticks)
        nearest = distance.masked_fill(~self.stored, torch.inf).argmin(dim=1)
        copies: Tensor = self.frames[nearest].unflatten(0, obs.shape[:2])
        return copies

    def measure(self, examples: Examples) -> Mapping[str, Tensor]:
        """See `scores`."""
        return scores(moved(self.decide(examples["obs"])), examples)
