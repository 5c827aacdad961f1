"""Debiasing: reversed gradients and entropies by hand, the order of the terms, the recipe, and resumes."""

import dataclasses
import math
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

from rlbench.backbones.layers.reversal import reversed_gradient
from rlbench.backbones.models.debiasing import (
    Debiasing,
    DebiasingConfig,
    negative_entropy,
    probed,
)
from rlbench.benchmarks.training.config import RunConfig
from rlbench.benchmarks.training.evaluation import ExamplesEvaluator
from rlbench.benchmarks.training.runner import Run
from rlbench.envs.examples.scenes import Scenes
from rlbench.errors import UserError
from rlbench.experience import Examples
from tests.backbones.test_prototypical import Killed
from tests.kill_and_resume import assert_equal
from tests.networks import equal, same, tensors

VECTOR = Box(-9, 9, (6,))
SPEC: dict[str, Any] = {
    "obs": VECTOR, "masked": VECTOR, "label": Discrete(3), "scene": Discrete(3), "other": Discrete(3),
}  # fmt: skip
SMALL: dict[str, Any] = {
    "encoder": "sigmoid-mlp:units=8,layers=1", "adversary_hidden": (8,), "pretrain_updates": 1, "adversary_updates": 1,
}  # fmt: skip


def make(seed: int = 0, spec: Mapping[str, Any] = SPEC, **settings: Any) -> Debiasing:
    return Debiasing(DebiasingConfig(**SMALL | settings), spec, seed=seed)


def batch(seed: int = 0, rows: int = 16, agree: float = 0.8) -> Examples:
    """The first half of a vector shows the action, the second half the scene."""
    generator = torch.Generator().manual_seed(seed)
    label = torch.randint(3, (rows,), generator=generator)
    usual = torch.rand(rows, generator=generator) < agree
    scene = torch.where(usual, label, torch.randint(3, (rows,), generator=generator))
    action, place = (200.0 * F.one_hot(x, 3) for x in (label, scene))
    return Examples({
        "obs": torch.cat([action, place], 1), "masked": torch.cat([0 * action, place], 1),
        "label": label, "scene": scene, "other": (label + 1) % 3,
    })  # fmt: skip


def train(model: Debiasing, updates: int, first: int = 0, rows: int = 16) -> Debiasing:
    for seed in range(first, first + updates):
        model.learn(batch(seed, rows))
    return model


def weights(model: Debiasing) -> dict[str, Tensor]:
    return {k: v for k, v in tensors(model.state_dict()).items() if "optimizer" not in k}


def test_a_reversed_gradient_by_hand() -> None:
    x = torch.tensor([3.0, -1.0], requires_grad=True)
    y = reversed_gradient(x, 0.25)
    assert torch.equal(x, y)
    (gradient,) = torch.autograd.grad((2 * y).sum(), x)
    assert gradient.tolist() == [-0.5, -0.5]


def test_entropies_by_hand() -> None:
    assert float(negative_entropy(torch.zeros(2, 3))) == pytest.approx(-math.log(3))
    certain = torch.tensor([[100.0, 0.0, 0.0]])
    assert float(negative_entropy(certain)) == pytest.approx(0, abs=1e-6)
    both = torch.cat([certain, torch.zeros(1, 3)])
    assert float(negative_entropy(both)) == pytest.approx(-math.log(3) / 2)


def test_a_probe_reads_what_is_linear_and_is_tested_on_other_rows() -> None:
    rng = np.random.default_rng(0)
    label = rng.integers(3, size=400)
    features = np.eye(3)[label] + rng.normal(0, 0.1, (400, 3))
    assert probed(features, label) == 1
    noise = rng.normal(size=(400, 150))
    assert probed(noise, label) < 0.5


def gradients_of(model: Debiasing, loss: Tensor) -> list[Tensor]:
    found = torch.autograd.grad(loss, list(model.encoder.parameters()), allow_unused=True)
    return [torch.zeros(()) if x is None else x for x in found]


@pytest.mark.parametrize(("updates", "terms"), [(0, 1), (1, 2), (2, 3)])
def test_the_terms_of_each_part_of_a_run(
    updates: int, terms: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First the classifier, then also the frames without actors, then also minus the adversary."""
    model = make(reversal=0.7, mask_weight=2.0)
    model.updates = updates
    examples = batch(5)
    z = model.features(examples["obs"])
    classifier = F.cross_entropy(model.head(z), examples["label"])
    masked = negative_entropy(model.head(model.features(examples["masked"])))
    scene = F.cross_entropy(model.adversary(z), examples["scene"])
    total = classifier + 2.0 * masked * (terms > 1) - 0.7 * scene * (terms > 2)
    wanted = gradients_of(model, total)
    seen: list[Tensor] = []
    monkeypatch.setattr(
        model.encoder_optimizer, "step", lambda gradients: seen.extend(gradients[: len(wanted)])
    )
    before = [p.clone() for p in model.adversary.parameters()]
    model.learn(examples)
    for own, other in zip(seen, wanted, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-7)
    moved = [(p - q).sign() for p, q in zip(model.adversary.parameters(), before, strict=True)]
    down = torch.autograd.grad(
        F.cross_entropy(model.adversary(z.detach()), examples["scene"]), list(model.adversary.parameters())
    )  # fmt: skip
    agree = [bool((m * d <= 0).float().mean() > 0.9) for m, d in zip(moved, down, strict=True)]
    assert all(agree), "the adversary itself goes down its loss"


def test_step_sizes_change_after_pre_training() -> None:
    model = make(learning_rate=0.01, encoder_learning_rate=0.002, head_learning_rate=0.03)
    rates = []
    for seed in range(3):
        model.learn(batch(seed))
        optimizers = (model.encoder_optimizer, model.head_optimizer, model.adversary_optimizer)
        rates.append([round(float(x.learning_rate), 6) for x in optimizers])
    assert rates == [[0.01, 0.01, 0.03], [0.002, 0.03, 0.03], [0.002, 0.03, 0.03]]


def test_frames_without_actors_do_not_enter_running_statistics() -> None:
    models = [make(encoder="sigmoid-mlp:units=8,layers=1,norm=bn", mask_weight=x) for x in (0.0, 1.0)]  # fmt: skip
    for model in models:
        model.updates = 1
        model.learn(batch())
        assert model.encoder.training
    states = [dict(model.encoder.named_buffers()) for model in models]
    assert states[0]
    assert all(torch.equal(x, states[1][name]) for name, x in states[0].items())


def test_it_learns_and_becomes_uncertain_without_an_actor() -> None:
    settings: dict[str, Any] = {
        "pretrain_updates": 100,
        "head_learning_rate": 0.01,
        "learning_rate": 0.01,
    }
    unbiased = batch(999, rows=300, agree=0.0)
    confidence = {}
    for weight in (0.0, 1.0):
        model = train(make(reversal=0.0, mask_weight=weight, **settings), 200, rows=64)
        found = ExamplesEvaluator(unbiased).columns(model, seed=0)
        confidence[weight] = found["confidence"].mean()
        assert found["accuracy"].mean() > 0.8
        assert {measure.name for measure in model.measures} <= set(found)
    assert confidence[1.0] < 0.5 < confidence[0.0] - 0.1
    assert found["probe"][0] > 0.8
    torch.testing.assert_close(model.decide(unbiased["obs"]).sum(1), torch.ones(300))


CHANGES: dict[str, Any] = {
    "encoder": "sigmoid-mlp:units=8,layers=2", "label": "other", "scene": "other", "reversal": 2.0, "mask_weight": 0.0,
    "normalise_features": False, "adversary_hidden": (8, 8), "pretrain_updates": 2, "adversary_updates": 0,
    "learning_rate": 0.01, "encoder_learning_rate": 0.01, "head_learning_rate": 0.01,
}  # fmt: skip


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(DebiasingConfig)])
def test_every_setting_has_an_effect(field: str) -> None:
    if field == "batch_size":  # Read by the driver alone.
        return
    usual, changed = (weights(train(make(**own), 5)) for own in ({}, {field: CHANGES[field]}))
    assert not same(usual, changed)


def test_measuring_changes_nothing() -> None:
    model, quiet = (train(make(), 3) for _ in range(2))
    ExamplesEvaluator(batch(5)).columns(model, seed=0)
    assert equal(model, quiet)
    assert equal(train(model, 2, first=3), train(quiet, 2, first=3))


def test_what_it_cannot_learn_from_is_refused() -> None:
    for spec in ({**SPEC, "masked": Box(-9, 9, (5,))}, {"obs": VECTOR, "label": Discrete(3)}):
        with pytest.raises(UserError, match="needs the same frames without their actors"):
            make(spec=spec)
    with pytest.raises(UserError, match="no classes in a column 'place'"):
        make(scene="place")
    with pytest.raises(UserError, match="reversal is -1"):
        make(reversal=-1.0)
    with pytest.raises(UserError, match=r"adversary_hidden is \(0,\)"):
        make(adversary_hidden=(0,))


def test_a_run_killed_between_checkpoints_ends_as_one_never_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Scenes, "sizes", {"train": 40, "test": 20})

    def run(out: Path) -> Run:
        config = RunConfig(
            env="scenes-85", data_size=20, updates=4, eval_every=3, log_every=1, checkpoint_every=1, out=out
        )  # fmt: skip
        settings = DebiasingConfig(
            encoder="conv4:width=4,norm=bn", batch_size=8, pretrain_updates=1, adversary_updates=1
        )
        return Run("debiasing", settings, config, Console(quiet=True))

    run(tmp_path / "whole").start()
    usual, calls = Debiasing.learn, []

    def learn(model: Debiasing, experience: Examples) -> Mapping[str, Tensor]:
        calls.append(1)
        if len(calls) == 4:
            raise Killed
        return usual(model, experience)

    with monkeypatch.context() as patch:
        patch.setattr(Debiasing, "learn", learn)
        with pytest.raises(Killed):
            run(tmp_path / "broken").start()
    assert Run.resume(tmp_path / "broken", Console(quiet=True)).finish() == 1
    assert_equal(tmp_path / "whole", tmp_path / "broken")
