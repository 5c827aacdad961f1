"""Features of regions: RoIAlign, and RoIPool, which it replaced.

    RoIAlign    a box of P x P bins; in each bin S x S regularly spaced points; the value of a bin is the mean of the map at these
                points, interpolated bilinearly
    RoIPool     edges of the box and of its bins are rounded to whole cells; the value of a bin is the maximum of its cells

The centre of cell (i, j) of a map with stride s lies at ((j + 0.5) s, (i + 0.5) s) in the image, so a point x of the image is x / s - 0.5
in the map. Without the 0.5, as in the first code of RoIAlign, features are shifted by half a cell.

He et al., 2017, https://arxiv.org/abs/1703.06870, section 3; RoIPool: Girshick, 2015, https://arxiv.org/abs/1504.08083.
"""

import torch
from torch import Tensor


def roi_align(
    features: Tensor,
    boxes: Tensor,
    image: Tensor,
    stride: float,
    bins: int,
    points: int = 2,
    *,
    half: bool = True,
) -> Tensor:
    """Features of regions by RoIAlign, [R, C, bins, bins].

    Args:
        features: Maps, [B, C, H, W].
        boxes: Regions in pixels of the image, [R, 4].
        image: Number of each region's image in the batch, int64 [R].
        stride: Pixels of the image per cell of the map.
        bins: Bins along a side, P.
        points: Points along a side of a bin, S.
        half: Whether the centre of a cell is half a cell from its edge; False is the first, misaligned form.
    """
    n = bins * points
    share = (torch.arange(n, dtype=boxes.dtype, device=boxes.device) + 0.5) / n
    low, side = boxes[:, :2, None], (boxes[:, 2:] - boxes[:, :2])[..., None]
    at = (low + side * share) / stride - (0.5 if half else 0.0)  # [R, 2, n]: x, then y.
    rows, columns = (
        interpolation(at[:, axis], count).unflatten(1, (bins, points)).mean(2)
        for axis, count in ((1, features.shape[2]), (0, features.shape[3]))
    )
    # Interpolation is a product with one matrix for each axis, and the mean over points is part of the matrices.
    own = features.permute(0, 2, 3, 1).flatten(2).index_select(0, image)  # [R, H, W * C]
    found = (rows @ own).unflatten(2, (features.shape[3], -1)).transpose(1, 2).flatten(2)
    means: Tensor = (columns @ found).unflatten(
        2, (bins, -1)
    )  # [R, bins, bins, C]: columns, then rows.
    return means.permute(0, 3, 2, 1)


def interpolation(at: Tensor, count: int) -> Tensor:
    """Weights of `count` cells in a linear interpolation at points, [..., count].

    At points up to one cell outside, the first or last cell has the weight 1; farther outside all weights are 0.

    >>> interpolation(torch.tensor([0.0, 1.25, -0.5, -1.5]), 3)
    tensor([[1.0000, 0.0000, 0.0000],
            [0.0000, 0.7500, 0.2500],
            [1.0000, 0.0000, 0.0000],
            [0.0000, 0.0000, 0.0000]])

    Args:
        at: Points, [...]; the centre of cell k is at k.
        count: Number of cells.
    """
    inside = (at >= -1) & (at <= count)
    cell = torch.arange(count, dtype=at.dtype, device=at.device)
    near = 1 - (at.clamp(0, count - 1)[..., None] - cell).abs()
    return near.clamp(min=0) * inside[..., None]


def roi_pool(features: Tensor, boxes: Tensor, image: Tensor, stride: float, bins: int) -> Tensor:
    """Features of regions by RoIPool, [R, C, bins, bins]; 0 in bins outside the map. See `roi_align`."""
    height, width = features.shape[2:]
    edges = (boxes / stride).round()
    low, high = edges[:, :2], edges[:, 2:] + 1  # The last cell belongs to the region.
    masks = [
        _cells_of_bins(low[:, axis], high[:, axis], bins, count)
        for axis, count in ((1, height), (0, width))
    ]
    found = features[image]
    for axis, mask in zip((2, 3), masks, strict=True):
        # [R, C, bins, H, W], then [R, C, bins, bins, W]: the largest along one axis after the other.
        shape = (len(mask), 1, bins, -1, 1) if axis == 2 else (len(mask), 1, 1, bins, -1)
        spread = found[:, :, None] if axis == 2 else found[:, :, :, None]
        found = spread.masked_fill(~mask.view(shape), -torch.inf).amax(axis + 1)
    return found.masked_fill(found == -torch.inf, 0.0)


def _cells_of_bins(low: Tensor, high: Tensor, bins: int, count: int) -> Tensor:
    """Which of `count` cells each bin of the regions [R] covers along one axis, bool [R, bins, count]."""
    side = (high - low).clamp(min=1) / bins
    number = torch.arange(bins, device=low.device)
    begin = (low[:, None] + (number * side[:, None]).floor())[..., None]
    end = (low[:, None] + ((number + 1) * side[:, None]).ceil())[..., None]
    cell = torch.arange(count, device=low.device)
    return (cell >= begin) & (cell < end)
