"""Nerfies: losses, rays and measures by hand, a static scene, settings, errors, and resumes."""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from rich.console import Console
from torch import Tensor

from rlbench.backbones.layers.radiance import log_stretches
from rlbench.backbones.models import nerfies
from rlbench.backbones.models.nerfies import (
    LAST_STEP_SIZE,
    Nerfies,
    NerfiesConfig,
    decibels,
    explained,
)
from rlbench.benchmarks.training.config import RunConfig
from rlbench.benchmarks.training.evaluation import ExamplesEvaluator
from rlbench.benchmarks.training.runner import Run
from rlbench.envs.examples import Arrays
from rlbench.envs.examples.captures import looking
from rlbench.errors import UserError
from rlbench.experience import Examples
from tests.kill_and_resume import assert_equal
from tests.networks import equal, same as same_tensors, tensors

SIDE, FRAMES = 8, 6
SPEC: dict[str, Any] = {
    "obs": Box(0, 255, (SIDE, SIDE, 3), np.uint8), "mask": Box(0, 1, (SIDE, SIDE), np.uint8),
    "camera": Box(-np.inf, np.inf, (15,)), "frame": Discrete(FRAMES), "points": Box(-np.inf, np.inf, (5, 3)),
    "pose": Box(-np.inf, np.inf, (2,)),
}  # fmt: skip
SMALL: dict[str, Any] = {
    "width": 16, "depth": 2, "bands": 3, "direction_bands": 1, "warp_width": 16, "warp_depth": 2, "warp_bands": 3,
    "code_size": 2, "samples": 6, "rays": 64, "elastic_samples": 8, "batch_size": 4,
}  # fmt: skip


def floor(seed: int = 0, side: int = SIDE, frames: int = FRAMES) -> Examples:
    """Pictures of a floor with smooth waves of colour: a scene that does not move."""
    rng = np.random.default_rng(seed)
    focal = 2.0 * side
    row, column = np.mgrid[:side, :side] + 0.5
    local = np.stack([(column - side / 2) / focal, (side / 2 - row) / focal, -np.ones((side, side))], 2)  # fmt: skip
    columns: dict[str, list[Any]] = {"obs": [], "camera": [], "points": []}
    for _ in range(frames):
        rotation = looking(rng.uniform(-0.6, 0.6), rng.uniform(0.8, 1.1))
        position = 2.5 * rotation[:, 2]
        directions = local @ rotation.T
        depth = -position[2] / directions[..., 2]
        points = position + depth[..., None] * directions
        waves = np.stack([np.sin(3 * points[..., 0]), np.cos(3 * points[..., 1]), 0 * depth], 2)
        columns["obs"].append(np.rint(127.5 + 127.5 * waves).astype(np.uint8))
        columns["camera"].append([*position, *rotation.ravel(), focal, 1.5, depth.max() + 0.2])
        columns["points"].append(points.reshape(-1, 3)[rng.permutation(side**2)[:5]])
    mask = np.zeros((frames, side, side), np.uint8)
    mask[:, 2:5, 3:6] = 1
    found = {name: np.array(x, np.uint8 if name == "obs" else np.float32) for name, x in columns.items()}  # fmt: skip
    pose = rng.normal(size=(frames, 2)).astype(np.float32)
    found |= {"mask": mask, "frame": np.arange(frames), "pose": pose}
    return Examples({name: torch.from_numpy(x) for name, x in found.items()})


def make(seed: int = 0, spec: Mapping[str, Any] = SPEC, **settings: Any) -> Nerfies:
    return Nerfies(NerfiesConfig(**SMALL | settings), spec, seed=seed)


def train(model: Nerfies, updates: int, examples: Examples | None = None) -> Nerfies:
    examples = examples or floor()
    for _ in range(updates):
        model.learn(examples)
    return model


def measured(model: Nerfies, examples: Examples) -> dict[str, Any]:
    return ExamplesEvaluator(examples).columns(model, seed=0)


def views(examples: Examples) -> Tensor:
    return torch.cat([examples["camera"], examples["frame"][:, None]], dim=1)


def test_a_picture_is_the_colours_of_the_rays_of_its_pixels() -> None:
    model, examples = make(), floor()
    with torch.no_grad():
        drawn = model.decide(views(examples))
        assert drawn.shape == (FRAMES, SIDE, SIDE, 3)
        pixel = torch.tensor([0, 7, 64 + 9, 5 * 64 + 63])
        rays, code, target = model._drawn(examples, pixel)
        colour = model.render(rays, code)[-1].colour
    places = [(0, 0, 0), (0, 0, 7), (1, 1, 1), (5, 7, 7)]
    for row, place in enumerate(places):
        torch.testing.assert_close(colour[row], drawn[place], atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(target[row], examples["obs"][place] / 255)
        torch.testing.assert_close(code[row], model.codes.weight[place[0]])


def test_a_view_shows_its_own_frame() -> None:
    model, examples = make(deformation="latent", code_size=8), floor()
    with torch.no_grad():
        model.codes.weight.normal_()
        one, other = views(examples)[:2].clone(), views(examples)[:2].clone()
        other[:, -1] = 3
        assert not torch.equal(model.decide(one), model.decide(other))
        static = make(deformation="none")
        assert torch.equal(static.decide(one), static.decide(other))


def test_the_loss_of_an_update_is_the_sum_of_its_parts() -> None:
    model, twin = (make(elastic_weight=0.5, background_weight=0.25) for _ in range(2))
    for each in (model, twin):
        with torch.no_grad():
            assert each.warp is not None
            each.warp.screw.weight.normal_(0, 0.3, generator=torch.Generator().manual_seed(0))
    examples = floor()
    metrics = {name: float(x) for name, x in model.learn(examples).items()}
    assert min(metrics.values()) > 0
    parts = metrics["error"] + 0.5 * metrics["elastic"] + 0.25 * metrics["background"]
    assert metrics["loss"] == pytest.approx(parts, rel=1e-5)
    # The same draws, in the same order.
    count = FRAMES * SIDE**2
    pixel = torch.randint(count, (64,), generator=twin.generator)
    rays, code, target = twin._drawn(examples, pixel)
    found = twin.render(rays, code, twin.generator)[0]
    assert metrics["error"] == pytest.approx(float((found.colour - target).square().mean()), rel=1e-4)  # fmt: skip
    chosen = torch.multinomial(found.weight[:8].detach(), 1, generator=twin.generator)[:, 0]
    assert twin.warp is not None
    point = found.point[torch.arange(8), chosen]
    square = log_stretches(twin.warp.jacobians(point, code[:8])).square().sum(1) / 0.03**2
    elastic = (0.03 * 2 * square / (square + 4)).mean()
    assert metrics["elastic"] == pytest.approx(float(elastic), rel=1e-3)
    points = examples["points"].reshape(-1, 3)
    points = points + 0.001 * torch.randn(points.shape, generator=twin.generator)
    frame = torch.randint(FRAMES, (len(points),), generator=twin.generator)
    y = (twin.warp(points, twin.codes.weight[frame]) - points).square().sum(1) / 0.001**2
    background = (0.001 * 2 * y / (y + 4)).mean()
    assert metrics["background"] == pytest.approx(float(background), rel=1e-3)


def test_surfaces_are_drawn_in_proportion_to_their_weights() -> None:
    model = make()
    assert model.warp is not None
    weight = torch.tensor([[0.0, 1.0, 0.0]]).expand(64, 3)
    point = torch.arange(3.0)[:, None].expand(64, 3, 3)
    seen: list[Tensor] = []
    usual = model.warp.jacobians
    model.warp.jacobians = lambda x, *rest: (seen.append(x), usual(x, *rest))[1]  # type: ignore[method-assign, func-returns-value]
    found = nerfies.Rendered(torch.zeros(64, 3), weight, point)
    assert model._stretches(found, torch.zeros(64, 2), 40, model.generator).shape == (40, 3)
    torch.testing.assert_close(seen[0], torch.ones(40, 3))


def test_the_frequencies_and_the_step_size_follow_their_schedules() -> None:
    model = make(anneal_updates=4, decay_updates=2, learning_rate=0.01)
    rates, weights = [], []
    for _ in range(6):
        weights.append(model.bands_weight)
        model.learn(floor())
        rates.append(float(model.optimizer.learning_rate))
    assert weights[0] is not None
    assert weights[0].tolist() == [0, 0, 0]
    assert weights[2] is not None
    torch.testing.assert_close(weights[2], torch.tensor([1, 0.5, 0]))
    assert weights[4:] == [None, None]
    last = 0.01 * LAST_STEP_SIZE
    np.testing.assert_allclose(rates, [0.01, 0.01 * math.sqrt(LAST_STEP_SIZE), *[last] * 4], rtol=1e-5)  # fmt: skip
    assert make().bands_weight is None
    chosen = Nerfies.preset("captures:humanoid", 250_000)
    assert chosen == {"anneal_updates": 80_000, "decay_updates": 250_000}


def test_measures_by_hand() -> None:
    model, examples = make(deformation="none"), floor()
    drawn = model.decide(views(examples)).detach()
    found = measured(model, examples)
    error = (drawn - examples["obs"] / 255).square().numpy()
    np.testing.assert_allclose(found["psnr"], -10 * np.log10(error.mean((1, 2, 3))), rtol=1e-4)
    inside = error[:, 2:5, 3:6].mean((1, 2, 3))
    np.testing.assert_allclose(found["robot_psnr"], -10 * np.log10(inside), rtol=1e-4)
    assert not found["stretch"].any()
    empty = Examples({**examples.columns, "mask": torch.zeros_like(examples["mask"])})
    np.testing.assert_allclose(measured(model, empty)["robot_psnr"], found["psnr"], rtol=1e-4)
    assert decibels(torch.tensor([0.1, 0.01, 0.0])).tolist() == pytest.approx([10, 20, 100])


def test_the_stretch_is_measured_inside_the_mask() -> None:
    model, examples = make(), floor()
    assert model.warp is not None
    seen: list[Tensor] = []

    def jacobians(x: Tensor, *rest: Any) -> Tensor:
        seen.append(x)
        return torch.diag(torch.tensor([1.0, 1.0, math.e])).expand(len(x), 3, 3)

    model.warp.jacobians = jacobians  # type: ignore[method-assign, assignment]
    np.testing.assert_allclose(measured(model, examples)["stretch"], 1 / 3, rtol=1e-5)
    count = nerfies.PROBED
    for row in range(FRAMES):
        position, rotation = examples["camera"][row, :3], examples["camera"][row, 3:12].view(3, 3)
        own = (seen[0][row * count : (row + 1) * count] - position) @ rotation
        place = own[:, :2] / -own[:, 2:] * 2 * SIDE
        column, line = place[:, 0] + SIDE / 2, SIDE / 2 - place[:, 1]
        assert sorted({round(float(x), 2) for x in column}) == [3.5, 4.5, 5.5]
        assert sorted({round(float(x), 2) for x in line}) == [2.5, 3.5, 4.5]


def test_codes_that_encode_poses_linearly_explain_them() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 3))
    y = x @ rng.normal(size=(3, 2)) + 1
    assert explained(x, y) == pytest.approx(1)
    assert explained(x, rng.normal(size=(40, 2))) < 0.1
    noisy = y + rng.normal(size=y.shape)
    error = 0.0
    for row in range(40):
        rest = np.arange(40) != row
        read = np.c_[x, np.ones(40)]
        fitted = np.linalg.lstsq(read[rest], noisy[rest], rcond=None)[0]
        error += np.square(noisy[row] - read[row] @ fitted).sum()
    constant = sum(
        np.square(noisy[row] - np.delete(noisy, row, 0).mean(0)).sum() for row in range(40)
    )
    assert explained(x, noisy) == pytest.approx(1 - error / constant)


def test_poses_are_probed_if_there_are_enough_of_them() -> None:
    model = make()
    assert "pose_r2" in measured(model, floor())
    assert "pose_r2" not in measured(model, floor().take(slice(4)))
    rest = {name: x for name, x in floor().columns.items() if name != "pose"}
    assert "pose_r2" not in measured(model, Examples(rest))


def test_a_finer_network_reads_further_samples() -> None:
    model = make(fine_samples=4)
    rays, code, _ = model._drawn(floor(), torch.arange(10))
    first, second = model.render(rays, code, model.generator)
    assert first.weight.shape == (10, 6)
    assert second.weight.shape == (10, 10)
    metrics = model.learn(floor())
    assert float(metrics["loss"]) > 1.5 * float(metrics["error"])
    assert measured(model, floor())["psnr"].shape == (FRAMES,)


CHANGES: dict[str, Any] = {
    "deformation": "latent", "width": 24, "depth": 3, "bands": 2, "direction_bands": 2, "warp_width": 24, "warp_depth": 3,
    "warp_bands": 2, "code_size": 3, "samples": 7, "fine_samples": 3, "rays": 32, "elastic_weight": 10.0, "elastic_samples": 4,
    "background_weight": 10.0, "anneal_updates": 5, "decay_updates": 2, "learning_rate": 0.01,
}  # fmt: skip


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(NerfiesConfig)])
def test_every_setting_has_an_effect(field: str) -> None:
    if field == "batch_size":  # Read by the driver alone.
        return
    usual, changed = (
        {k: v for k, v in tensors(train(make(**own), 3).state_dict()).items() if "/codes/" not in k}
        for own in ({}, {field: CHANGES[field]})
    )
    assert not same_tensors(usual, changed)


def test_measuring_changes_nothing() -> None:
    model, quiet = (train(make(), 2) for _ in range(2))
    measured(model, floor())
    assert equal(model, quiet)
    assert equal(train(model, 2), train(quiet, 2))


def test_baselines_need_no_points_and_learn_no_codes_in_vain() -> None:
    rest = {name: space for name, space in SPEC.items() if name != "points"}
    model = make(spec=rest, deformation="none")
    before = model.codes.weight.detach().clone()
    train(model, 2)
    assert torch.equal(model.codes.weight, before)
    assert make(spec=rest, background_weight=0.0).warp is not None


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"points": None}, r"no column 'points' of shape \[P, 3\]"),
        ({"camera": Box(0, 1, (14,))}, r"no column 'camera' of shape \[15\]"),
        ({"mask": Box(0, 1, (SIDE, 9), np.uint8)}, r"no column 'mask' of shape \[8, 8\]"),
        ({"frame": None}, "no classes in a column 'frame'"),
        ({"obs": Box(0, 255, (3, SIDE, SIDE), np.uint8)}, r"nerfies needs pictures, bytes \[H, W, 3\]"),
        ({"obs": Box(0, 1, (SIDE, SIDE, 3))}, r"nerfies needs pictures, bytes \[H, W, 3\]"),
    ],
)  # fmt: skip
def test_examples_without_cameras_are_refused(change: dict[str, Any], told: str) -> None:
    spec = {name: space for name, space in (SPEC | change).items() if space is not None}
    with pytest.raises(UserError, match=told):
        make(spec=spec)


def test_a_ray_needs_three_samples() -> None:
    with pytest.raises(UserError, match="samples is 2; give 3 or more"):
        make(samples=2)


def test_a_run_that_diverged_is_refused_in_one_sentence() -> None:
    model = make()
    with torch.no_grad():
        next(model.fields.parameters()).fill_(torch.nan)
    assert not model.learn(floor())["loss"].isfinite()
    with pytest.raises(UserError, match="use a smaller learning rate"):
        measured(model, floor())


class Killed(BaseException):
    """Ends a run as a kill does."""


def source() -> Arrays:
    columns = {name: x.numpy() for name, x in floor().columns.items()}
    return Arrays(columns, columns)


def test_a_run_killed_between_checkpoints_ends_as_one_never_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(out: Path) -> Run:
        config = RunConfig(
            env="tests.backbones.test_nerfies:source", updates=3, eval_every=2, log_every=1, checkpoint_every=1, out=out,
        )  # fmt: skip
        settings = NerfiesConfig(**SMALL, anneal_updates=3, decay_updates=3)
        return Run("nerfies", settings, config, Console(quiet=True))

    run(tmp_path / "whole").start()
    usual, calls = Nerfies.learn, []

    def learn(model: Nerfies, experience: Examples) -> Mapping[str, Tensor]:
        calls.append(1)
        if len(calls) == 3:
            raise Killed
        return usual(model, experience)

    with monkeypatch.context() as patch:
        patch.setattr(Nerfies, "learn", learn)
        with pytest.raises(Killed):
            run(tmp_path / "broken").start()
    assert Run.resume(tmp_path / "broken", Console(quiet=True), trust=True).finish() == 1
    assert_equal(tmp_path / "whole", tmp_path / "broken")


@pytest.mark.slow
def test_a_static_scene_leaves_the_warp_near_identity() -> None:
    """Without the loss of background points, only the elastic loss and the start keep it there."""
    seen, unseen = floor(0, side=16, frames=12), floor(1, side=16, frames=12)
    spec = SPEC | {"obs": Box(0, 255, (16, 16, 3), np.uint8), "mask": Box(0, 1, (16, 16), np.uint8), "frame": Discrete(12)}  # fmt: skip
    model = make(
        spec=spec, width=32, samples=12, rays=256, learning_rate=3e-3, background_weight=0.0,
        anneal_updates=100, decay_updates=300,
    )  # fmt: skip
    before = measured(model, unseen)["psnr"].mean()
    train(model, 300, seen)
    assert measured(model, unseen)["psnr"].mean() > before + 4
    assert model.warp is not None
    points = seen["points"].flatten(0, 1)
    code = model.codes.weight.repeat_interleave(5, 0)
    moved = (model.warp(points, code) - points).norm(dim=1)
    assert float(moved.mean()) < 0.1
    assert measured(model, unseen)["stretch"].mean() < 0.05
