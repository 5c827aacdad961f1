"""Pose by heat maps and messages: convolutions against their definition, oracles of the spatial model, stages, resumes, bad input."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from rich.console import Console
from torch import Tensor

from rlbench.backbones.layers.pose import (
    FLOOR,
    LEAST,
    START,
    SpatialModel,
    channels_first,
    convolve,
    inverse_soft_plus,
    probabilities,
    soft_plus,
)
from rlbench.backbones.models._key_points import (
    cells,
    cross_entropies,
    displacements,
    peaks,
    places,
    targets,
)
from rlbench.backbones.models.pose_mrf import PoseMRF, PoseMRFConfig
from rlbench.benchmarks.training.config import RunConfig
from rlbench.benchmarks.training.evaluation import ExamplesEvaluator
from rlbench.benchmarks.training.runner import Run
from rlbench.errors import UserError
from rlbench.experience import Examples
from tests.kill_and_resume import assert_equal
from tests.networks import copies, equal, same, tensors, unchanged
from tests.robots import POINTS, SIDE, SPEC, examples

SMALL: dict[str, Any] = {
    "encoder": "conv4:layers=2,width=8,norm=gn", "width": 8, "detector_updates": 2, "spatial_updates": 1, "learning_rate": 1e-2,
}  # fmt: skip
SIZES = [(4, 4), (5, 5), (4, 7), (1, 3), (1, 1)]


def make(seed: int = 0, spec: dict[str, Any] = SPEC, **settings: Any) -> PoseMRF:
    return PoseMRF(PoseMRFConfig(**SMALL | settings), spec, seed=seed)


def train(model: PoseMRF, updates: int, first: int = 0) -> PoseMRF:
    for seed in range(first, first + updates):
        model.learn(examples(seed=seed))
    return model


def by_definition(kernels: Tensor, maps: Tensor) -> Tensor:
    """sum_y kernel(x - y) map(y), cell by cell."""
    (batch, points, h, w), targets_of = maps.shape, len(kernels)
    out = torch.zeros(batch, targets_of, points, h, w)
    for r, c, i, j in itertools.product(range(h), range(w), range(h), range(w)):
        out[..., r, c] += kernels[..., r - i + h - 1, c - j + w - 1] * maps[:, None, :, i, j]
    return out


@pytest.mark.parametrize("size", SIZES)
def test_convolutions_match_their_definition(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    h, w = size
    kernels, maps = torch.randn(3, 2, 2 * h - 1, 2 * w - 1), torch.rand(2, 2, h, w)
    torch.testing.assert_close(convolve(kernels, maps), by_definition(kernels, maps))


def test_convolutions_are_the_same_in_an_export(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    kernels, maps = torch.randn(3, 2, 7, 9), torch.rand(2, 2, 4, 5)
    usual = convolve(kernels, maps)
    monkeypatch.setattr(torch.onnx, "is_in_onnx_export", lambda: True)
    monkeypatch.delattr(torch.fft, "rfft2")
    torch.testing.assert_close(convolve(kernels, maps), usual)


@pytest.mark.parametrize("size", SIZES)
def test_a_message_goes_from_v_to_a_by_the_displacement_of_its_kernel(
    size: tuple[int, int],
) -> None:
    h, w = size
    kernels, maps = torch.zeros(2, 2, 2 * h - 1, 2 * w - 1), torch.zeros(1, 2, h, w)
    maps[0, 1, 0, 0] = 1.0
    kernels[0, 1, 2 * h - 2, w - 1] = 3.0  # A is h - 1 rows below v.
    found = convolve(kernels, maps)[0, 0, 1]
    wanted = torch.zeros(h, w)
    wanted[h - 1, 0] = 3.0
    torch.testing.assert_close(found, wanted, atol=1e-6, rtol=0)
    kernels[:] = 0
    kernels[0, 1, h - 1, w - 1] = 1.0  # Displacement 0.
    torch.testing.assert_close(convolve(kernels, maps)[0, 0, 1], maps[0, 1], atol=1e-6, rtol=0)


def test_the_soft_plus_and_its_inverse() -> None:
    x = torch.tensor([-3.0, -0.4, 0.0, 1.0, 9.0])
    torch.testing.assert_close(soft_plus(x), torch.log1p(torch.exp(5 * x)) / 5)
    y = torch.tensor([1e-6, LEAST, 0.2, 1.0, 40.0])
    torch.testing.assert_close(soft_plus(inverse_soft_plus(y)), y, rtol=1e-4, atol=0)


@pytest.mark.parametrize("size", SIZES)
def test_uniform_kernels_leave_the_order_of_places_unchanged(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    spatial = SpatialModel(3, size)
    heat = probabilities(torch.randn(4, 3, *size))
    found = probabilities(spatial(heat))
    torch.testing.assert_close(found, heat, rtol=1e-3, atol=1e-5)
    assert torch.equal(peaks(found), peaks(heat))


def test_messages_by_hand() -> None:
    spatial = SpatialModel(2, (1, 2))
    with torch.no_grad():
        # Key point 0 is one cell to the right of key point 1.
        spatial.kernels[0, 1] = inverse_soft_plus(torch.tensor([[0.1, 0.2, 0.7]]))
        spatial.biases[0, 1] = inverse_soft_plus(torch.tensor([[0.3, 0.05]]))
    heat = torch.tensor([[[[0.5, 0.5]], [[0.8, 0.2]]]])
    with torch.no_grad():
        found = spatial(heat)[0, 0, 0]
    left = 0.5 * (0.2 * 0.8 + 0.1 * 0.2 + 0.3)
    right = 0.5 * (0.7 * 0.8 + 0.2 * 0.2 + 0.05)
    torch.testing.assert_close(found.exp(), torch.tensor([left, right]), rtol=1e-4, atol=0)


def test_with_histogram_kernels_messages_find_a_key_point_that_the_detector_does_not_see() -> None:
    given = examples(200)
    cell = cells(places(given["keypoints"], (4.0, 4.0))[0], (8, 8))
    seen = torch.ones(200, POINTS, dtype=torch.bool)
    spatial = SpatialModel(POINTS, (8, 8))
    spatial.start(displacements(cell, seen, (8, 8)))
    heat = torch.zeros(200, POINTS, 8, 8)
    heat.view(200, POINTS, 64).scatter_(2, (cell[..., 0] * 8 + cell[..., 1])[..., None], 1.0)
    with torch.no_grad():
        assert (peaks(spatial(heat)).floor().long() == cell).all(), "delta maps stay where they are"
        for a in range(POINTS):
            blind = heat.clone()
            blind[:, a] = 1 / 64
            found = peaks(spatial(blind)).floor().long()
            # The parts of the robot move by whole pixels, so displacements in cells vary by 1.
            assert ((found - cell)[:, a].abs() <= 1).all()
            assert (found == cell)[:, a].all(-1).float().mean() > 0.5
            others = [k for k in range(POINTS) if k != a]
            assert (found == cell)[:, others].all()


def test_a_second_peak_at_a_place_that_does_not_fit_is_removed() -> None:
    spatial = SpatialModel(2, (5, 5))
    cell = torch.tensor([[[2, 3], [2, 1]]])
    spatial.start(displacements(cell, torch.ones(1, 2, dtype=torch.bool), (5, 5)))
    heat = torch.full((1, 2, 5, 5), 1e-4)
    heat[0, 1, 2, 1] = 0.9
    heat[0, 0, 2, 3], heat[0, 0, 0, 0] = 0.4, 0.6
    with torch.no_grad():
        assert peaks(heat)[0, 0].tolist() == [0.5, 0.5]
        assert peaks(spatial(heat))[0].tolist() == [[2.5, 3.5], [2.5, 1.5]]


def test_histograms_become_kernels() -> None:
    spatial = SpatialModel(2, (2, 3))
    torch.testing.assert_close(soft_plus(spatial.kernels), torch.ones(2, 2, 3, 5))
    torch.testing.assert_close(soft_plus(spatial.biases), torch.full((2, 2, 2, 3), START))
    counts = torch.zeros(2, 2, 3, 5)
    counts[0, 1, 0, 0], counts[0, 1, 2, 4] = 8.0, 2.0
    spatial.start(counts)
    found = soft_plus(spatial.kernels.detach())
    wanted = torch.full((3, 5), LEAST)
    wanted[0, 0], wanted[2, 4] = 1.0, 0.25
    torch.testing.assert_close(found[0, 1], wanted)
    torch.testing.assert_close(found[1, 0], torch.ones(3, 5), msg="no pair was seen")


def test_displacements_by_hand() -> None:
    cell = torch.tensor([[[0, 2], [1, 0]], [[0, 2], [1, 0]], [[1, 1], [1, 1]]])
    seen = torch.tensor([[True, True], [True, False], [True, True]])
    counts = displacements(cell, seen, (2, 3))
    assert counts.shape == (2, 2, 3, 5)
    # Of key point 0 from 1: one row up and two columns to the right in the first example, none in the last.
    assert counts[0, 1].nonzero().tolist() == [[0, 4], [1, 2]]
    assert counts[1, 0].nonzero().tolist() == [[1, 2], [2, 0]]
    assert counts[0, 0, 1, 2] == 3
    assert counts[1, 1, 1, 2] == 2
    assert counts.sum() == 9


def test_targets_are_in_cells_and_not_in_pixels() -> None:
    keypoints = torch.tensor([[[13.0, 6.5, 1], [0.0, 31.9, 0], [40.0, -3.0, 0]]])
    position, seen = places(keypoints, (4.0, 4.0))
    torch.testing.assert_close(position[0, 0], torch.tensor([1.625, 3.25]))
    assert seen.tolist() == [[True, False, False]]
    cell = cells(position, (8, 8))
    assert cell.tolist() == [[[1, 3], [7, 0], [0, 7]]]
    target = targets(cell, (8, 8))
    torch.testing.assert_close(target.sum((2, 3)), torch.ones(1, 3))
    assert target[0, 0, 1, 3] == 0.25
    assert target[0, 0, 0, 2] == 1 / 16
    assert target[0, 0, 2, 3] == 1 / 8
    assert target[0, 1, 7, 0] == pytest.approx(4 / 9)
    rows = torch.tensor([[[1, 2]]])
    assert targets(rows, (2, 4)).argmax() == 6


def test_cross_entropies_by_hand() -> None:
    logits = torch.tensor([[[[0.0, 1.0]], [[2.0, 0.0]]]])
    target = torch.tensor([[[[0.25, 0.75]], [[1.0, 0.0]]]])
    found = cross_entropies(logits, target, torch.tensor([[True, False]]))
    log_sum = np.log(1 + np.e)
    assert found[0].tolist() == pytest.approx([0.25 * log_sum + 0.75 * (log_sum - 1), 0])


def test_peaks_are_middles_of_cells() -> None:
    maps = torch.zeros(1, 2, 3, 5)
    maps[0, 0, 2, 4] = maps[0, 1, 1, 0] = 1.0
    assert peaks(maps).tolist() == [[[2.5, 4.5], [1.5, 0.5]]]


def test_stages_train_their_parts_only() -> None:
    model = make(detector_updates=2, spatial_updates=2)
    seen = []
    for update in range(6):
        detector, spatial = (copies(x) for x in (model.network.detector, model.network.spatial))
        seen.append(model.stage)
        model.learn(examples(seed=update))
        changed = [
            not unchanged(model.network.detector, detector),
            not unchanged(model.network.spatial, spatial),
        ]
        assert changed == [model_trains in (seen[-1], "both") or seen[-1] == "joint" for model_trains in ("detector", "spatial")]  # fmt: skip
    assert seen == ["detector"] * 2 + ["spatial"] * 2 + ["joint"] * 2
    assert [make(stages="detector").stage, train(make(stages="detector"), 5).stage] == ["detector"] * 2  # fmt: skip
    assert train(make(stages="staged"), 5).stage == "spatial"


def test_the_spatial_model_starts_with_the_displacements_of_the_first_stage() -> None:
    model = make(detector_updates=2, spatial_learning_rate=0.0)
    train(model, 2)
    assert not model.spatial
    wanted = SpatialModel(POINTS, (8, 8))
    counts = torch.zeros_like(wanted.kernels)
    for seed in range(3):
        given = examples(seed=seed)
        position, seen = places(given["keypoints"], (4.0, 4.0))
        counts += displacements(cells(position, (8, 8)), seen, (8, 8))
    wanted.start(counts)
    train(model, 3, first=2)
    assert model.spatial
    assert torch.equal(model.network.spatial.kernels, wanted.kernels)
    assert torch.equal(model.counts, counts), "later examples do not count"
    at_once = train(make(detector_updates=0, spatial_learning_rate=0.0), 1)
    assert at_once.counts.sum() > 0
    assert not torch.equal(at_once.network.spatial.kernels, SpatialModel(POINTS, (8, 8)).kernels)


def test_the_kernels_start_once() -> None:
    model = train(make(detector_updates=1, spatial_updates=9, spatial_learning_rate=1e-3), 1)
    given = examples(16, seed=1)
    model.learn(given)
    start = SpatialModel(POINTS, (8, 8))
    start.start(model.counts)
    for _ in range(4):
        model.learn(given)
    moved = (model.network.spatial.kernels - start.kernels).abs().max()
    assert moved > 3e-3, "five steps of Adam, each about 1e-3"


def test_an_update_reports_the_loss_of_visible_key_points() -> None:
    model, given = make(stages="detector"), examples(16)
    position, seen = places(given["keypoints"], (4.0, 4.0))
    assert 0 < seen.float().mean() < 1
    with torch.no_grad():
        own = model.logits(given["obs"])[0]
    target = targets(cells(position, (8, 8)), (8, 8))
    each = -(target * own.flatten(2).log_softmax(2).view(own.shape)).sum((2, 3))
    close = (peaks(own) - position).square().sum(-1).sqrt() <= 1.5
    metrics = model.learn(given)
    torch.testing.assert_close(metrics["loss"], each[seen].mean())
    torch.testing.assert_close(metrics["pck"], close[seen].float().mean())


def test_measures_by_hand() -> None:
    model = make()
    columns: dict[str, Any] = {
        "seen": np.array([[1, 1, 0], [1, 0, 0]], bool),
        "cells": np.array([[1.5, 2.0, 0.0], [1.0, 9.0, 9.0]]),
        "detector_cells": np.array([[1.6, 2.0, 0.0], [1.0, 9.0, 9.0]]),
        "pixels": np.array([[6.0, 8.0, 0.0], [4.0, 36.0, 36.0]]),
        "clean_cells": np.zeros((2, 3)), "clean_pixels": np.ones((2, 3)),
    }  # fmt: skip
    assert model.summary(columns) == pytest.approx(
        {
            "pck": 2 / 3, "detector_pck": 1 / 3, "error": 6.0, "clean_pck": 1.0, "clean_error": 1.0, "pck_0": 1.0, "pck_1": 0.0,
        }
    )  # fmt: skip
    columns["seen"] = np.zeros((2, 3), bool)
    assert model.summary(columns)["pck"] == 0


def test_measurements_agree_with_answers() -> None:
    model, given = train(make(), 5), examples(4, seed=9)
    with torch.no_grad():
        found, heat = model.measure(given), model.decide(given["obs"])
    assert heat.shape == (4, POINTS, 8, 8)
    torch.testing.assert_close(heat.sum((2, 3)), torch.ones(4, POINTS))
    torch.testing.assert_close(found["points"], peaks(heat).flip(-1) * 4)
    distance = (found["points"] - given["keypoints"][..., :2]).norm(dim=-1)
    torch.testing.assert_close(found["pixels"], distance)
    torch.testing.assert_close(found["cells"], distance / 4)
    with torch.no_grad():
        own = peaks(model.logits(given["obs"])[0]).flip(-1) * 4
        apart = (own - given["keypoints"][..., :2]).norm(dim=-1) / 4
        torch.testing.assert_close(found["detector_cells"], apart)
        assert not torch.allclose(found["cells"], apart)
        clean = model.decide(given["clean"])
    torch.testing.assert_close(found["clean_points"], peaks(clean).flip(-1) * 4)
    without = Examples({k: x for k, x in given.columns.items() if k != "clean"})
    assert "clean_pixels" not in model.measure(without)


@pytest.mark.slow
def test_it_learns_and_messages_correct_the_detector() -> None:
    model = make(detector_updates=40, spatial_updates=10, branches=1, kernel=1)
    data = examples(64, seed=50)
    before = ExamplesEvaluator(data).columns(model, seed=0)
    for seed in range(80):
        model.learn(examples(16, seed=seed))
    after = ExamplesEvaluator(data).columns(model, seed=0)
    assert before["pck"] < 0.5
    assert after["pck"] > 0.85
    assert after["pck"] > after["detector_pck"] + 0.04, "hands look alike"


def test_images_with_channels_first_and_of_odd_sizes() -> None:
    spec = SPEC | {"obs": Box(0, 255, (29, 45, 3), np.uint8)}
    model = make(spec=spec, branches=3)
    assert model.size == (7, 11)
    assert model.cell == (29 / 7, 45 / 11)
    obs = torch.randint(256, (2, 29, 45, 3), dtype=torch.uint8)
    first = make(spec=spec | {"obs": Box(0, 255, (3, 29, 45), np.uint8)}, branches=3)
    assert torch.equal(model.decide(obs), first.decide(obs.permute(0, 3, 1, 2)))
    assert torch.equal(channels_first(obs, 3), obs.permute(0, 3, 1, 2))


def test_branches_read_the_image_at_several_resolutions() -> None:
    model = make(branches=2)
    images = torch.rand(1, 3, SIDE, SIDE)
    smaller = torch.nn.functional.avg_pool2d(images, 2)
    fine, coarse = model.network.detector.maps(images)
    assert (fine.shape[2:], coarse.shape[2:]) == ((8, 8), (4, 4))
    encoder: Any = model.network.detector.encoders[1]
    assert torch.equal(coarse, encoder.pyramid(smaller)[4])


def test_resume_is_exact_in_every_stage() -> None:
    whole = train(make(), 6)
    for stop in (1, 2, 3, 5):
        rest = make(seed=1)
        rest.load_state_dict(train(make(), stop).state_dict())
        assert equal(whole, train(rest, 6 - stop, first=stop))


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("encoder", "conv4:layers=2,width=6"), ("branches", 1), ("width", 4), ("kernel", 1), ("stages", "staged"), ("stages", "detector"),
        ("detector_updates", 1), ("spatial_updates", 2), ("learning_rate", 1e-3), ("spatial_learning_rate", 1e-3),
    ],
)  # fmt: skip
def test_every_setting_has_an_effect(setting: str, value: Any) -> None:
    states = [tensors(train(make(**x), 4).state_dict()) for x in ({}, {setting: value})]
    assert not same(*states)


@pytest.mark.parametrize(
    ("spec", "settings", "message"),
    [
        ({"obs": SPEC["obs"], "label": Discrete(3)}, {}, r"no column `keypoints` \[K, 3\].* they have obs, label; give a source"),
        (SPEC | {"keypoints": Box(-1, 1, (3, 2))}, {}, "no column `keypoints`"),
        (SPEC | {"obs": Box(0, 1, (7,))}, {}, r"observations have the shape \(7,\); key points are found in images"),
        (SPEC | {"obs": Box(0, 255, (9, 9, 2), np.uint8)}, {}, "with 1, 3 or 4 channels"),
        (SPEC, {"encoder": "flatten"}, "no pyramid of maps"),
        (SPEC, {"branches": 4}, "branches is 4; give 1, 2 or 3"),
        (SPEC, {"kernel": 4}, "kernel is 4; give an odd number"),
        (SPEC, {"detector_updates": -1}, "detector_updates is -1"),
        (SPEC, {"encoder": "conv4:layers=2,width=4,norm=bn", "batch_size": 1}, "normalises over a batch; give 2 or more"),
        (SPEC, {"encoder": "unet:width=4,pools=2"}, "layers that lead to none of these maps and .*; give one whose last map is the coarsest"),
        (SPEC, {"encoder": "conv4:layers=5,width=4", "branches": 2}, "too small for the encoder"),
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
            env="tests.robots:Robots", updates=6, eval_every=3, checkpoint_every=3, log_every=1, out=tmp_path / out
        )  # fmt: skip
        return Run("pose-mrf", PoseMRFConfig(**SMALL, batch_size=8), config, Console(quiet=True))

    run("whole").start()
    usual, calls = PoseMRF.learn, iter(range(6))

    def broken(model: PoseMRF, given: Examples) -> Any:
        if next(calls) == 4:
            raise RuntimeError
        return usual(model, given)

    with monkeypatch.context() as patch:
        patch.setattr(PoseMRF, "learn", broken)
        with pytest.raises(RuntimeError):
            run("broken").start()
    assert Run.resume(tmp_path / "broken", Console(quiet=True), trust=True).finish() == 3
    assert_equal(tmp_path / "whole", tmp_path / "broken")
    found = run("whole").folder.last_evaluation()
    assert found["pck"].shape == (1,)
    assert found["points"].shape == (8, POINTS, 2)


def test_the_floor_keeps_logarithms_finite() -> None:
    spatial = SpatialModel(2, (3, 3))
    with torch.no_grad():
        spatial.biases.fill_(-100.0)
        spatial.kernels.fill_(-100.0)
        heat = torch.zeros(1, 2, 3, 3)
        heat[0, :, 1, 1] = 1.0
        found = spatial(heat)
    assert found.isfinite().all()
    assert found[0, 0, 0, 0] == pytest.approx(2 * np.log(FLOOR), rel=1e-3)
