"""Average precision of detections: COCO's definition, and objects by size."""

from typing import Any

import numpy as np
import pytest
import torch

from rlbench.backbones.layers.boxes import overlap
from rlbench.backbones.models._detection import average_precisions

pytest.importorskip("pycocotools")


def slow_precision(objects: Any, found: Any, kind: int) -> float:
    """COCO's average precision at an overlap of 0.5: the best precision at 101 recalls and beyond."""
    true = [[box[:4] for box in image if box[4] == kind] for image in objects]
    used = [[False] * len(image) for image in true]
    ranked = sorted(
        ((d[4], i, d[:4]) for i, image in enumerate(found) for d in image if d[5] == kind),
        key=lambda x: -x[0],
    )
    hits = []
    for _, i, box in ranked:
        overlaps = [
            -1.0 if used[i][k] else float(overlap(torch.tensor(box)[None], torch.tensor(b)[None]))
            for k, b in enumerate(true[i])
        ]
        hit = bool(overlaps) and max(overlaps) >= 0.5
        if hit:
            used[i][int(np.argmax(overlaps))] = True
        hits.append(hit)
    right = np.cumsum(hits)
    recall, precision = right / sum(map(len, true)), right / np.arange(1, len(hits) + 1)
    return float(
        np.mean([max(precision[recall >= r], default=0.0) for r in np.linspace(0, 1, 101)])
    )


def test_average_precision_matches_its_definition() -> None:
    rng = np.random.default_rng(0)
    low = rng.integers(0, 20, (6, 4, 2))
    boxes = np.concatenate([low, low + rng.integers(7, 14, (6, 4, 2))], -1)
    objects = np.concatenate([boxes, rng.integers(0, 3, (6, 4, 1))], -1).astype(np.float32)
    moved = boxes + rng.integers(-1, 2, boxes.shape)
    score, kind = rng.random((6, 4, 1)), np.where(rng.random((6, 4, 1)) < 0.8, objects[..., 4:], 2)
    found = np.concatenate([moved, score, kind], -1).astype(np.float32)
    shown = average_precisions(objects, found, 3)
    each = [slow_precision(objects.tolist(), found.tolist(), k) for k in (1, 2)]
    assert 0.05 < min(each) < max(each) < 1
    assert [shown["ap_1"], shown["ap_2"]] == pytest.approx(each)
    assert shown["map"] == pytest.approx(sum(each) / 2), "class 3 does not occur"
    assert "ap_3" not in shown
    overlaps = overlap(torch.from_numpy(found[..., :4]), torch.from_numpy(objects[..., :4])).numpy()
    assert average_precisions(objects, found, 3, overlaps) == pytest.approx(shown)


def test_average_precision_by_size(capsys: pytest.CaptureFixture[str]) -> None:
    sides = (5, 6, 9, 10)
    objects = np.array([[[0, 0, side, side, 1]] for side in sides], np.float32)
    found = np.array([[[0, 0, side, side, 0.5, 1]] for side in sides], np.float32)
    perfect = average_precisions(objects, found, 1)
    assert perfect == pytest.approx(dict.fromkeys(perfect, 1.0))
    assert list(perfect) == ["map", "map_small", "map_medium", "map_large", "ap_1"]
    for missed, name in ((0, "map_small"), (3, "map_large")):
        fewer = found.copy()
        fewer[missed] = 0
        values = average_precisions(objects, fewer, 1)
        assert values[name] == 0
        assert min(values[x] for x in ("map_small", "map_medium", "map_large") if x != name) > 0.999
    half = found.copy()
    half[1] = 0
    assert 0.4 < average_precisions(objects, half, 1)["map_medium"] < 0.6
    assert "map_small" not in average_precisions(objects[1:], found[1:], 1)
    assert average_precisions(objects, np.zeros_like(found), 1) == {"map": 0.0}
    assert average_precisions(np.zeros_like(objects), found, 1) == {"map": 0.0}
    assert not capsys.readouterr().out, "COCO is silent"


def test_an_overlap_below_one_half_finds_nothing() -> None:
    objects = np.array([[[10, 10, 14, 14, 1]]], np.float32)
    for shift, precision in ((1, 1.0), (2, 0.0)):  # Overlaps of 3 / 5 and 2 / 6.
        found = np.array([[[10 + shift, 10, 14 + shift, 14, 0.5, 1]]], np.float32)
        assert average_precisions(objects, found, 1)["map"] == pytest.approx(precision)
