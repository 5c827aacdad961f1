"""Blobs: object detection without gradients, by colours that the background does not have.

Training only counts pixels: n_kc of colour k lie in boxes of class c, n_k0 in none. Then

    foreground    pixels whose colour lies in boxes more often than not
    box           around each blob, foreground pixels that touch each other, also at corners
    score of c    prod_x p(colour of x | c), normalised over the classes, over the pixels x of the blob

Objects that touch become one blob, and objects that differ only in shape are not distinguished. It is the baseline of `rlbench table ssd`.

Measures: `map` and its parts, as for SSD, and `count_error`, the absolute difference between the numbers of detections and of objects.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from gymnasium import spaces
from torch import Tensor

from rlbench.backbones.models._base import input_space
from rlbench.backbones.models._detection import (
    MAP,
    average_precisions,
    coco,
    judged,
    objects_of,
    truth,
)
from rlbench.backbones.ranges import SIZE, Range, check
from rlbench.connected import connected
from rlbench.errors import UserError
from rlbench.experience import Examples
from rlbench.interface import Model
from rlbench.measures import Measure


@dataclass(frozen=True, kw_only=True)
class BlobsConfig:
    """Settings of blobs."""

    levels: int = 8
    """Levels of each channel by which colours are distinguished."""
    detections: int = 20
    """Largest number of detections of an image, the largest blobs."""
    batch_size: int = 100
    """Examples in one update, which only counts their colours."""

    ranges: ClassVar[Mapping[str, Range]] = {
        "levels": Range(lambda x: 2 <= x <= 32, "2 or more, up to 32"),
        "detections": SIZE,
    }

    def __post_init__(self) -> None:
        """Refuses settings that are out of range."""
        check(self)


def boxes_of(masks: Tensor) -> Tensor:
    """Boxes around the pixels of masks, [..., 4] of bool [..., H, W]; zeros around none."""
    sides = []
    for axis in (-2, -1):  # Columns, then rows.
        line = masks.any(dim=axis).int()
        low, some = line.argmax(-1), line.any(-1)
        sides.append((low, (line.shape[-1] - line.flip(-1).argmax(-1)) * some))
    (left, right), (top, bottom) = sides
    return torch.stack([left, top, right, bottom], dim=-1).float()


class Blobs(Model):
    """Blobs."""

    Config: ClassVar[type] = BlobsConfig
    measures = (MAP, Measure("count_error", "objects", higher_is_better=False))
    run: ClassVar[Mapping[str, Any]] = {
        "updates": 10, "data_size": 1_000, "eval_every": 0, "checkpoint_every": 10, "log_every": 1,
    }  # fmt: skip
    config: BlobsConfig

    def build(self) -> None:
        """Counts of colours, all 0.

        Raises:
            UserError: Frames do not have three channels of bytes.
        """
        coco()
        self.objects = objects_of(self.spec)
        shape, space = self.objects.shape, input_space(self.spec)
        if (
            not isinstance(space, spaces.Box)
            or space.dtype != "uint8"
            or 3 not in (shape[0], shape[-1])
        ):
            raise UserError(
                f"observations are {space}; blobs are found by colours, so give frames of bytes with three channels, such as "
                "--env objects-minigrid-s16"
            )
        bins = self.config.levels**3
        self.counts = torch.zeros(bins, self.objects.classes + 1, device=self.device)

    def colours(self, obs: Tensor) -> Tensor:
        """Numbers of the colours of pixels, int64 [B, H, W], of frames."""
        levels = self.config.levels
        if obs.shape[-1] != 3:
            obs = obs.movedim(1, -1)
        level = obs.long() * levels // 256
        return (level[..., 0] * levels + level[..., 1]) * levels + level[..., 2]

    def learn(self, experience: Examples) -> Mapping[str, Tensor]:
        """Counts the colours of some frames."""
        boxes, classes = truth(experience)
        colours = self.colours(experience["obs"])
        inside = _inside(boxes, self.objects.size)
        first = inside.int().argmax(1)  # Of several boxes around a pixel.
        own = classes.gather(1, first.flatten(1)).view_as(first) * inside.any(1)
        pair = (colours * self.counts.shape[1] + own).flatten()
        self.counts += torch.bincount(pair, minlength=self.counts.numel()).view_as(self.counts)
        return {"foreground": (own > 0).float().mean()}

    def detect(self, obs: Tensor) -> Tensor:
        """Detections of frames, [B, `detections`, 6]: box, score, class."""
        colours, count = self.colours(obs), self.config.detections
        foreground = self.counts[:, 1:].sum(1) > self.counts[:, 0]
        number = connected(foreground[colours]).flatten(1)
        pixels = number.new_zeros(len(number), number.shape[1] + 1)
        pixels.scatter_add_(1, number, torch.ones_like(number))
        pixels[:, 0] = 0
        size, chosen = pixels.topk(min(count, pixels.shape[1]))
        masks = (number[:, None] == chosen[..., None]) & (size > 0)[..., None]
        # One more of each colour, so that no probability is 0.
        likelihood = ((self.counts[:, 1:] + 1) / (self.counts[:, 1:] + 1).sum(0)).log()
        evidence = masks.float() @ likelihood[colours.flatten(1)]
        score, label = evidence.softmax(-1).max(-1)
        boxes = boxes_of(masks.unflatten(2, self.objects.size))
        found = torch.cat([boxes, score[..., None], label[..., None] + 1.0], dim=-1)
        found = found * (size > 0)[..., None]
        return F.pad(found, (0, 0, 0, count - found.shape[1]))

    def measure(self, examples: Examples) -> Mapping[str, Tensor]:
        """Absolute difference between the numbers of detections and of objects of each example, [B], and both; see `judged`."""
        found, (_, classes) = self.detect(examples["obs"]), truth(examples)
        error = (found[..., 5] > 0).sum(1) - (classes > 0).sum(1)
        return {"count_error": error.abs().float(), **judged(examples, found)}

    def summary(self, columns: Mapping[str, Any]) -> Mapping[str, float]:
        """Average precisions; see `average_precisions`."""
        return average_precisions(columns["objects"], columns["detections"], self.objects.classes)


def _inside(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Which pixels lie in each box, bool [B, M, H, W], of boxes [B, M, 4]; empty boxes hold none."""
    rows, columns = (torch.arange(n, device=boxes.device) + 0.5 for n in size)
    left, top, right, bottom = boxes[..., None].unbind(2)
    across, down = (left < columns) & (columns < right), (top < rows) & (rows < bottom)
    return down[..., None] & across[..., None, :]
