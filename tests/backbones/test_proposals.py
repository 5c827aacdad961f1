"""Region proposals: default boxes, drawn boxes, losses and recall by hand, exact resume, bad input."""

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from rlbench.backbones.layers.boxes import decode
from rlbench.backbones.models._detection import average_recalls
from rlbench.backbones.models._proposals import (
    CODE_SCALES,
    RATIOS,
    ProposalNetwork,
    draw,
    encoder_with_maps,
    level_of,
)
from rlbench.backbones.models.proposals import ProposalsConfig, RegionProposals
from rlbench.errors import UserError
from rlbench.experience import Examples
from tests.networks import equal, same, tensors
from tests.squares import SIDE, SPEC, examples

pytest.importorskip("pycocotools")

SMALL: dict[str, Any] = {
    "encoder": "conv4:width=8,layers=2,norm=gn", "strides": (4,), "sizes": (8.0, 12.0), "width": 8, "sampled": 16,
}  # fmt: skip


def make(seed: int = 0, spec: dict[str, Any] = SPEC, **settings: Any) -> RegionProposals:
    return RegionProposals(ProposalsConfig(**{**SMALL, **settings}), spec, seed=seed)


def found(model: RegionProposals, given: Examples) -> dict[str, Any]:
    with torch.no_grad():
        return {k: x.numpy() for k, x in model.measure(given).items()}


def test_a_single_map_has_the_default_boxes_of_all_sizes() -> None:
    network = make().proposals
    assert len(network.defaults) == 8 * 8 * 2 * 3
    side = network.defaults[:6, 2:] - network.defaults[:6, :2]
    root = math.sqrt(2)
    wanted = [
        [s * w, s * h] for s in (8, 12) for w, h in ((1 / root, root), (1, 1), (root, 1 / root))
    ]
    torch.testing.assert_close(side, torch.tensor(wanted))
    torch.testing.assert_close(side.prod(1).sqrt(), torch.tensor([8.0] * 3 + [12.0] * 3))


def test_each_of_several_maps_has_the_default_boxes_of_one_size() -> None:
    model = make(strides=(2, 4))
    network = model.proposals
    area = (network.defaults[:, 2:] - network.defaults[:, :2]).prod(1).sqrt()
    finer = 16 * 16 * len(RATIOS)
    torch.testing.assert_close(area[:finer], torch.full((finer,), 8.0))
    torch.testing.assert_close(area[finer:], torch.full((8 * 8 * len(RATIOS),), 12.0))
    # The same weights read both maps: a map of the same values gives the same answers.
    maps = {2: torch.ones(1, 8, 16, 16), 4: torch.ones(1, 8, 8, 8)}
    logits, codes = network(maps)
    assert logits[0, 7 * 16 * 3 + 7 * 3] == logits[0, finer + 3 * 8 * 3 + 3 * 3]
    assert torch.equal(codes[0, 7 * 16 * 3 + 21], codes[0, finer + 3 * 8 * 3 + 9])


def test_outputs_belong_to_the_default_boxes_of_their_cells() -> None:
    network = make().proposals
    with torch.no_grad():
        for layer in (network.slide, network.read):
            layer.weight.zero_()
        network.slide.weight[0, 0, 1, 1] = 1.0
        network.read.weight[:, 0, 0, 0] = 1.0
        network.read.bias = torch.nn.Parameter(100 * torch.arange(30.0))
    number = torch.arange(64.0).view(1, 1, 8, 8)
    logits, codes = network({4: torch.cat([number, torch.zeros(1, 7, 8, 8)], 1)})
    # Cell 9 is the second one of the second row; its default boxes have the numbers 54 to 59.
    for k in range(6):
        assert logits[0, 54 + k] == 9 + 100 * (5 * k + 4)
        assert codes[0, 54 + k].tolist() == [9 + 100 * (5 * k + i) for i in range(4)]
    centre = (network.defaults[54, :2] + network.defaults[54, 2:]) / 2
    assert centre.tolist() == [6.0, 6.0]


def test_drawn_boxes_have_their_number_and_share() -> None:
    torch.manual_seed(0)
    positive = torch.zeros(3, 100, dtype=torch.bool)
    positive[0, :40], positive[1, :3] = True, True
    negative = ~positive
    negative[2, 5:] = False
    some, others = draw(positive, negative, 20, 0.5)
    assert some.sum(1).tolist() == [10, 3, 0]
    assert others.sum(1).tolist() == [10, 17, 5]
    assert not (some & ~positive).any()
    assert not (others & ~negative).any()
    again, _ = draw(positive, negative, 20, 0.5)
    assert not torch.equal(some, again)


def test_the_loss_by_hand() -> None:
    model = make(sampled=1_000)
    network, given = model.proposals, examples(1)
    boxes, exist = given["boxes"], given["classes"] > 0
    count = len(network.defaults)
    logits = torch.linspace(-1, 1, count)[None]
    codes = torch.full((1, count, 4), 0.2)
    objectness, localisation = network.loss(logits, codes, boxes, exist)
    cross, distance, drawn = 0.0, 0.0, 0
    overlaps = torch.zeros(count)
    (real,) = boxes[0][exist[0]].tolist()
    for i, box in enumerate(network.defaults.tolist()):
        width = max(min(box[2], real[2]) - max(box[0], real[0]), 0)
        height = max(min(box[3], real[3]) - max(box[1], real[1]), 0)
        union = (box[2] - box[0]) * (box[3] - box[1]) + 64 - width * height
        overlaps[i] = width * height / union
    for i, box in enumerate(network.defaults.tolist()):
        positive = overlaps[i] >= 0.7 or i == int(overlaps.argmax())
        if not positive and overlaps[i] >= 0.3:
            continue
        drawn += 1
        p = 1 / (1 + math.exp(-float(logits[0, i])))
        cross -= math.log(p if positive else 1 - p)
        if positive:
            w, h = box[2] - box[0], box[3] - box[1]
            code = [
                ((real[0] + real[2]) / 2 - (box[0] + box[2]) / 2) / w,
                ((real[1] + real[3]) / 2 - (box[1] + box[3]) / 2) / h,
                math.log(8 / w), math.log(8 / h),
            ]  # fmt: skip
            for x in code:
                d = abs(0.2 - x)
                distance += d - 0.5 / 9 if d > 1 / 9 else 0.5 * 9 * d * d
    assert float(objectness) == pytest.approx(cross / drawn, rel=1e-4)
    assert float(localisation) == pytest.approx(distance / drawn, rel=1e-4)


def test_proposals_are_the_best_boxes_without_duplicates() -> None:
    network = make(proposals=3, candidates=384).proposals
    logits = torch.full((2, 384), -5.0)
    codes = torch.zeros(2, 384, 4, requires_grad=True)
    logits[0, 7 + 6 * 20], logits[0, 7 + 6 * 21], logits[0, 7 + 6 * 60] = 4.0, 3.0, 2.0
    proposals = network.propose(logits, codes)
    assert proposals.boxes.shape == (2, 3, 4)
    assert not proposals.boxes.requires_grad
    assert torch.equal(proposals.boxes[0, 0], network.defaults[127].clamp(0, SIDE))
    assert proposals.scores[0, 0] == pytest.approx(1 / (1 + math.exp(-4)))
    # Neighbours, 4 pixels apart, overlap by less than 0.7 and are both kept; a copy would not be.
    assert torch.equal(proposals.boxes[0, 1], network.defaults[133].clamp(0, SIDE))
    with torch.no_grad():
        codes[0, 133] = torch.tensor([-4 / 8, 0.0, 0.0, 0.0])
    moved = decode(codes[0, 133], network.defaults[133], CODE_SCALES)
    torch.testing.assert_close(moved, network.defaults[127])
    fewer = network.propose(logits, codes)
    assert torch.equal(fewer.boxes[0, 1], network.defaults[367].clamp(0, SIDE))


def test_boxes_outside_of_the_image_are_no_proposals() -> None:
    network = make(proposals=5, candidates=1).proposals
    logits, codes = torch.zeros(1, 384), torch.zeros(1, 384, 4)
    logits[0, 0] = 3.0
    codes[0, 0, 0] = -10.0
    found = network.propose(logits, codes)
    assert not found.exist.any()
    assert not found.boxes.any()


def test_a_box_belongs_to_the_map_that_suits_its_size() -> None:
    sides = torch.tensor([1.0, 7.9, 8.0, 15.9, 16.0, 60.0])
    boxes = torch.stack([torch.zeros(6), torch.zeros(6), sides, sides], 1)
    assert level_of(boxes, 2, 16.0).tolist() == [0, 0, 0, 0, 1, 1]
    assert level_of(boxes, 3, 16.0).tolist() == [0, 0, 1, 1, 2, 2]


def test_recall_by_hand() -> None:
    objects = np.array([[[0, 0, 4, 4, 1], [20, 20, 30, 30, 2]]], np.float64)
    exact = np.array([[[0, 0, 4, 4, 0.9], [0, 0, 0, 0, 0]]], np.float64)
    assert average_recalls(objects, exact) == {
        "recall": 0.5, "recall_small": 1.0, "recall_large": 0.0,
    }  # fmt: skip
    # An overlap of 72 / 100 is enough for 0.5, 0.55, 0.6, 0.65 and 0.7, half of the thresholds.
    near = np.array([[[20, 20, 30, 27.2, 0.9], [0, 0, 4, 4, 0.1]]], np.float64)
    assert average_recalls(objects, near)["recall_large"] == pytest.approx(0.5)
    assert average_recalls(objects, near)["recall"] == pytest.approx(0.75)
    assert average_recalls(objects, np.zeros_like(exact)) == {"recall": 0.0}


def test_a_model_that_has_learned_its_examples_finds_their_objects() -> None:
    model, given = make(learning_rate=1e-2, proposals=4), examples(8)
    before = model.summary(found(model, given))["recall"]
    for _ in range(100):
        model.learn(given)
    after = model.summary(found(model, given))["recall"]
    assert before < 0.3
    assert after > 0.6


def test_a_batch_without_objects_has_no_boxes_to_learn() -> None:
    model, given = make(), examples(4)
    none = {k: torch.zeros_like(given[k]) for k in ("boxes", "classes")}
    metrics = model.learn(Examples({**given.columns, **none}))
    assert metrics["localisation"] == 0
    assert metrics["objectness"] == pytest.approx(math.log(2), abs=0.05)


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
        ("learning_rate", 1e-2),
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
    ("setting", "value"), [("proposals", 3), ("candidates", 5), ("proposal_overlap", 0.1)]
)
def test_every_setting_of_proposals_has_an_effect(setting: str, value: Any) -> None:
    obs = examples()["obs"]
    usual, other = make().decide(obs), make(**{setting: value}).decide(obs)
    assert usual.shape != other.shape or not torch.equal(usual, other)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"strides": (2, 4), "sizes": (8.0,)}, "there are 2 strides and 1 sizes; give a size for each stride"),
        ({"strides": ()}, r"strides is \(\); give strides of maps"),
        ({"strides": (4, 2)}, "give each stride once, the smallest first"),
        ({"sizes": (0.5,)}, "give sides of boxes, from 1 to 1,000 pixels"),
        ({"strides": (16,)}, r"has maps with strides \[2, 4\]; give some of these"),
        ({"strides": (2,)}, "has layers that lead to none of these maps"),
        ({"encoder": "impala", "strides": (2, 4, 8), "sizes": (4.0, 8.0, 16.0)}, "but the network of proposals is shared"),
        ({"encoder": "flatten"}, "no pyramid of maps"),
        ({"sampled": 0}, "sampled is 0"),
        ({"proposal_overlap": 1.0}, "proposal_overlap is 1.0"),
    ],
)  # fmt: skip
def test_settings_that_do_not_fit_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make(**settings)


def test_the_encoders_maps_are_only_read() -> None:
    model = make(encoder="conv4:width=8,layers=2")
    _, maps = encoder_with_maps(model.config, model.objects)
    assert [*maps] == [4]
    assert not maps[4].requires_grad
    network = ProposalNetwork(maps, model.config, model.objects)
    assert F.relu(network.slide(maps[4])).shape == (1, 8, 8, 8)
