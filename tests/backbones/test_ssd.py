"""SSD: default boxes, matching, losses and detections by hand, average precision against COCO's rule, exact resume, bad input."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete, MultiDiscrete
from rich.console import Console
from torch import Tensor

from rlbench.backbones.layers.boxes import decode
from rlbench.backbones.layers.single_shot import (
    BOXES,
    CODE_SCALES,
    SSDHead,
    default_sides,
    detections,
)
from rlbench.backbones.models.ssd import SSD, SSDConfig, hard_negatives, losses, targets
from rlbench.benchmarks.training.config import RunConfig
from rlbench.benchmarks.training.runner import Run
from rlbench.envs.examples._objects import object_fields
from rlbench.errors import UserError
from rlbench.experience import Examples
from tests.kill_and_resume import assert_equal
from tests.networks import equal, same, tensors
from tests.squares import CLASSES, MOST, SIDE, SPEC, examples

pytest.importorskip("pycocotools")

SMALL: dict[str, Any] = {
    "encoder": "conv4:width=8,layers=4,norm=gn", "maps": 2, "scales": 2, "smallest_scale": 0.2, "largest_scale": 0.4,
}  # fmt: skip


def make(seed: int = 0, spec: dict[str, Any] = SPEC, **settings: Any) -> SSD:
    return SSD(SSDConfig(**{**SMALL, **settings}), spec, seed=seed)


def test_default_boxes_by_hand() -> None:
    sides = default_sides(4, 0.1, 0.8)
    assert sides.shape == (4, BOXES, 2)
    step = 0.7 / 3
    for k in range(4):
        s, after = 0.1 + k * step, 0.1 + (k + 1) * step
        root = math.sqrt(2)
        wanted = [[s, s], [s * root, s / root], [s / root, s * root], [math.sqrt(s * after)] * 2]
        torch.testing.assert_close(sides[k], torch.tensor(wanted))
    spec = dict(object_fields(64, 64, MOST, CLASSES))
    model = SSD(SSDConfig(encoder="conv4:width=4,layers=5"), spec)
    head = model.head
    assert head.strides == [4, 8, 16, 32]
    assert len(head.defaults) == 4 * (16**2 + 8**2 + 4**2 + 2**2) == 1_360
    # The second cell of the first row of the finest map, and the last cell of the coarsest.
    torch.testing.assert_close(head.defaults[4], torch.tensor([6 - 3.2, 2 - 3.2, 6 + 3.2, 2 + 3.2]))
    half = math.sqrt(0.8 * (0.8 + step)) * 32
    torch.testing.assert_close(
        head.defaults[-1], torch.tensor([48 - half, 48 - half, 48 + half, 48 + half])
    )


def test_maps_share_the_scales() -> None:
    maps = {8: torch.zeros(1, 5, 2, 2), 4: torch.zeros(1, 3, 4, 4)}
    sides = default_sides(3, 0.1, 0.5)
    head = SSDHead(maps, sides, CLASSES)
    assert head.strides == [4, 8]
    outputs = [len(dict(x.named_parameters())["bias"]) for x in head.convolutions]
    assert outputs == [2 * BOXES * (CLASSES + 5), BOXES * (CLASSES + 5)]
    width = head.defaults[:, 2] - head.defaults[:, 0]
    torch.testing.assert_close(width[: 2 * BOXES], sides[:2, :, 0].flatten())
    torch.testing.assert_close(width[-BOXES:], sides[2, :, 0])


def test_outputs_belong_to_the_default_boxes_of_their_cells() -> None:
    maps = {8: torch.zeros(1, 1, 2, 3)}
    head = SSDHead(maps, default_sides(1, 0.1, 0.2), CLASSES)
    (convolution,) = head.convolutions
    assert isinstance(convolution, torch.nn.Conv2d)
    with torch.no_grad():
        convolution.weight.zero_()
        convolution.weight[:, 0, 1, 1] = 1.0  # The value of the cell itself ...
        convolution.bias = torch.nn.Parameter(torch.arange(28.0) * 100)
        number = torch.arange(6.0).view(1, 1, 2, 3)
        scores, codes = head({8: number})
    joined = torch.cat([codes, scores], -1)[0].view(6, BOXES, 7)
    for cell in range(6):  # ... and of its box and output.
        torch.testing.assert_close(joined[cell].flatten(), torch.arange(28.0) * 100 + cell)
    centre = (head.defaults[:, :2] + head.defaults[:, 2:]) / 2
    assert centre[4 * BOXES].tolist() == [12, 12]


def test_targets_by_hand() -> None:
    defaults = torch.tensor([[0.0, 0, 8, 8], [4, 0, 12, 8], [20, 20, 30, 30], [0, 20, 4, 24]])
    boxes = torch.tensor([[[1.0, 0, 8, 8], [24, 24, 30, 30], [0, 0, 0, 0]], [[0, 0, 0, 0]] * 3])
    classes = torch.tensor([[2, 1, 0], [0, 0, 0]])
    label, code = targets(boxes, classes, defaults, 0.5)
    # The second object overlaps by 0.36 only, and is forced; the second default box overlaps by 4 / 11 with the first object.
    assert label.tolist() == [[2, 0, 1, 0], [0, 0, 0, 0]]
    assert code.isfinite().all()
    torch.testing.assert_close(
        code[0, 0], torch.tensor([0.5 / 8 / 0.1, 0, math.log(7 / 8) / 0.2, 0])
    )
    torch.testing.assert_close(decode(code[0, 2], defaults[2], CODE_SCALES), boxes[0, 1])
    assert targets(boxes, classes, defaults, 0.3)[0].tolist() == [[2, 2, 1, 0], [0, 0, 0, 0]]


def slow_losses(
    logits: Tensor, codes: Tensor, label: Tensor, code: Tensor, ratio: float
) -> tuple[float, float]:
    """Classification and localisation, box by box."""
    classification = localisation = matches = 0.0
    for i in range(len(label)):
        negatives = []
        for n in range(label.shape[1]):
            cross = -math.log(float(logits[i, n].softmax(0)[label[i, n]]))
            if label[i, n] == 0:
                negatives.append(cross)
                continue
            matches += 1
            classification += cross
            for d in (codes[i, n] - code[i, n]).tolist():
                localisation += 0.5 * d * d if abs(d) < 1 else abs(d) - 0.5
        count = int(ratio * int((label[i] > 0).sum()))
        classification += sum(sorted(negatives, reverse=True)[:count])
    return classification / matches, localisation / matches


def test_losses_match_their_definition() -> None:
    torch.manual_seed(0)
    logits, codes, code = torch.randn(3, 20, 4), torch.randn(3, 20, 4), 2 * torch.randn(3, 20, 4)
    label = torch.randint(0, 4, (3, 20)) * (torch.rand(3, 20) < 0.2)
    label[2] = 0
    found = losses(logits, codes, label, code, "hard", 3.0)
    wanted = slow_losses(logits, codes, label, code, 3.0)
    count = float(found.matches.sum())
    assert float(found.classification.sum()) / count == pytest.approx(wanted[0], rel=1e-5)
    assert float(found.localisation.sum()) / count == pytest.approx(wanted[1], rel=1e-5)
    assert found.classification[2] == found.localisation[2] == 0, "no objects, no loss"
    every = losses(logits, codes, label, code, "none", 3.0)
    cross = torch.nn.functional.cross_entropy(logits.flatten(0, 1), label.flatten())
    torch.testing.assert_close(every.classification.sum() / every.classified.sum(), cross)


def test_hard_negatives_are_negatives_even_if_there_are_few() -> None:
    matched = torch.tensor([[True, True, False, True]])
    assert torch.equal(hard_negatives(torch.rand(1, 4), matched, 3.0), ~matched)


def test_an_update_reports_the_losses_of_its_batch() -> None:
    model, given = make(box_weight=0.5), examples(3)
    with torch.no_grad():
        logits, codes = model.predicted(given["obs"])
    wanted = targets(given["boxes"], given["classes"], model.head.defaults, 0.5)
    label, code = (x.split(1) for x in wanted)
    each = [
        slow_losses(a, b, c, d, 3.0)
        for a, b, c, d in zip(logits.split(1), codes.split(1), label, code, strict=True)
    ]
    measured = model.measure(given)["loss"]
    assert measured.tolist() == pytest.approx([a + 0.5 * b for a, b in each], rel=1e-4)
    together = slow_losses(logits, codes, *wanted, 3.0)
    found = model.learn(given)
    shown = [float(found[x]) for x in ("classification", "localisation", "loss", "matches")]
    matches = float((wanted[0] > 0).sum()) / 3
    expected = [*together, together[0] + 0.5 * together[1], matches]
    assert shown == pytest.approx(expected, rel=1e-4)


def test_detections_by_hand() -> None:
    boxes = torch.tensor([[[0.0, 0, 10, 10], [1, 0, 11, 10], [20, 20, 30, 30], [0, 0, 1, 1]]])
    scores = torch.tensor([[[0.9, 0.3], [0.8, 0.1], [0.2, 0.6], [0.01, 0.005]]])
    found = detections(boxes, scores, 0.01, 0.45, 8, 6)
    # The second box is suppressed in both classes, and the last has no score above 0.01.
    assert found.shape == (1, 6, 6)
    rows = [
        [0, 0, 10, 10, 0.9, 1],
        [20, 20, 30, 30, 0.6, 2],
        [0, 0, 10, 10, 0.3, 2],
        [20, 20, 30, 30, 0.2, 1],
    ]
    torch.testing.assert_close(found[0, :4], torch.tensor(rows))
    assert not found[0, 4:].any()
    torch.testing.assert_close(
        detections(boxes, scores, 0.01, 0.45, 8, 2)[0], torch.tensor(rows[:2])
    )
    few = detections(boxes, scores, 0.01, 0.45, 2, 3)[0]  # Only the two best pairs are considered.
    torch.testing.assert_close(few, torch.tensor([rows[0], [0.0] * 6, [0.0] * 6]))
    loose = detections(boxes, scores, 0.01, 0.95, 8, 6)[0]
    assert loose[1, :4].tolist() == [1, 0, 11, 10]


def test_a_model_that_has_learned_its_examples_finds_their_objects() -> None:
    model, given = make(learning_rate=1e-2), examples(8)
    with torch.no_grad():
        before = model.summary({k: x.numpy() for k, x in model.measure(given).items()})
    for _ in range(80):
        model.learn(given)
    with torch.no_grad():
        after = model.summary({k: x.numpy() for k, x in model.measure(given).items()})
    assert before["map"] < 0.2
    assert after["map"] > 0.8


def test_answers_and_detections_agree() -> None:
    model, given = make(), examples()
    with torch.no_grad():
        answer, found = model.decide(given["obs"]), model.detect(given["obs"])
    assert answer.shape == (8, len(model.head.defaults), 4 + 1 + CLASSES)
    torch.testing.assert_close(answer[..., 4:].sum(-1), torch.ones(answer.shape[:2]))
    assert answer[..., :4].min() >= 0
    assert answer[..., :4].max() <= SIDE
    assert found.shape == (8, 20, 6)
    best = answer[..., 5:].flatten(1).max(1).values
    torch.testing.assert_close(found[:, 0, 4], best)


def test_images_with_channels_first_and_of_odd_sizes() -> None:
    spec = dict(object_fields(29, 45, MOST, CLASSES))
    model = make(spec=spec)
    assert model.detect(torch.zeros(2, 29, 45, 3)).shape == (2, 20, 6)
    first = spec | {"obs": Box(0, 255, (3, 29, 45), np.uint8)}
    other = make(spec=first)
    torch.testing.assert_close(other.head.defaults, model.head.defaults)
    assert model.objects.size == other.objects.size == (29, 45)


def test_a_batch_without_objects_changes_nothing_by_matches() -> None:
    model, given = make(), examples(4)
    none = {k: torch.zeros_like(given[k]) for k in ("boxes", "classes")}
    metrics = model.learn(Examples({**given.columns, **none}))
    assert metrics["loss"] == metrics["matches"] == 0
    measured = model.measure(Examples({**given.columns, **none}))
    assert not measured["loss"].any()


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
        ("encoder", "conv4:width=6,layers=4"), ("maps", 1), ("scales", 3), ("smallest_scale", 0.15), ("largest_scale", 0.6),
        ("match_overlap", 0.3), ("mining", "none"), ("negatives", 1.0), ("box_weight", 0.0), ("learning_rate", 1e-2),
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
    [("least_score", 0.5), ("suppress_overlap", 0.05), ("candidates", 2), ("detections", 3)],
)
def test_every_setting_of_detections_has_an_effect(setting: str, value: Any) -> None:
    obs = examples()["obs"]
    usual, other = make().detect(obs), make(**{setting: value}).detect(obs)
    assert usual.shape != other.shape or not torch.equal(usual, other)


@pytest.mark.parametrize(
    ("spec", "settings", "message"),
    [
        (SPEC | {"classes": Discrete(3)}, {}, "the examples have no objects: columns `boxes`"),
        (SPEC | {"classes": MultiDiscrete([3, 3])}, {}, "the examples have no objects"),
        ({"obs": SPEC["obs"]}, {}, "they have obs; give a source such as objects-minigrid-s16"),
        (SPEC | {"obs": Box(0, 1, (7,))}, {}, r"observations have the shape \(7,\); objects are detected in images"),
        (SPEC, {"maps": 5, "scales": 5}, "maps is 5, but the encoder conv4:width=8,layers=4,norm=gn has 4; give 4 or fewer"),
        (SPEC, {"scales": 1}, "scales is 1, fewer than maps, 2"),
        (SPEC, {"encoder": "unet:width=4", "maps": 1}, "has layers that lead to none of these maps"),
        (SPEC, {"encoder": "conv4:width=4,layers=5", "batch_size": 1}, "has a map of one pixel"),
        (SPEC, {"encoder": "flatten"}, "no pyramid of maps"),
        (SPEC, {"smallest_scale": 0.0}, "smallest_scale is 0.0; give a number from 0.01 to 2"),
        (SPEC, {"negatives": -1.0}, "negatives is -1.0"),
        (SPEC, {"suppress_overlap": 1.0}, "suppress_overlap is 1.0"),
    ],
)  # fmt: skip
def test_columns_and_settings_that_do_not_fit_are_refused(
    spec: dict[str, Any], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        make(spec=spec, **settings)


def test_a_missing_package_is_named_before_anything_is_built(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "pycocotools.coco", None)
    with pytest.raises(
        UserError, match=r"needs the package pycocotools; .* 'rlbench\[detection\]'"
    ):
        make()


def test_a_stopped_run_is_resumed_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(out: str) -> Run:
        config = RunConfig(
            env="tests.squares:Squares",
            updates=4,
            eval_every=2,
            checkpoint_every=2,
            log_every=1,
            out=tmp_path / out,
        )
        return Run("ssd", SSDConfig(**SMALL, batch_size=8), config, Console(quiet=True))

    run("whole").start()
    usual, calls = SSD.learn, iter(range(4))

    def broken(model: SSD, given: Examples) -> Any:
        if next(calls) == 3:
            raise RuntimeError
        return usual(model, given)

    with monkeypatch.context() as patch:
        patch.setattr(SSD, "learn", broken)
        stopped = run("broken")
        with pytest.raises(RuntimeError):
            stopped.start()
    assert Run.resume(tmp_path / "broken", Console(quiet=True), trust=True).finish() == 2
    assert_equal(tmp_path / "whole", tmp_path / "broken")
    found = run("whole").folder.last_evaluation()
    assert found["map"].shape == (1,)
    assert found["detections"].shape == (8, 20, 6)
