"""The head of a single-shot detector, and the detections in its outputs; `models/ssd.py` trains it.

Liu et al., 2016, https://arxiv.org/abs/1512.02325, section 2.1
"""

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rlbench.backbones.layers.boxes import clip, decode, default_boxes, suppress

RATIOS = (1.0, 2.0, 0.5)
"""Width divided by height of the default boxes."""
BOXES = len(RATIOS) + 1
"""Default boxes of each scale."""
CODE_SCALES = (0.1, 0.2)
"""By which predicted centres and sides are divided; see `encode`. The authors' code calls the squares of them variances."""


def default_sides(scales: int, smallest: float, largest: float) -> Tensor:
    """Widths and heights of the default boxes of each scale as shares of the image's side, [scales, BOXES, 2].

    >>> default_sides(2, 0.2, 0.4)[0]
    tensor([[0.2000, 0.2000],
            [0.2828, 0.1414],
            [0.1414, 0.2828],
            [0.2828, 0.2828]])
    """
    step = (largest - smallest) / max(scales - 1, 1)
    sides = []
    for k in range(scales):
        scale, after = smallest + k * step, max(smallest + (k + 1) * step, 0.0)
        each = [(scale * math.sqrt(r), scale / math.sqrt(r)) for r in RATIOS]
        sides.append([*each, (math.sqrt(scale * after),) * 2])
    return torch.tensor(sides)


class SSDHead(nn.Module):
    """Scores of classes and relative boxes of all default boxes, from maps."""

    defaults: Tensor

    def __init__(self, maps: Mapping[int, Tensor], sides: Tensor, classes: int) -> None:
        """Makes default boxes, from the finest map to the coarsest.

        Args:
            maps: A map [B, C, H, W] of each stride, as an example.
            sides: Widths and heights in pixels by scale, [scales, BOXES, 2]; there are as many scales as maps or more.
            classes: Number of classes, without "no object".
        """
        super().__init__()
        self.strides = sorted(maps)
        parts = torch.tensor_split(sides, len(self.strides))
        each = [part.flatten(0, 1) for part in parts]
        self.outputs = classes + 5
        self.convolutions = nn.ModuleList(
            nn.Conv2d(maps[stride].shape[1], len(own) * self.outputs, 3, padding=1)
            for stride, own in zip(self.strides, each, strict=True)
        )
        defaults = [
            default_boxes((maps[stride].shape[2], maps[stride].shape[3]), stride, own)
            for stride, own in zip(self.strides, each, strict=True)
        ]
        self.register_buffer("defaults", torch.cat(defaults), persistent=False)

    def forward(self, maps: Mapping[int, Tensor]) -> tuple[Tensor, Tensor]:
        """Scores [B, N, 1 + classes], "no object" first, and relative boxes [B, N, 4] of the N default boxes."""
        found = [
            convolution(maps[stride]).permute(0, 2, 3, 1).reshape(len(maps[stride]), -1, self.outputs)
            for stride, convolution in zip(self.strides, self.convolutions, strict=True)
        ]  # fmt: skip
        joined = torch.cat(found, dim=1)
        return joined[..., 4:], joined[..., :4]


def decoded(
    head: SSDHead, logits: Tensor, codes: Tensor, size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Boxes within the image, [B, N, 4], and probabilities of the classes, [B, N, 1 + C], of a head's outputs.

    Args:
        head: The head.
        logits: Scores, [B, N, 1 + C].
        codes: Relative boxes, [B, N, 4].
        size: Rows and columns of the image.
    """
    # A softmax over short rows is several times slower than one over columns.
    scores = logits.transpose(1, 2).contiguous().softmax(1).transpose(1, 2)
    return clip(decode(codes, head.defaults, CODE_SCALES), size), scores


def detections(
    boxes: Tensor, scores: Tensor, least: float, most_overlap: float, candidates: int, count: int
) -> Tensor:
    """The best boxes without duplicates, [B, count, 6]: box, score, class from 1 on; zeros where there are fewer.

    Args:
        boxes: Boxes, [B, N, 4].
        scores: Scores of the classes, without "no object", [B, N, C].
        least: Detections have a higher score.
        most_overlap: Largest overlap of two detections of the same class.
        candidates: Number of pairs of a box and a class among which duplicates are suppressed.
        count: Largest number of detections.
    """
    classes = scores.shape[2]
    best, place = scores.flatten(1).topk(min(candidates, scores[0].numel()))
    label = place % classes + 1
    box = boxes.gather(1, (place // classes)[..., None].expand(-1, -1, 4))
    best = best.masked_fill(best <= least, -torch.inf)
    kept = suppress(box, best, most_overlap, label)
    best, order = best.masked_fill(~kept, -torch.inf).topk(min(count, best.shape[1]))
    found = torch.cat([box, label[..., None].to(box)], dim=-1)
    found = found.gather(1, order[..., None].expand(-1, -1, 5))
    rows = torch.cat([found[..., :4], best[..., None], found[..., 4:]], dim=-1)
    rows = rows.masked_fill(best[..., None] == -torch.inf, 0.0)
    return F.pad(rows, (0, 0, 0, count - rows.shape[1]))
