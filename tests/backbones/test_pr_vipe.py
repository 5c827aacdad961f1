"""Pr-VIPE: match probabilities, triplets and divergences by hand, retrieval, ambiguity, settings, and resumes."""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from gymnasium.spaces import Box
from rich.console import Console
from torch import Tensor

from rlbench.backbones.encoders import acting_encoder, make_encoder
from rlbench.backbones.encoders.pose import PoseEmbedding, drawn
from rlbench.backbones.models import _poses, pr_vipe
from rlbench.backbones.models._poses import hits
from rlbench.backbones.models.pose_nearest import PoseNearest, PoseNearestConfig
from rlbench.backbones.models.pr_vipe import (
    PrVIPE,
    PrVIPEConfig,
    alignment_residuals,
    correlation,
    divergences,
    match_distances,
    mean_of_active,
    mean_point_distances,
    triplet_losses,
)
from rlbench.benchmarks.training.config import RunConfig
from rlbench.benchmarks.training.evaluation import ExamplesEvaluator
from rlbench.benchmarks.training.runner import Run
from rlbench.errors import UserError
from rlbench.experience import Examples
from rlbench.poses import aligned, normalised, projected, shape_distances
from tests.backbones.test_prototypical import Killed
from tests.kill_and_resume import assert_equal
from tests.networks import equal, same, tensors

POINTS = 7
SPEC = {"obs": Box(-np.inf, np.inf, (POINTS, 3))}
SMALL: dict[str, Any] = {"encoder": "pose:width=16,size=3,torso=3", "samples": 4, "kappa": 0.3}


def batch(seed: int = 0, count: int = 12) -> Examples:
    """Poses with a rigid torso of three points, in a few groups of poses that are nearly equal."""
    drawn_from = torch.Generator().manual_seed(seed)
    torso = torch.tensor([[0.5, 0.0, 0.0], [-0.5, 0.0, 0.0], [0.0, 0.0, 0.8]])
    limbs = torch.randn(count, POINTS - 3, 3, generator=drawn_from) * 0.7
    limbs[count // 2 :] = limbs[: count - count // 2] + 0.05 * torch.randn(
        limbs[count // 2 :].shape, generator=drawn_from
    )
    points = torch.cat([torso.expand(count, -1, -1), limbs], 1)
    return Examples({"obs": points - points[:, :3].mean(1, keepdim=True)})


def make(seed: int = 0, **settings: Any) -> PrVIPE:
    return PrVIPE(PrVIPEConfig(**SMALL | settings), SPEC, seed=seed)


def train(model: PrVIPE, updates: int, first: int = 0) -> PrVIPE:
    for seed in range(first, first + updates):
        model.learn(batch(seed))
    return model


def measured(model: PrVIPE | PoseNearest, examples: Examples) -> dict[str, Any]:
    return ExamplesEvaluator(examples).columns(model, seed=0)


def embedding(**options: Any) -> PoseEmbedding:
    words = ",".join(f"{name}={x}" for name, x in {"width": 8, "size": 2, **options}.items())
    layers = make_encoder(f"pose:{words}", (POINTS, 2)).layers
    assert isinstance(layers, PoseEmbedding)
    return layers


def test_match_probabilities_by_hand() -> None:
    layers = embedding()
    scale = math.exp(-0.65)  # ELU(-0.65) + 1.
    found = layers.match(torch.tensor([0.0, 2.0]))
    for distance, value in zip((0.0, 2.0), found.tolist(), strict=True):
        assert value == pytest.approx(1 / (1 + math.exp(scale * distance + 0.5)))
    with torch.no_grad():
        layers.raw_scale.fill_(1.0)
        layers.offset.fill_(3.0)
    assert float(layers.match(torch.tensor(1.5)).detach()) == pytest.approx(0.5)


def test_features_are_means_and_standard_deviations() -> None:
    encoder = make_encoder("pose:width=8,size=2", (POINTS, 2)).eval()
    layers = encoder.layers
    assert isinstance(layers, PoseEmbedding)
    points = torch.randn(5, POINTS, 2)
    found = encoder(points)
    assert encoder.size == 4
    features = layers.features(points)
    torch.testing.assert_close(found[:, :2], layers.mean(features))
    torch.testing.assert_close(found[:, 2:], F.elu(layers.std(features)) + 1)
    assert (found[:, 2:] > 0).all()
    # As a sum of the input of each block and its two layers.
    x = normalised(points, 4).flatten(1)
    linear, norm, _, _, *blocks = list(layers.trunk)[1:]
    x = norm(linear(x)).relu()
    for block in blocks:
        inner: Any = block.inner
        one, first, _, _, two, second, _, _ = inner
        x = x + second(two(first(one(x)).relu())).relu()
    torch.testing.assert_close(features, x)


def test_the_size_of_the_papers_network() -> None:
    encoder = make_encoder("pose", (13, 2))
    layer = 1_024 * 1_024 + 1_024 + 2 * 1_024
    heads = 2 * (1_024 * 16 + 16)
    assert sum(x.numel() for x in encoder.parameters()) == 26 * 1_024 + 3 * 1_024 + 4 * layer + heads + 2  # fmt: skip


def test_the_unit_and_the_place_of_key_points_do_not_matter() -> None:
    encoder = make_encoder("pose:width=8", (POINTS, 2)).eval()
    points = torch.randn(5, POINTS, 2)
    torch.testing.assert_close(encoder(points), encoder(40 * points + 32), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(encoder(points), encoder(points.flip(-1)), atol=1e-3)


def test_samples_have_the_mean_and_the_deviation_of_the_embedding() -> None:
    gaussians = torch.tensor([[1.0, -2.0, 0.5, 3.0]])
    found = drawn(gaussians, torch.randn(1, 50_000, 2, generator=torch.Generator().manual_seed(0)))
    torch.testing.assert_close(found.mean(1), gaussians[:, :2], atol=0.05, rtol=0)
    torch.testing.assert_close(found.std(1), gaussians[:, 2:], atol=0.05, rtol=0)


def test_an_agents_encoder_acts_as_the_trained_one_in_evaluations() -> None:
    model = train(make(), 3)
    encoder = acting_encoder("pose:width=16,size=3,torso=3", Box(-1, 1, (POINTS, 2)), frozen=True)
    encoder.load_state_dict(model.encoder.state_dict(), strict=False)
    encoder.eval()
    model.encoder.eval()
    points = torch.randn(4, POINTS, 2)
    torch.testing.assert_close(encoder(points), model.encoder(points))
    assert not list(encoder.parameters())


def triplets_by_loop(distance: Tensor, negative: Tensor, margin: float) -> list[float]:
    losses = []
    for a in range(len(distance)):
        positive = float(distance[a, a].detach())
        further = [
            float(distance[a, n].detach()) for n in range(len(distance)) if negative[a, n] and distance[a, n] > positive
        ]  # fmt: skip
        losses.append(max(0.0, positive - min(further) + margin) if further else 0.0)
    return losses


def test_negatives_are_semi_hard_and_never_poses_that_match() -> None:
    generator = torch.Generator().manual_seed(0)
    distance = torch.rand(30, 30, generator=generator)
    negative = (torch.rand(30, 30, generator=generator) < 0.5).fill_diagonal_(False)
    negative[3] = False
    found = triplet_losses(distance, negative, 0.2)
    np.testing.assert_allclose(found, triplets_by_loop(distance, negative, 0.2), atol=1e-6)
    assert 0 < float((found > 0).float().mean()) < 1
    # Of poses that match, distances have no effect.
    distance.requires_grad_()
    triplet_losses(distance, negative, 0.2).sum().backward()
    assert distance.grad is not None
    others = ~negative & ~torch.eye(30, dtype=torch.bool)
    assert not distance.grad[others].any()
    assert distance.grad[negative].any()
    assert distance.grad.isfinite().all()


def test_means_of_losses() -> None:
    assert float(mean_of_active(torch.tensor([0.0, 3.0, 1.0, 0.0]))) == 2
    assert float(mean_of_active(torch.zeros(3))) == 0


def test_divergences_are_those_of_pytorch() -> None:
    gaussians = torch.cat([torch.randn(5, 3), torch.rand(5, 3) + 0.1], 1)
    normal = torch.distributions.Normal
    wanted = torch.distributions.kl_divergence(normal(gaussians[:, :3], gaussians[:, 3:]), normal(0.0, 1.0))  # fmt: skip
    torch.testing.assert_close(divergences(gaussians), wanted.sum(1))
    assert divergences(torch.zeros(1, 2)).isfinite().all()


def test_distances_are_those_of_a_loop_over_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make(samples=3)
    found = torch.cat([torch.randn(8, 3), torch.rand(8, 3)], 1)
    noise = torch.randn(8, 3, 3)
    monkeypatch.setattr(pr_vipe, "randn", lambda shape, generator: noise)
    distance = model._embedding_distances(found)
    z = drawn(found, noise)
    with torch.no_grad():
        for a in range(4):
            for b in range(4):
                every = [model.embedding.match((x - y).norm()) for x in z[a] for y in z[4 + b]]
                mean = float(torch.stack(every).mean())
                assert float(distance[a, b]) == pytest.approx(-math.log(0.9 * mean + 0.05), rel=1e-4)  # fmt: skip


def learned(**settings: Any) -> tuple[dict[str, float], list[tuple[Tensor, ...]]]:
    """Metrics of an update without dropout, and the arguments of its triplet losses."""
    model = make(encoder="pose:width=16,size=3,torso=3,dropout=0", **settings)
    seen: list[tuple[Tensor, ...]] = []
    usual = pr_vipe.triplet_losses

    def watched(*given: Any) -> Tensor:
        seen.append(given)
        return usual(*given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pr_vipe, "triplet_losses", watched)
        metrics = model.learn(batch())
    return {name: float(x) for name, x in metrics.items()}, seen


def test_the_loss_of_an_update_is_the_weighted_sum() -> None:
    metrics, [(distance, negative, margin)] = learned(positive_weight=0.5, prior_weight=0.25)
    losses = triplets_by_loop(distance, negative, float(margin))
    active = [x for x in losses if x > 0]
    assert float(margin) == pytest.approx(math.log(2))
    positive = float(distance.detach().diagonal().mean())
    assert metrics["positive"] == pytest.approx(positive)
    assert metrics["active"] == pytest.approx(len(active) / 12)
    wanted = np.mean(active) + 0.5 * positive + 0.25 * metrics["prior"]
    assert metrics["loss"] == pytest.approx(wanted, rel=1e-5)
    # The second half of the poses is nearly the first half.
    assert not negative.diagonal().any()
    assert not negative[range(6), range(6, 12)].any()
    assert 0.7 < float(negative.float().mean()) < 1
    assert torch.equal(negative, negative.T)


def test_of_equal_poses_none_is_a_negative() -> None:
    model = make()
    poses = batch()["obs"][:1].expand(6, -1, -1)
    metrics = model.learn(Examples({"obs": poses}))
    assert float(metrics["active"]) == 0
    assert metrics["loss"].isfinite()


def test_squared_distances_on_the_sphere_without_variances() -> None:
    metrics, [(distance, _, _)] = learned(objective="distance", margin=0.2)
    assert set(metrics) == {"loss", "active", "positive"}
    assert 0 <= float(distance.detach().min()) <= float(distance.detach().max()) <= 4.0001
    model = make(objective="distance")
    before = {name: x.clone() for name, x in model.encoder.state_dict().items()}
    train(model, 2)
    kept = {name for name, x in model.encoder.state_dict().items() if torch.equal(x, before[name])}
    assert {name for name in kept if "std" in name or "raw_scale" in name or "offset" in name} == kept  # fmt: skip
    assert len(kept) == 4
    torch.testing.assert_close(model.compared(torch.randn(4, POINTS, 2)).norm(dim=1), torch.ones(4))


def test_lifting_predicts_the_pose_relative_to_the_camera() -> None:
    model = make(objective="lifting", encoder="pose:width=64,torso=3,dropout=0", learning_rate=3e-3)
    losses = [float(model.learn(batch(0, 64))["loss"]) for _ in range(40)]
    assert losses[-1] < 0.5 * losses[0]
    # Without alignment the prediction is near the pose that has the view, and not near the pose as it was.
    poses = batch(0, 64)["obs"]
    with torch.no_grad():
        view, turn = model.seen(poses, model.measure_generator)
        found = model.compared(view)
    wanted = normalised(poses, 3)
    assert (found - wanted @ turn.mT).norm() < 0.8 * (found - wanted).norm()


def test_residuals_are_those_of_an_alignment_of_each_pair() -> None:
    first, second = (torch.randn(n, POINTS, 3) for n in (4, 5))
    first, second = (x - x.mean(1, keepdim=True) for x in (first, second))
    found = alignment_residuals(first, second)
    for i in range(4):
        for j in range(5):
            wanted = float((first[i] - aligned(first[i], second[j])).norm())
            assert float(found[i, j]) == pytest.approx(wanted, rel=1e-3)


def test_both_views_of_a_pose_are_seen_by_cameras_within_the_angles() -> None:
    model = make(azimuth=10, elevation=20, roll=0)
    poses = batch(0, 500)["obs"]
    view, turn = model.seen(poses, model.generator)
    torch.testing.assert_close(view, projected(poses, turn, 5.0))
    azimuth = torch.rad2deg(torch.atan2(turn[:, 2, 1], turn[:, 2, 0]))
    elevation = torch.rad2deg(turn[:, 2, 2].asin())
    for found, most in ((azimuth, 10), (elevation, 20)):
        assert -most <= float(found.min()) < -0.9 * most
        assert 0.9 * most < float(found.max()) <= most
    assert float(turn[:, 0, 2].abs().max()) < 1e-6  # The camera is level.
    rolling = make(azimuth=0, elevation=0, roll=90).seen(poses, model.generator)[1]
    assert float(rolling[:, 0, 2].abs().max()) > 0.99
    again, _ = model.seen(poses, model.generator)
    assert not torch.allclose(view, again)


def test_a_measurement_has_two_views_of_each_pose() -> None:
    model, examples = make(), batch()
    found = model.measure(examples)
    torch.testing.assert_close(found["pose"], normalised(examples["obs"], 3))
    first, second = found["views"].unbind(1)
    assert first.shape == (12, POINTS, 2)
    torch.testing.assert_close(normalised(first, 3), first)
    assert float((first - second).flatten(1).norm(dim=1).min()) > 0.01
    assert found["embedding"].shape == (12, 2, 6)


def test_embeddings_are_compared_by_their_means() -> None:
    query, index = torch.randn(3, 6), torch.randn(4, 6)
    wanted = torch.cdist(query[:, :3], index[:, :3])
    torch.testing.assert_close(make().distances(query, index), wanted)
    wanted = torch.cdist(query, index)
    torch.testing.assert_close(make(objective="distance").distances(query, index), wanted)


def test_hidden_key_points_are_limbs_in_the_middle_of_the_torso() -> None:
    model = make(keypoint_dropout=0.4)
    views = torch.randn(2_000, POINTS, 2)
    found = model._hidden(views)
    hidden = (found == 0).all(-1)
    assert not hidden[:, :3].any()
    assert float(hidden[:, 3:].float().mean()) == pytest.approx(0.4, abs=0.02)
    wanted = normalised(views, 3)
    torch.testing.assert_close(found[~hidden], wanted[~hidden])
    torch.testing.assert_close(normalised(found, 3)[:, :3], wanted[:, :3])
    assert make()._hidden(views) is views


def fixed(poses: Tensor, views: Tensor) -> dict[str, np.ndarray[Any, Any]]:
    return {"pose": poses.numpy(), "views": views.numpy()}


def test_measures_of_retrieval_by_hand() -> None:
    model = PoseNearest(PoseNearestConfig(metric="l2", torso=2, kappa=0.05), SPEC)
    torso = torch.tensor([[0.0, 0.0], [1.0, 0.0]])

    def views(*x: float) -> Tensor:
        return torch.stack([torch.cat([torso, torch.tensor([[y, 0.0]])]) for y in x])

    def poses(*x: float) -> Tensor:
        return F.pad(views(*x), (0, 1))

    # The index has the order 0, 1, 2, 3 from the left; the third pose is the fourth.
    index, query = views(0.0, 10.0, 20.0, 30.0), views(1.0, 21.0, 29.0, 31.0)
    columns = fixed(poses(0.0, 1.0, 2.0, 2.01), torch.stack([query, index], 1))
    found = model.summary(columns)
    assert {name: found[name] for name in ("exact_1", "match_1")} == {"exact_1": 0.5, "match_1": 0.75}  # fmt: skip
    assert found["exact_5"] == found["match_20"] == 1.0
    assert hits("exact", torch.tensor([[False, False, True]])) == {"exact_1": 0.0, "exact_5": 1.0, "exact_20": 1.0}  # fmt: skip


def test_key_points_are_compared_by_either_distance() -> None:
    views = torch.randn(3, POINTS, 2)
    for metric, wanted in (
        ("l2", torch.stack([(views - x).flatten(1).norm(dim=1) for x in views])),
        ("procrustes", torch.stack([shape_distances(views, x) for x in views])),
    ):
        model = PoseNearest(PoseNearestConfig(metric=metric, torso=3), SPEC)  # type: ignore[arg-type]
        torch.testing.assert_close(model.distances(views, views), wanted, atol=1e-3, rtol=1e-3)
        before = model.state_dict()
        assert float(model.learn(batch())["distance"]) > 0
        assert before.keys() == model.state_dict().keys()
    same_view = PoseNearest(PoseNearestConfig(azimuth=0, elevation=0, roll=0, torso=3), SPEC)
    assert measured(same_view, batch())["exact_1"] == [1.0]
    assert float(same_view.learn(batch())["distance"]) < 1e-3


def test_ambiguity_is_a_correlation_with_near_views() -> None:
    model = make(kappa=0.1)
    # Three views that look alike, with a large deviation, and two others with a small one.
    views = torch.zeros(5, 2, POINTS, 2)
    views[3:] = torch.tensor([5.0, 9.0])[:, None, None, None]
    views[4, 1] = 30.0  # How near the other view of the same pose is does not count.
    std = torch.tensor([2.0, 2.0, 2.0, 1.0, 1.0])[:, None, None].expand(5, 2, 3)
    columns = {
        **fixed(torch.randn(5, POINTS, 3), views), "embedding": torch.cat([torch.zeros(5, 2, 3), std], 2).numpy(),
    }  # fmt: skip
    assert model.summary(columns)["ambiguity"] == pytest.approx(1.0)
    assert correlation(torch.ones(3), torch.tensor([1.0, 2.0, 3.0])) == 0
    x, y = torch.randn(9), torch.randn(9)
    assert correlation(x, y) == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-5)
    first, second = torch.randn(2, POINTS, 2), torch.randn(3, POINTS, 2)
    wanted = (first[:, None] - second).norm(dim=-1).mean(-1)
    torch.testing.assert_close(mean_point_distances(first, second), wanted)


def test_it_learns_to_retrieve_poses_across_views() -> None:
    model = make(encoder="pose:width=64,size=8,torso=3", learning_rate=3e-3)
    examples = batch(999, 100)
    before = measured(model, examples)
    for seed in range(40):
        model.learn(batch(seed, 24))
    after = measured(model, examples)
    assert after["match_5"][0] > before["match_5"][0] + 0.05
    assert after["exact_20"][0] > before["exact_20"][0] + 0.1
    assert set(after) >= {measure.name for measure in model.measures} | {"ambiguity"}
    for objective in ("distance", "lifting"):
        found = measured(make(objective=objective), examples)
        assert "ambiguity" not in found
        assert all(np.isfinite(found[measure.name]).all() for measure in model.measures)


CHANGES: dict[str, Any] = {
    "azimuth": 90.0, "elevation": 5.0, "roll": 5.0, "distance": 9.0, "kappa": 0.01, "encoder": "pose:width=16,size=4,torso=3",
    "objective": "distance", "samples": 5, "margin": 0.2, "positive_weight": 0.5, "prior_weight": 0.5, "keypoint_dropout": 0.5,
    "learning_rate": 0.01,
}  # fmt: skip


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(PrVIPEConfig)])
def test_every_setting_has_an_effect(field: str) -> None:
    if field == "batch_size":  # Read by the driver alone.
        return
    usual, changed = (
        {k: v for k, v in tensors(train(make(**own), 3).state_dict()).items() if "/encoder/" in k}
        for own in ({}, {field: CHANGES[field]})
    )
    assert not same(usual, changed)


@pytest.mark.parametrize("option", ["width=17", "blocks=1", "dropout=0.6", "torso=2"])
def test_every_option_of_the_encoder_has_an_effect(option: str) -> None:
    usual, changed = (
        train(make(encoder=f"pose:width=16,torso=3{more}"), 2) for more in ("", f",{option}")
    )
    assert not same(tensors(usual.state_dict()), tensors(changed.state_dict()))


def test_measuring_changes_nothing_and_learning_draws_from_its_own_generator() -> None:
    model, quiet = (train(make(), 2) for _ in range(2))
    measured(model, batch(5))
    assert equal(model, quiet)
    before = torch.get_rng_state()
    assert equal(train(model, 2, first=2), train(quiet, 2, first=2))
    assert torch.equal(before, torch.get_rng_state())
    assert not equal(train(make(), 2), train(make(1), 2))


@pytest.mark.parametrize("objective", ["probability", "distance", "lifting"])
def test_a_resumed_model_equals_one_that_was_never_stopped(objective: str) -> None:
    whole, half = (train(make(objective=objective, keypoint_dropout=0.2), n) for n in (4, 2))
    resumed = make(seed=9, objective=objective, keypoint_dropout=0.2)
    resumed.load_state_dict(half.state_dict())
    assert equal(whole, train(resumed, 2, first=2))


def test_what_cannot_be_learned_from_is_refused() -> None:
    flat = {"obs": Box(-1, 1, (POINTS, 2))}
    for kind in (PrVIPE, PoseNearest):
        with pytest.raises(UserError, match=r"shape \[7, 2\]; this model needs points in space"):
            kind(kind.Config(), flat)
    with pytest.raises(UserError, match="needs points in space"):
        PoseNearest(PoseNearestConfig(torso=8), SPEC)
    with pytest.raises(UserError, match="the 8 of the torso first"):
        make(encoder="pose:torso=8")
    with pytest.raises(UserError, match="encoder is flatten; this model needs the encoder pose"):
        make(encoder="flatten")
    with pytest.raises(UserError, match="torso of pose is 1; give 2 or more"):
        make(encoder="pose:torso=1")
    with pytest.raises(UserError, match="dropout of pose is 1"):
        make(encoder="pose:dropout=1")
    with pytest.raises(UserError, match="behind a camera at the distance 2; give a larger"):
        make(distance=2).learn(Examples({"obs": 3 * batch()["obs"]}))
    wrong: Any
    for setting, wrong in (("kappa", 0), ("azimuth", 200), ("margin", 5), ("keypoint_dropout", 1), ("batch_size", 1)):  # fmt: skip
        with pytest.raises(UserError, match=f"{setting} is {wrong}; give"):
            PrVIPEConfig(**{setting: wrong})


def test_a_run_killed_between_checkpoints_ends_as_one_never_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    columns = {f"{split}/obs": batch(i)["obs"].numpy() for i, split in enumerate(("train", "test"))}
    np.savez(tmp_path / "poses.npz", **columns)  # type: ignore[arg-type]

    def run(out: Path) -> Run:
        config = RunConfig(
            env=str(tmp_path / "poses.npz"), updates=3, eval_every=2, log_every=1, checkpoint_every=1, out=out
        )  # fmt: skip
        settings = PrVIPEConfig(**SMALL, batch_size=6, keypoint_dropout=0.2)
        return Run("pr-vipe", settings, config, Console(quiet=True))

    run(tmp_path / "whole").start()
    usual, calls = PrVIPE.learn, []

    def learn(model: PrVIPE, experience: Examples) -> Mapping[str, Tensor]:
        calls.append(1)
        if len(calls) == 3:
            raise Killed
        return usual(model, experience)

    with monkeypatch.context() as patch:
        patch.setattr(PrVIPE, "learn", learn)
        with pytest.raises(Killed):
            run(tmp_path / "broken").start()
    assert Run.resume(tmp_path / "broken", Console(quiet=True)).finish() == 1
    assert_equal(tmp_path / "whole", tmp_path / "broken")
    assert _poses.FIRST == (1, 5, 20)


def test_half_of_a_coin_is_the_smallest_probability() -> None:
    assert float(match_distances(torch.tensor(0.0))) == pytest.approx(-math.log(0.05))
