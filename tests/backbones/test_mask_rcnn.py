"""Mask R-CNN: masks, drawn regions, losses and average precisions by hand and by COCO's code, exact resume, bad input."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from rich.console import Console

from rlbench.backbones.layers.boxes import overlap
from rlbench.backbones.layers.regions import roi_align, roi_pool
from rlbench.backbones.models._detection import average_precisions
from rlbench.backbones.models._proposals import Proposals
from rlbench.backbones.models.mask_rcnn import (
    MaskRCNN,
    MaskRCNNConfig,
    changed,
    mask_loss,
    mask_overlaps,
    mask_targets,
    pasted,
)
from rlbench.benchmarks.training.config import RunConfig
from rlbench.benchmarks.training.runner import Run
from rlbench.errors import UserError
from rlbench.experience import Examples
from tests.kill_and_resume import assert_equal
from tests.networks import equal, same, tensors
from tests.squares import MOST, SIDE, SPEC, examples

pycocotools = pytest.importorskip("pycocotools")

SMALL: dict[str, Any] = {
    "encoder": "conv4:width=8,layers=2,norm=gn", "strides": (4,), "sizes": (8.0, 12.0), "width": 8, "sampled": 16,
    "candidates": 50, "proposals": 10, "regions": 8, "bins": 2, "hidden": (16,), "mask_width": 8, "mask_layers": 1,
    "detections": 4,
}  # fmt: skip


def make(seed: int = 0, spec: dict[str, Any] = SPEC, **settings: Any) -> MaskRCNN:
    return MaskRCNN(MaskRCNNConfig(**{**SMALL, **settings}), spec, seed=seed)


def score(model: MaskRCNN, given: Examples) -> Any:
    with torch.no_grad():
        return model.summary({k: x.numpy() for k, x in model.measure(given).items()})


def test_the_target_is_the_part_of_the_mask_inside_the_region() -> None:
    mask = torch.zeros(2, 16, 16, dtype=torch.bool)
    mask[:, 4:8, 4:12] = True
    boxes = torch.tensor([[4.0, 4.0, 12.0, 12.0], [4.0, 0.0, 12.0, 8.0]])
    target = mask_targets(mask, boxes, 8)
    assert target[0, :4].all()
    assert not target[0, 4:].any()
    assert target[1, 4:].all()
    assert not target[1, :4].any()


def test_the_loss_of_a_mask_by_hand() -> None:
    logits = torch.tensor([1.0, -2.0, 0.5]).view(1, 3, 1, 1)
    true = torch.tensor([[[True]]])
    label = torch.tensor([2])
    # Sigmoid: only the logit of class 2 counts.
    assert float(mask_loss(logits, true, label, "sigmoid")) == pytest.approx(
        math.log(1 + math.exp(2))
    )
    assert float(mask_loss(logits, ~true, label, "sigmoid")) == pytest.approx(
        math.log(1 + math.exp(-2))
    )
    # Softmax: channel 0 is "no object", and class 2 is channel 2.
    total = math.exp(1) + math.exp(-2) + math.exp(0.5)
    assert float(mask_loss(logits, true, label, "softmax")) == pytest.approx(math.log(total) - 0.5)
    assert float(mask_loss(logits, ~true, label, "softmax")) == pytest.approx(math.log(total) - 1)
    none = mask_loss(logits[:0], true[:0], label[:0], "sigmoid")
    assert none == 0


def test_masks_are_pasted_where_their_boxes_are() -> None:
    whole = pasted(torch.ones(1, 4, 4), torch.tensor([[2.0, 3.0, 6.0, 9.0]]), (12, 10))
    wanted = torch.zeros(1, 12, 10)
    wanted[0, 3:9, 2:6] = 1.0
    torch.testing.assert_close(whole, wanted)
    # A mask as large as its box is copied, and cells of two pixels are interpolated between their centres.
    mask = torch.arange(16.0).view(1, 4, 4)
    copied = pasted(mask, torch.tensor([[1.0, 2.0, 5.0, 6.0]]), (8, 8))
    torch.testing.assert_close(copied[0, 2:6, 1:5], mask[0])
    doubled = pasted(mask, torch.tensor([[0.0, 0.0, 8.0, 8.0]]), (8, 8))
    assert doubled[0, 0, :4].tolist() == [0.0, 0.25, 0.75, 1.25]
    assert not pasted(mask, torch.zeros(1, 4), (8, 8)).any()


def test_overlaps_of_masks_as_in_coco() -> None:
    from pycocotools import mask as coco_masks

    torch.manual_seed(0)
    found, instances = torch.rand(1, 3, 9, 7) > 0.5, torch.randint(0, 3, (1, 9, 7))

    def coded(x: Any) -> Any:
        return coco_masks.encode(np.asfortranarray(x.numpy().astype(np.uint8)))

    ours = mask_overlaps(found, instances, 2)[0]
    theirs = coco_masks.iou(
        [coded(x) for x in found[0]], [coded(instances[0] == k) for k in (1, 2)], [0, 0]
    )
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_given_overlaps_take_the_place_of_those_of_boxes() -> None:
    rng = np.random.default_rng(0)
    low = rng.integers(0, 20, (30, 3, 2))
    true = np.concatenate([low, low + rng.integers(4, 12, (30, 3, 2))], -1).astype(np.float64)
    objects = np.concatenate([true, rng.integers(0, 3, (30, 3, 1))], -1)
    guess = np.repeat(true, 2, 1) + rng.normal(0, 1, (30, 6, 4))
    given = np.concatenate([guess, rng.random((30, 6, 1)), rng.integers(0, 3, (30, 6, 1))], -1)
    boxes = overlap(torch.from_numpy(guess), torch.from_numpy(true)).numpy()
    both = (0.5, 0.75)
    usual = average_precisions(objects, given, 2, thresholds=both)
    assert usual == pytest.approx(average_precisions(objects, given, 2, boxes, both))
    assert 0 < usual["map_75"] < usual["map"] < 1
    assert average_precisions(objects, given, 2, 0 * boxes, both)["map"] == 0
    assert average_precisions(objects, 0 * given, 2, boxes, both) == {"map": 0.0, "map_75": 0.0}


def test_regions_are_drawn_with_their_classes_boxes_and_masks() -> None:
    model, given = make(regions=8), examples(2)
    boxes = given["boxes"]
    far = torch.tensor([[[0.0, 0.0, 1.0, 1.0]] * 7] * 2)
    candidates = Proposals(
        torch.cat([far, boxes], 1), torch.cat([torch.ones(2, 7), (given["classes"] > 0).float()], 1)
    )
    torch.manual_seed(0)
    image, region, label, code, masks = model._drawn(candidates, given)
    # A quarter of 8 may be positive; the first image has one object, the second two.
    assert image.bincount().tolist() == [8, 8]
    assert (label > 0).reshape(2, 8).sum(1).tolist() == [1, 2]
    for i, own, k, shown in zip(image, region, label, masks, strict=True):
        if k:
            assert torch.equal(own, boxes[i, k - 1])
            assert torch.equal(shown, given["instances"][i] == k)
        else:
            assert torch.equal(own, far[0, 0])
    assert not code.any()


def test_a_region_is_read_from_the_map_that_suits_its_size() -> None:
    model = make(strides=(2, 4))
    maps = {2: torch.rand(2, 8, 16, 16), 4: torch.rand(2, 8, 8, 8)}
    boxes = torch.tensor([[0.0, 0.0, 20.0, 20.0], [3.0, 3.0, 8.0, 8.0], [4.0, 4.0, 17.0, 17.0]])
    image = torch.tensor([1, 0, 0])
    found = model.pooled(maps, boxes, image, 3)
    for i, stride in enumerate((4, 2, 4)):
        wanted = roi_align(maps[stride], boxes[i : i + 1], image[i : i + 1], stride, 3)
        assert torch.equal(found[i : i + 1], wanted)
    pool = make(strides=(2, 4), pooling="pool").pooled(maps, boxes, image, 3)
    assert torch.equal(pool[1:2], roi_pool(maps[2], boxes[1:2], image[1:2], 2, 3))


def test_true_boxes_are_changed_within_the_image() -> None:
    torch.manual_seed(0)
    boxes = torch.tensor([[4.0, 4.0, 14.0, 24.0]]).repeat(2_000, 1)[None]
    exist = torch.ones(1, 2_000, dtype=torch.bool)
    exist[0, 0] = False
    found = changed(boxes, exist, (SIDE, SIDE))
    assert not found.boxes[0, 0].any()
    assert found.scores[0].sum() == 1_999
    side = (found.boxes[..., 2:] - found.boxes[..., :2])[0, 1:]
    centre = ((found.boxes[..., 2:] + found.boxes[..., :2]) / 2)[0, 1:]
    torch.testing.assert_close(centre.std(0), torch.tensor([1.0, 2.0]), atol=0.1, rtol=0)
    torch.testing.assert_close(side.log().std(0), torch.tensor([0.1, 0.1]), atol=0.01, rtol=0)
    assert found.boxes.min() >= 0
    assert found.boxes.max() <= SIDE


@pytest.mark.parametrize("source", ["true-boxes", "proposals"])
def test_a_model_that_has_learned_its_examples_finds_their_masks(source: str) -> None:
    model, given = make(learning_rate=1e-2, source=source, bins=3), examples(8)
    before = score(model, given)
    for _ in range(120):
        model.learn(given)
    after = score(model, given)
    assert before["mask_map"] < 0.4
    assert after["mask_map"] > 0.75
    assert after["map"] > 0.75
    assert after["mask_map_75"] <= after["mask_map"]


def test_detections_have_masks_inside_their_boxes() -> None:
    model, given = make(least_score=0.01), examples()
    found, masks = model.detect(given["obs"])
    assert found.shape == (8, 4, 6)
    assert masks.shape == (8, 4, SIDE, SIDE)
    assert torch.equal(model.decide(given["obs"]), found)
    rows, columns = torch.arange(SIDE)[:, None] + 0.5, torch.arange(SIDE) + 0.5
    for (x1, y1, x2, y2, _, label), mask in zip(
        found.flatten(0, 1), masks.flatten(0, 1), strict=True
    ):
        inside = (rows > y1) & (rows < y2) & (columns > x1) & (columns < x2)
        assert not (mask & ~inside).any()
        assert label > 0 or not mask.any()


def test_a_batch_without_objects_teaches_no_boxes_and_masks() -> None:
    model, given = make(), examples(4)
    none = {k: torch.zeros_like(given[k]) for k in ("boxes", "classes", "instances")}
    metrics = model.learn(Examples({**given.columns, **none}))
    assert metrics["localisation"] == metrics["mask"] == 0
    assert metrics["classification"] > 0
    no_regions = make(source="true-boxes").learn(Examples({**given.columns, **none}))
    assert no_regions["loss"] == 0


def test_resume_is_exact() -> None:
    whole, half, rest = (make() for _ in range(3))
    for seed in range(4):
        whole.learn(examples(seed=seed))
    for seed in range(2):
        half.learn(examples(seed=seed))
    rest.load_state_dict(half.state_dict())
    for seed in (2, 3):
        rest.learn(examples(seed=seed))
    assert equal(whole, rest)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("encoder", "conv4:width=6,layers=2"), ("strides", (2, 4)), ("sizes", (6.0, 12.0)), ("sampled", 8), ("width", 6),
        ("candidates", 5), ("proposals", 2), ("proposal_overlap", 0.1), ("source", "true-boxes"), ("pooling", "pool"),
        ("pooling", "misaligned"), ("mask_loss", "softmax"), ("regions", 4), ("bins", 3), ("hidden", (8,)), ("mask_width", 6),
        ("mask_layers", 2), ("learning_rate", 1e-2),
    ],
)  # fmt: skip
def test_every_setting_of_learning_has_an_effect(setting: str, value: Any) -> None:
    states = []
    for settings in ({}, {setting: value}):
        model = make(**settings)
        model.learn(examples())
        states.append(tensors(model.state_dict()))
    assert not same(*states)


@pytest.mark.parametrize(
    ("setting", "value"),
    [("least_score", 0.4), ("suppress_overlap", 0.05), ("detections", 3), ("mask_loss", "softmax")],
)
def test_every_setting_of_detections_has_an_effect(setting: str, value: Any) -> None:
    obs = examples()["obs"]
    usual, other = make().detect(obs), make(**{setting: value}).detect(obs)
    assert usual[0].shape != other[0].shape or not all(map(torch.equal, usual, other))


@pytest.mark.parametrize(
    ("spec", "settings", "message"),
    [
        ({k: x for k, x in SPEC.items() if k != "instances"}, {}, r"a column `instances` \[32, 32\]"),
        (SPEC | {"instances": Box(0, MOST, (8, 8), np.uint8)}, {}, "the examples have no pixels of objects"),
        ({"obs": SPEC["obs"]}, {}, "the examples have no objects"),
        (SPEC, {"strides": (2, 4), "sizes": (8.0,)}, "there are 2 strides and 1 sizes"),
        (SPEC, {"pooling": "mean"}, "pooling is 'mean'"),
        (SPEC, {"bins": 0}, "bins is 0"),
        (SPEC, {"least_score": 1.0}, "least_score is 1.0"),
    ],
)  # fmt: skip
def test_columns_and_settings_that_do_not_fit_are_refused(
    spec: dict[str, Any], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        make(spec=spec, **settings)


def test_a_stopped_run_is_resumed_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(out: str) -> Run:
        config = RunConfig(
            env="tests.squares:Squares", updates=4, eval_every=2, checkpoint_every=2, log_every=1, out=tmp_path / out
        )  # fmt: skip
        return Run("mask-rcnn", MaskRCNNConfig(**SMALL, batch_size=8), config, Console(quiet=True))

    run("whole").start()
    usual, calls = MaskRCNN.learn, iter(range(4))

    def broken(model: MaskRCNN, given: Examples) -> Any:
        if next(calls) == 3:
            raise RuntimeError
        return usual(model, given)

    with monkeypatch.context() as patch:
        patch.setattr(MaskRCNN, "learn", broken)
        with pytest.raises(RuntimeError):
            run("broken").start()
    assert Run.resume(tmp_path / "broken", Console(quiet=True), trust=True).finish() == 2
    assert_equal(tmp_path / "whole", tmp_path / "broken")
    found = run("whole").folder.last_evaluation()
    assert found["mask_map"].shape == found["map"].shape == (1,)
    assert found["mask_overlaps"].shape == (8, 4, MOST)
    assert found["detections"].shape == (8, 4, 6)
