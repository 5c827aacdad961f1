"""FaceNet: negatives and losses by hand and against a loop, areas under curves, collapse, and resumes."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from gymnasium.spaces import Box, Discrete
from rich.console import Console
from torch import Tensor

from rlbench.backbones.models._embedding import squared_distances
from rlbench.backbones.models.facenet import (
    PAIRS,
    FaceNet,
    FaceNetConfig,
    Mining,
    area_under_curve,
    negatives,
    triplet_losses,
)
from rlbench.benchmarks.training.config import RunConfig
from rlbench.benchmarks.training.evaluation import ExamplesEvaluator
from rlbench.benchmarks.training.runner import Run
from rlbench.errors import UserError
from rlbench.experience import Examples
from tests.backbones.test_prototypical import SPEC, Killed, batch
from tests.kill_and_resume import assert_equal
from tests.networks import equal, same as same_tensors, tensors

SMALL: dict[str, Any] = {
    "encoder": "conv4:width=8,layers=2", "embedding_size": 8, "pictures": 4, "learning_rate": 3e-3,
}  # fmt: skip


def make(seed: int = 0, spec: Mapping[str, Any] = SPEC, **settings: Any) -> FaceNet:
    return FaceNet(FaceNetConfig(**SMALL | settings), spec, seed=seed)


def train(model: FaceNet, updates: int, first: int = 0) -> FaceNet:
    for seed in range(first, first + updates):
        model.learn(batch(seed))
    return model


def measured(model: FaceNet, examples: Examples) -> dict[str, Any]:
    return ExamplesEvaluator(examples).columns(model, seed=0)


def by_loop(distance: Tensor, label: Tensor, mining: Mining) -> dict[tuple[int, int], float]:
    """Distance of the negative of each pair, by the definition."""
    found = {}
    for a in range(len(label)):
        others = [float(distance[a, n]) for n in range(len(label)) if label[n] != label[a]]
        for p in range(len(label)):
            if label[p] == label[a] and p != a:
                further = [x for x in others if x > distance[a, p]]
                semi = min(further) if further else max(others)
                found[a, p] = semi if mining == "semi-hard" else min(others)
    return found


@pytest.mark.parametrize("mining", ["semi-hard", "hardest"])
def test_negatives_and_losses_are_those_of_a_loop(mining: Mining) -> None:
    generator = torch.Generator().manual_seed(0)
    x = F.normalize(torch.randn(14, 3, generator=generator), dim=1)
    label = torch.tensor([0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3])
    distance, same = squared_distances(x, x), label[:, None] == label
    chosen = negatives(distance, same, mining, torch.rand(14, 14))
    losses = triplet_losses(distance, chosen, 0.2)
    wanted = by_loop(distance, label, mining)
    assert len(wanted) == 20 + 3 * 6
    for (a, p), far in wanted.items():
        assert label[chosen[a, p]] != label[a]
        assert float(distance[a, chosen[a, p]]) == far
        assert float(losses[a, p]) == pytest.approx(max(0, float(distance[a, p]) - far + 0.2))


def test_random_negatives_are_any_of_other_classes() -> None:
    label = torch.tensor([0, 0, 1, 2, 2])
    distance, same = torch.rand(5, 5), label[:, None] == label
    generator, count = torch.Generator().manual_seed(0), torch.zeros(5, 5)
    for _ in range(200):
        found = negatives(distance, same, "random", torch.rand(5, 5, generator=generator))
        count += F.one_hot(found, 5).sum(1)
    assert torch.equal(count > 0, ~same)
    expected = (~same).float() / (~same).sum(1, keepdim=True)
    torch.testing.assert_close(count / 1_000, expected, atol=0.06, rtol=0)


def test_the_area_under_a_curve_is_that_of_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    same, different = rng.normal(0, 1, 50).round(1), rng.normal(1, 1, 70).round(1)
    truth = np.r_[np.ones(50), np.zeros(70)]
    wanted = metrics.roc_auc_score(truth, -np.r_[same, different])
    assert area_under_curve(same, different) == pytest.approx(wanted)
    assert area_under_curve(np.zeros(3), np.ones(4)) == 1
    assert area_under_curve(np.ones(3), np.zeros(4)) == 0


def test_the_loss_of_an_update_is_the_mean_over_all_pairs() -> None:
    model, twin = (make(pictures=8, margin=0.02) for _ in range(2))
    examples = batch()
    metrics = model.learn(examples)
    x = F.normalize(twin.features(examples["obs"].flatten(0, 1)), dim=-1).detach()
    label = examples["label"].repeat_interleave(8)
    distance = squared_distances(x, x)
    wanted = by_loop(distance, label, "semi-hard")
    losses = [max(0.0, float(distance[pair]) - far + 0.02) for pair, far in wanted.items()]
    assert len(losses) == 12 * 8 * 7
    assert 0.1 < np.mean(np.array(losses) > 0) < 0.9
    assert float(metrics["loss"]) == pytest.approx(np.mean(losses), rel=0.02)
    assert float(metrics["active"]) == pytest.approx(np.mean(np.array(losses) > 0), abs=0.01)
    assert float(metrics["spread"]) == pytest.approx(float(distance.std()), rel=1e-3)


def test_a_measurement_has_pairs_of_the_same_and_of_different_classes() -> None:
    """Vectors on a circle whose angle is 100 times the class plus the place in the set, in degrees."""
    spec = {"obs": Box(-1, 1, (5, 2)), "label": Discrete(3)}
    model = make(spec=spec, encoder="flatten", embedding_size=None)
    angle = torch.deg2rad(100.0 * torch.arange(3)[:, None] + torch.arange(5))
    obs = 7 * torch.stack([angle.cos(), angle.sin()], -1)
    label = torch.arange(3)
    found = measured(model, Examples({"obs": obs, "label": label}))
    assert found["same"].shape == found["different"].shape == (3, PAIRS)
    degrees = {name: np.rad2deg(2 * np.arcsin(np.sqrt(found[name]) / 2)) for name in ("same", "different")}  # fmt: skip
    assert set(degrees["same"].round().astype(int).ravel()) == {1, 2, 3, 4}
    assert degrees["different"].min() > 95
    assert {x for row in degrees["different"].round() for x in row if x < 105} == set(
        range(96, 105)
    )
    np.testing.assert_allclose(
        found["loss"], np.maximum(0, found["same"] - found["different"] + 0.2).mean(1), atol=1e-6
    )
    assert found["auc"] == [1.0]
    both = np.concatenate([found["same"], found["different"]])
    assert found["spread"][0] == pytest.approx(both.std(), rel=1e-5)
    assert {measure.name for measure in model.measures} <= set(found)


def test_embeddings_are_on_the_unit_sphere() -> None:
    torch.testing.assert_close(make().decide(batch()["obs"]).norm(dim=-1), torch.ones(12, 8))


def test_it_learns_to_verify_new_classes() -> None:
    model, examples = make(encoder="conv4:width=16,layers=1"), batch(999, classes=20, noise=100)
    before = measured(model, examples)["auc"][0]
    for seed in range(60):
        model.learn(batch(seed, noise=100))
    assert measured(model, examples)["auc"][0] > before + 0.05


def test_a_classifier_learns_the_training_classes() -> None:
    model, examples = make(objective="softmax", learning_rate=0.01), batch(classes=30)
    losses = [float(model.learn(examples)["loss"]) for _ in range(30)]
    assert losses[0] == pytest.approx(np.log(30), rel=0.1)
    assert losses[-1] < 0.7 * losses[0]


def test_a_collapsed_embedding_shows_as_no_spread_and_a_loss_of_the_margin() -> None:
    model = make()
    with torch.no_grad():
        for parameter in model.projection.parameters():
            parameter.fill_(float(parameter.dim() == 1))  # The bias alone.
    found = measured(model, batch(5))
    assert found["spread"][0] == pytest.approx(0, abs=1e-6)
    np.testing.assert_allclose(found["loss"], 0.2, atol=1e-6)
    metrics = model.learn(batch())
    assert float(metrics["loss"]) == pytest.approx(0.2, abs=1e-5)
    assert all(p.isfinite().all() for p in model.encoder.parameters())


CHANGES: dict[str, Any] = {
    "encoder": "conv4:width=8,layers=1", "embedding_size": 9, "objective": "softmax", "margin": 0.5, "mining": "hardest",
    "pictures": 3, "learning_rate": 0.01,
}  # fmt: skip


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(FaceNetConfig)])
def test_every_setting_has_an_effect(field: str) -> None:
    if field == "batch_size":  # Read by the driver alone.
        return
    usual, changed = (
        {k: v for k, v in tensors(train(make(**own), 3).state_dict()).items() if "/encoder/" in k}
        for own in ({}, {field: CHANGES[field]})
    )
    assert not same_tensors(usual, changed)


def test_measuring_changes_nothing() -> None:
    model, quiet = (train(make(mining="random"), 2) for _ in range(2))
    measured(model, batch(5))
    assert equal(model, quiet)
    assert equal(train(model, 2, first=2), train(quiet, 2, first=2))


def test_an_encoder_without_weights_learns_nothing() -> None:
    model = make(encoder="flatten", embedding_size=None)
    before = measured(model, batch(5))
    assert model.learn(batch())["loss"].isfinite()
    again = measured(model, batch(5))
    assert all(np.array_equal(before[name], again[name]) for name in before)


def test_what_cannot_be_learned_from_is_refused() -> None:
    one = Examples({"obs": batch()["obs"][:2], "label": torch.zeros(2, dtype=torch.int64)})
    with pytest.raises(UserError, match="there is no negative"):
        make().learn(one)
    with pytest.raises(UserError, match="has sets of one class only"):
        make().measure(one)
    with pytest.raises(UserError, match="with K of 9 or more"):
        make(pictures=9)
    with pytest.raises(UserError, match="margin is 0; give a number above 0"):
        make(margin=0)


def test_a_run_killed_between_checkpoints_ends_as_one_never_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(out: Path) -> Run:
        config = RunConfig(
            env="glyph-sets", data_size=20, updates=3, eval_every=2, log_every=1, checkpoint_every=1, out=out
        )  # fmt: skip
        settings = FaceNetConfig(encoder="conv4:width=4", batch_size=4, mining="random")
        return Run("facenet", settings, config, Console(quiet=True))

    run(tmp_path / "whole").start()
    usual, calls = FaceNet.learn, []

    def learn(model: FaceNet, experience: Examples) -> Mapping[str, Tensor]:
        calls.append(1)
        if len(calls) == 3:
            raise Killed
        return usual(model, experience)

    with monkeypatch.context() as patch:
        patch.setattr(FaceNet, "learn", learn)
        with pytest.raises(Killed):
            run(tmp_path / "broken").start()
    assert Run.resume(tmp_path / "broken", Console(quiet=True)).finish() == 1
    assert_equal(tmp_path / "whole", tmp_path / "broken")
