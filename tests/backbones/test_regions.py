"""RoIAlign and RoIPool, by hand and against slow definitions."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from rlbench.backbones.layers.regions import roi_align, roi_pool


def regions(count: int, side: float = 64.0, seed: int = 0) -> Tensor:
    """Random boxes within an image."""
    generator = torch.Generator().manual_seed(seed)
    ends = side * torch.rand(count, 2, 2, generator=generator).sort(dim=1).values
    return ends.flatten(1)


def test_aligned_features_of_a_ramp_are_exact() -> None:
    """The map of an image whose value is its column, so that a bin should have the column of its centre."""
    image = torch.arange(64.0).expand(1, 1, 64, 64) + 0.5
    features = F.avg_pool2d(image, 8)
    boxes = 8 + 0.75 * regions(300)
    which = torch.zeros(300, dtype=torch.long)
    centres = (torch.arange(7) + 0.5) / 7
    expected = boxes[:, :1] + (boxes[:, 2:3] - boxes[:, :1]) * centres
    errors = {}
    for name, found in (
        ("aligned", roi_align(features, boxes, which, 8, 7)),
        ("first form", roi_align(features, boxes, which, 8, 7, half=False)),
        ("pooled", roi_pool(features, boxes, which, 8, 7)),
    ):
        assert found.shape == (300, 1, 7, 7)
        errors[name] = float((found[:, 0] - expected[:, None]).abs().mean())
    assert errors["aligned"] < 0.01
    assert errors["first form"] == pytest.approx(4, abs=0.2)
    assert errors["pooled"] > 2


def slowly_aligned(features: Tensor, box: Tensor, stride: float, bins: int, points: int) -> Tensor:
    """The definition, point by point."""
    channels, height, width = features.shape
    out = torch.zeros(channels, bins, bins)

    def value(y: float, x: float) -> Tensor:
        if not (-1 <= y <= height and -1 <= x <= width):
            return torch.zeros(channels)
        y, x = min(max(y, 0.0), height - 1), min(max(x, 0.0), width - 1)
        top, left = int(y), int(x)
        bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
        down, over = y - top, x - left
        upper = (1 - over) * features[:, top, left] + over * features[:, top, right]
        lower = (1 - over) * features[:, bottom, left] + over * features[:, bottom, right]
        return (1 - down) * upper + down * lower

    x1, y1, x2, y2 = (box / stride - 0.5).tolist()
    for i in range(bins):
        for j in range(bins):
            for a in range(points):
                for b in range(points):
                    y = y1 + (y2 - y1) * (i + (a + 0.5) / points) / bins
                    x = x1 + (x2 - x1) * (j + (b + 0.5) / points) / bins
                    out[:, i, j] += value(y, x) / points**2
    return out


def slowly_pooled(features: Tensor, box: Tensor, stride: float, bins: int) -> Tensor:
    """The definition, bin by bin."""
    channels, height, width = features.shape
    out = torch.zeros(channels, bins, bins)
    x1, y1, x2, y2 = (box / stride).round().long().tolist()
    high, wide = max(y2 - y1 + 1, 1) / bins, max(x2 - x1 + 1, 1) / bins
    for i in range(bins):
        for j in range(bins):
            top, bottom = y1 + int(i * high), y1 + -int(-(i + 1) * high // 1)
            left, right = x1 + int(j * wide), x1 + -int(-(j + 1) * wide // 1)
            part = features[:, max(top, 0) : min(bottom, height), max(left, 0) : min(right, width)]
            if part.numel():
                out[:, i, j] = part.amax((1, 2))
    return out


@pytest.mark.parametrize("seed", range(3))
def test_both_equal_their_definitions(seed: int) -> None:
    torch.manual_seed(seed)
    features = torch.randn(2, 3, 9, 7)
    boxes = 1.4 * regions(12, seed=seed) - 12  # Some reach beyond the map.
    image = torch.arange(12) % 2
    aligned = roi_align(features, boxes, image, 8, 3)
    pooled = roi_pool(features, boxes, image, 8, 3)
    for i, box in enumerate(boxes):
        torch.testing.assert_close(aligned[i], slowly_aligned(features[image[i]], box, 8, 3, 2))
        torch.testing.assert_close(pooled[i], slowly_pooled(features[image[i]], box, 8, 3))


def test_gradients_are_those_of_finite_differences() -> None:
    features = torch.randn(1, 2, 5, 6, dtype=torch.float64, requires_grad=True)
    boxes = regions(4, side=40).double()
    image = torch.zeros(4, dtype=torch.long)
    assert torch.autograd.gradcheck(lambda x: roi_align(x, boxes, image, 8, 2), features)


def test_a_map_of_one_cell_and_no_regions() -> None:
    features = torch.full((1, 2, 1, 1), 3.0)
    found = roi_align(features, torch.tensor([[0.0, 0, 8, 8]]), torch.tensor([0]), 8, 2)
    assert found.tolist() == [[[[3.0, 3.0], [3.0, 3.0]]] * 2]
    none = roi_align(features, torch.zeros(0, 4), torch.zeros(0, dtype=torch.long), 8, 2)
    assert none.shape == (0, 2, 2, 2)
