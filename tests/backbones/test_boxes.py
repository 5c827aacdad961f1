"""Operations on boxes, by hand and against slow definitions."""

import math

import pytest
import torch
from torch import Tensor

from rlbench.backbones.layers.boxes import (
    IGNORED,
    NONE,
    area,
    clip,
    decode,
    default_boxes,
    encode,
    match,
    overlap,
    suppress,
)

SSD = (0.1, 0.2)


def random_boxes(*shape: int, seed: int = 0) -> Tensor:
    """Boxes with sides of 1 to 21 pixels within 60 pixels."""
    generator = torch.Generator().manual_seed(seed)
    low = 40 * torch.rand(*shape, 2, generator=generator)
    side = 1 + 20 * torch.rand(*shape, 2, generator=generator)
    return torch.cat([low, low + side], dim=-1)


def test_overlaps_by_hand() -> None:
    boxes = torch.tensor([[0.0, 0, 2, 2], [1, 1, 3, 3], [5, 5, 6, 6], [4, 4, 4, 4]])
    found = overlap(boxes, boxes)
    assert found[0].tolist() == pytest.approx([1, 1 / 7, 0, 0])
    assert found[3].tolist() == [0, 0, 0, 0]
    assert area(torch.tensor([[0.0, 0, 2, 3], [2, 0, 0, 3]])).tolist() == [6, 0]


def test_overlaps_are_shares_of_pixels() -> None:
    boxes = random_boxes(6).round()
    y, x = torch.meshgrid(torch.arange(80) + 0.5, torch.arange(80) + 0.5, indexing="ij")
    masks = [(x > b[0]) & (x < b[2]) & (y > b[1]) & (y < b[3]) for b in boxes]
    expected = [[float((a & b).sum() / (a | b).sum()) for b in masks] for a in masks]
    torch.testing.assert_close(overlap(boxes, boxes), torch.tensor(expected))
    batch = torch.stack([boxes, boxes.flip(0)])
    torch.testing.assert_close(overlap(batch, batch)[1], overlap(boxes, boxes).flip(0, 1))


def test_codes_by_hand_and_back() -> None:
    default = torch.tensor([[10.0, 10, 30, 20]])
    box = torch.tensor([[14.0, 10, 34, 30]])
    # Centre (24, 20) instead of (20, 15); sides 20 x 20 instead of 20 x 10.
    expected = [4 / 20 / 0.1, 5 / 10 / 0.1, 0, math.log(2) / 0.2]
    assert encode(box, default, SSD)[0].tolist() == pytest.approx(expected)
    boxes, defaults = random_boxes(3, 7), random_boxes(3, 7, seed=1)
    torch.testing.assert_close(decode(encode(boxes, defaults, SSD), defaults, SSD), boxes)
    huge = decode(torch.tensor([[0.0, 0, 1e4, 0]]), default, SSD)
    assert float(huge[0, 2] - huge[0, 0]) == pytest.approx(20 * 62.5)


def test_boxes_are_cut_at_the_edges() -> None:
    found = clip(torch.tensor([[-3.0, 2, 70, 50]]), (40, 64))
    assert found.tolist() == [[0, 2, 64, 40]]


def test_default_boxes_by_hand() -> None:
    found = default_boxes((1, 2), 8, torch.tensor([[4.0, 2], [8, 8]]))
    assert found.tolist() == [[2, 3, 6, 5], [0, 0, 8, 8], [10, 3, 14, 5], [8, 0, 16, 8]]


def test_matches_by_hand() -> None:
    overlaps = torch.tensor([[[0.6, 0.1], [0.45, 0.2], [0.1, 0.3], [0.7, 0.8]]])
    exists = torch.ones(1, 2, dtype=torch.bool)
    found = match(overlaps, exists, 0.5, 0.4, forced=False)
    assert found.tolist() == [[0, IGNORED, NONE, 1]]
    assert match(overlaps, exists, 0.5, 0.5, forced=False).tolist() == [[0, NONE, NONE, 1]]
    only_second = torch.tensor([[False, True]])
    assert match(overlaps, only_second, 0.5, 0.5, forced=False).tolist() == [[NONE] * 3 + [1]]


def test_every_true_box_has_a_match_if_forced() -> None:
    overlaps = torch.tensor([[[0.3, 0.2], [0.1, 0.1], [0.2, 0.0]]])
    exists = torch.ones(1, 2, dtype=torch.bool)
    # Both want the first; the one that overlaps more has it.
    assert match(overlaps, exists, 0.5, 0.5, forced=True).tolist() == [[0, NONE, NONE]]
    weak = torch.tensor([[[0.9, 0.1], [0.6, 0.0]]])
    # A forced match counts more than a larger overlap with another box only if nothing else wants it.
    assert match(weak, exists, 0.5, 0.5, forced=True).tolist() == [[0, 0]]
    assert match(weak.flip(1), exists, 0.5, 0.5, forced=True).tolist() == [[0, 0]]
    nothing = torch.zeros(1, 2, dtype=torch.bool)
    assert match(weak, nothing, 0.5, 0.5, forced=True).tolist() == [[NONE, NONE]]
    assert match(torch.zeros(1, 3, 0), nothing[:, :0], 0.5, 0.5, forced=True).tolist() == [
        [NONE] * 3
    ]


def one_after_the_other(boxes: Tensor, scores: Tensor, threshold: float, classes: Tensor) -> Tensor:
    """The definition of non-maximum suppression."""
    kept: list[int] = []
    overlaps = overlap(boxes, boxes).tolist()
    for i in scores.argsort(descending=True, stable=True).tolist():
        close = (classes[i] == classes[j] and overlaps[i][j] > threshold for j in kept)
        if scores[i] > -math.inf and not any(close):
            kept.append(i)
    return torch.zeros(len(boxes), dtype=torch.bool).index_fill(0, torch.tensor(kept), True)


@pytest.mark.parametrize("seed", range(2))
def test_suppression_keeps_what_the_definition_keeps(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    boxes = random_boxes(2, 120, seed=seed)
    scores = (20 * torch.rand(2, 120, generator=generator)).floor()  # With ties.
    scores[:, :5] = -math.inf
    classes = torch.randint(3, (2, 120), generator=generator)
    for threshold in (0.1, 0.5):
        found = suppress(boxes, scores, threshold, classes)
        one = suppress(boxes, scores, threshold)
        for i in range(2):
            given = (boxes[i], scores[i], threshold)
            assert found[i].equal(one_after_the_other(*given, classes[i]))
            assert one[i].equal(one_after_the_other(*given, torch.zeros(120)))
        assert 5 < int(one[0].sum()) < int(found[0].sum()) < 115


def test_a_chain_of_boxes_decides_one_by_one() -> None:
    """Each box overlaps only with its neighbours, so that every second one is kept."""
    left = torch.arange(20.0)
    boxes = torch.stack([left, torch.zeros(20), left + 1.5, torch.ones(20)], dim=-1)
    kept = suppress(boxes, -left, 0.1)
    assert kept.tolist() == [True, False] * 10
