"""Boxes: overlap, coding relative to default boxes, suppression of duplicates, matching.

A box is (x_1, y_1, x_2, y_2), left, upper, right and lower edge in pixels. Edges lie between pixels: a box around the first
pixel alone is (0, 0, 1, 1). Images of a batch have different numbers of true (ground-truth) boxes, so their arrays are padded, and
`exists` says which are real.

Default boxes and their coding: Girshick et al., 2014, https://arxiv.org/abs/1311.2524, appendix C; matching: Ren et al., 2015,
https://arxiv.org/abs/1506.01497, section 3.1.2, and Liu et al., 2016, https://arxiv.org/abs/1512.02325, section 2.2.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

NONE, IGNORED = -1, -2
"""In place of the number of a true box: the default box is background, or does not count in the loss."""
LARGEST = math.log(1000 / 16)
"""Largest logarithm of the ratio of sides in decoding, as in Detectron, so that an untrained network does not overflow."""


def area(boxes: Tensor) -> Tensor:
    """Areas in square pixels, [...], of boxes [..., 4]; 0 if an edge lies beyond its opposite."""
    return (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(-1)


def overlap(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union, [..., N, M], of boxes [..., N, 4] and [..., M, 4]; 0 for two empty boxes."""
    low = torch.maximum(a[..., :, None, :2], b[..., None, :, :2])
    high = torch.minimum(a[..., :, None, 2:], b[..., None, :, 2:])
    both = (high - low).clamp(min=0).prod(-1)
    either = area(a)[..., :, None] + area(b)[..., None, :] - both
    return torch.where(either > 0, both / either.clamp(min=1e-12), 0.0)


def encode(boxes: Tensor, defaults: Tensor, scales: Sequence[float]) -> Tensor:
    """Boxes relative to default boxes, [..., 4]: shift of the centre and logarithm of the sides.

    Args:
        boxes: [..., 4], with positive sides.
        defaults: [..., 4].
        scales: Standard deviations by which the shift and the logarithm are divided; 0.1 and 0.2 in SSD and Faster R-CNN.
    """
    (centre, side), (middle, width) = _centred(boxes), _centred(defaults)
    shift, stretch = scales
    return torch.cat([(centre - middle) / (width * shift), (side / width).log() / stretch], dim=-1)


def decode(codes: Tensor, defaults: Tensor, scales: Sequence[float]) -> Tensor:
    """The inverse of `encode`; sides grow at most by the factor 62.5."""
    middle, width = _centred(defaults)
    shift, stretch = scales
    centre = middle + codes[..., :2] * shift * width
    side = width * (codes[..., 2:] * stretch).clamp(max=LARGEST).exp()
    return torch.cat([centre - side / 2, centre + side / 2], dim=-1)


def clip(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Boxes [..., 4] cut at the edges of an image of (height, width) `size`."""
    height, width = size
    most = boxes.new_tensor([width, height, width, height])
    return torch.minimum(boxes.clamp(min=0), most)


def default_boxes(size: tuple[int, int], stride: int, sides: Tensor) -> Tensor:
    """Default boxes around the centre of each cell of a map, [H * W * A, 4]: row by row, in a cell in the order of `sides`.

    Args:
        size: Height and width of the map, H and W.
        stride: Pixels of the image per cell.
        sides: Widths and heights in pixels, [A, 2].
    """
    rows, columns = (
        (torch.arange(n, dtype=sides.dtype, device=sides.device) + 0.5) * stride for n in size
    )
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    centre = torch.stack([x, y], dim=-1)[:, :, None]
    return torch.cat([centre - sides / 2, centre + sides / 2], dim=-1).flatten(0, 2)


def match(
    overlaps: Tensor, exists: Tensor, positive: float, negative: float, *, forced: bool
) -> Tensor:
    """The true box that each default box has to predict, int64 [B, N], or `NONE`, or `IGNORED`.

    A default box predicts the true box with which it overlaps most if this overlap is at least `positive`; below `negative`
    it is background, and in between it is ignored. If `forced`, each true box is also matched to the default box with which
    it overlaps most, whatever the overlap; if two true boxes share that default box, the one with the larger overlap gets it.

    Args:
        overlaps: Of default and true boxes, [B, N, G].
        exists: Which of the true boxes are real, bool [B, G].
        positive: Threshold of a match.
        negative: Threshold of the background; the same as `positive` if none is to be ignored.
        forced: Whether each true box has a match even below `positive`.
    """
    if not overlaps.shape[2]:
        return torch.full(overlaps.shape[:2], NONE, device=overlaps.device)
    overlaps = overlaps.masked_fill(~exists[:, None], -1.0)
    best, found = overlaps.max(dim=2)
    result = torch.where(best < negative, NONE, IGNORED)
    result = torch.where(best >= positive, found, result)
    if forced:
        wanted = torch.zeros_like(overlaps, dtype=torch.bool)
        wanted.scatter_(1, overlaps.argmax(dim=1, keepdim=True), True)
        wanted &= exists[:, None]
        first = overlaps.masked_fill(~wanted, -torch.inf).argmax(dim=2)
        result = torch.where(wanted.any(dim=2), first, result)
    return result


def suppress(
    boxes: Tensor, scores: Tensor, threshold: float, classes: Tensor | None = None
) -> Tensor:
    """Non-maximum suppression: which boxes are kept, bool [..., N].

    From the highest score down, a box is kept unless a kept box of the same class with a higher score overlaps with it by
    more than `threshold`; boxes with equal scores are taken in their order. All images and boxes are treated at once: the rule is
    applied to all boxes until nothing changes, which takes as many rounds as the longest chain of boxes of which each decides
    about the next, and not one round for each box.

    Args:
        boxes: [..., N, 4].
        scores: [..., N]; boxes with the score -inf do not exist.
        threshold: Largest overlap of two kept boxes.
        classes: Whole numbers [..., N]; None if all are of one class.
    """
    order = scores.argsort(dim=-1, descending=True, stable=True)
    ranked = boxes.gather(-2, order[..., None].expand_as(boxes))
    over = overlap(ranked, ranked) > threshold
    if classes is not None:
        label = classes.gather(-1, order)
        over &= label[..., :, None] == label[..., None, :]
    # Row i, column j: box j is better than box i and too close to it.
    over = over.tril(-1)
    real = scores.gather(-1, order) > -torch.inf
    kept, before = real, torch.zeros_like(real)
    while not torch.equal(kept, before):
        before, kept = kept, real & ~(over & kept[..., None, :]).any(dim=-1)
    return torch.zeros_like(kept).scatter(-1, order, kept)


def _centred(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Centres and sides, [..., 2] each."""
    low, high = boxes[..., :2], boxes[..., 2:]
    return (low + high) / 2, high - low
