"""Prototypical networks: means and distances by hand, the linear classifier they are, episodes, and resumes."""

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

from rlbench.backbones.models import prototypical as module
from rlbench.backbones.models._embedding import drawn_from, squared_distances
from rlbench.backbones.models.prototypical import (
    Prototypical,
    PrototypicalConfig,
    logits,
    prototypes,
)
from rlbench.benchmarks.training.config import RunConfig
from rlbench.benchmarks.training.evaluation import ExamplesEvaluator
from rlbench.benchmarks.training.runner import Run
from rlbench.errors import UserError
from rlbench.experience import Examples
from rlbench.interface import evaluating
from tests.kill_and_resume import assert_equal
from tests.networks import equal, same, tensors

SPEC: dict[str, Any] = {"obs": Box(0, 255, (8, 6, 6, 1), np.uint8), "label": Discrete(30)}
SMALL: dict[str, Any] = {
    "encoder": "conv4:width=8,layers=2", "shot": 2, "query": 3, "test_query": 3, "test_way": 4, "test_episodes": 4,
}  # fmt: skip


def make(seed: int = 0, spec: Mapping[str, Any] = SPEC, **settings: Any) -> Prototypical:
    return Prototypical(PrototypicalConfig(**SMALL | settings), spec, seed=seed)


def batch(seed: int = 0, classes: int = 12, noise: int = 60) -> Examples:
    """Sets of noisy pictures; those of a class look alike."""
    generator = torch.Generator().manual_seed(seed)
    centre = torch.randint(256 - noise, (classes, 1, 6, 6, 1), generator=generator)
    more = torch.randint(noise, (classes, 8, 6, 6, 1), generator=generator)
    return Examples({"obs": (centre + more).byte(), "label": torch.arange(classes)})


def train(model: Prototypical, updates: int, first: int = 0) -> Prototypical:
    for seed in range(first, first + updates):
        model.learn(batch(seed))
    return model


def test_prototypes_and_probabilities_by_hand() -> None:
    support = torch.tensor([[[0.0, 0.0], [2.0, 0.0]], [[0.0, 3.0], [0.0, 5.0]]])
    centres = prototypes(support)
    assert centres.tolist() == [[1, 0], [0, 4]]
    query = torch.tensor([[1.0, 2.0]])
    # Squared distances 4 and 5.
    assert logits(query, centres, "euclidean", 1.0).tolist() == [[-4, -5]]
    probability = logits(query, centres, "euclidean", 1.0).softmax(1)[0, 0]
    assert probability == pytest.approx(1 / (1 + torch.tensor(-1.0).exp()))
    cosines = logits(query, centres, "cosine", 10.0)
    torch.testing.assert_close(cosines, torch.tensor([[10 / 5**0.5, 20 / 5**0.5]]))


def test_with_squared_distances_it_is_a_linear_classifier() -> None:
    torch.manual_seed(0)
    query, centres = torch.randn(7, 5), torch.randn(3, 5)
    linear = F.linear(query, 2 * centres, -centres.square().sum(1))
    torch.testing.assert_close(
        logits(query, centres, "euclidean", 1.0).softmax(1), linear.softmax(1)
    )


def test_distances_are_those_of_pytorch_with_finite_gradients() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(6, 4, requires_grad=True), torch.randn(3, 4)
    torch.testing.assert_close(squared_distances(x, y), torch.cdist(x, y).square())
    (gradient,) = torch.autograd.grad(squared_distances(x, x).sum(), x)
    assert gradient.isfinite().all()


def test_a_draw_has_different_observations_of_each_set_in_random_order() -> None:
    sets = torch.arange(40).view(2, 20, 1)
    found = drawn_from(sets, 20, torch.Generator().manual_seed(0))
    assert [sorted(x.flatten().tolist()) for x in found] == sets.squeeze(2).tolist()
    assert found[0].tolist() != sets[0].tolist()
    assert (found[1] - 20).tolist() != found[0].tolist()
    assert drawn_from(sets, 3, torch.Generator()).shape == (2, 3, 1)


def test_an_update_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss is that of queries to the means of their support, with one encoder pass for both."""
    model = make(scale=0.5)
    monkeypatch.setattr(module, "drawn_from", lambda sets, count, _: sets[:, :count])
    examples = batch()
    twin = make(scale=0.5)
    embedding = twin.encoder(examples["obs"][:, :5].flatten(0, 1)).unflatten(0, (12, 5)).detach()
    centres = embedding[:, :2].mean(1)
    total = 0.0
    for k in range(12):
        for x in embedding[k, 2:]:
            distance = torch.stack([(x - c).square().sum() for c in centres])
            total += float(-(-0.5 * distance).log_softmax(0)[k]) / 36
    assert float(model.learn(examples)["loss"]) == pytest.approx(total, rel=1e-4)


def test_it_recognises_new_classes() -> None:
    model = train(make(learning_rate=3e-3), 40)
    with evaluating(model):
        found = model.measure(batch(999, classes=20))
    assert found["accuracy_5"].mean() > 0.9
    assert found["accuracy_1"].mean() < found["accuracy_5"].mean()
    assert {measure.name for measure in model.measures} == set(found)
    assert all(x.shape == (20,) for x in found.values())


def test_a_measured_episode_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Vectors on a line: with one support example the third class is taken for the second."""
    spec = {"obs": Box(-99, 99, (8, 1)), "label": Discrete(3)}
    model = make(spec=spec, encoder="flatten", test_way=3, test_episodes=1)
    monkeypatch.setattr(module, "drawn_from", lambda sets, count, _: sets[:, :count])
    rows = [[0.0] * 8, [10.0] * 8, [30.0, 20, 20, 20, 20, 19, 19, 19]]
    examples = Examples({"obs": torch.tensor(rows)[..., None], "label": torch.arange(3)})
    found = model.measure(examples)
    # Prototypes 0, 10 and 30, and then 0, 10 and 22; the queries are the last three of each row.
    assert found["accuracy_1"].tolist() == [1, 1, 0]
    assert found["accuracy_5"].tolist() == [1, 1, 1]
    wanted = -torch.tensor([-(19.0**2), -(9.0**2), -(3.0**2)]).log_softmax(0)[2]
    torch.testing.assert_close(found["loss"][2], wanted)


def test_only_the_classes_of_the_episode_are_told_apart() -> None:
    """Pairs of classes are alike; an episode of two classes rarely has both."""
    spec = {"obs": Box(-999, 999, (8, 1)), "label": Discrete(40)}
    centre = torch.arange(40) // 2 * 10.0
    obs = centre[:, None, None].expand(40, 8, 1) + torch.rand(40, 8, 1)
    examples = Examples({"obs": obs, "label": torch.arange(40)})
    two, all_of_them = (
        make(spec=spec, encoder="flatten", test_way=way, test_episodes=30).measure(examples)["accuracy_5"].mean()
        for way in (2, 40)
    )  # fmt: skip
    assert two == pytest.approx(1 - 0.5 / 39, abs=0.01)
    assert all_of_them == pytest.approx(0.5, abs=0.1)


CHANGES: dict[str, Any] = {
    "encoder": "conv4:width=8,layers=1", "distance": "cosine", "scale": 2.0, "shot": 3, "query": 2, "learning_rate": 0.01,
    "halving_updates": 1,
}  # fmt: skip
MEASURING = {"test_way": 5, "test_query": 2, "test_episodes": 5}


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(PrototypicalConfig)])
def test_every_setting_has_an_effect(field: str) -> None:
    if field == "batch_size":  # Read by the driver alone.
        return
    if field in MEASURING:
        settings: tuple[dict[str, Any], ...] = ({}, {field: MEASURING[field]})
        found = [make(**x).measure(batch())["loss"] for x in settings]
        assert not torch.equal(*found)
        return
    weights = [
        {k: v for k, v in tensors(train(make(**own), 3).state_dict()).items() if "/encoder/" in k}
        for own in ({}, {field: CHANGES[field]})
    ]
    assert not same(*weights)


def test_the_step_size_is_halved_again_and_again() -> None:
    model, rates = make(learning_rate=0.008, halving_updates=2), []
    for seed in range(5):
        model.learn(batch(seed))
        assert model.optimizer is not None
        rates.append(float(model.optimizer.learning_rate))
    assert rates == pytest.approx([0.008, 0.008, 0.004, 0.004, 0.002])


def test_an_encoder_without_weights_is_measured_as_it_is() -> None:
    model = make(encoder="flatten")
    before = model.measure(batch(5))
    assert model.learn(batch())["loss"].isfinite()
    again = make(encoder="flatten").measure(batch(5))
    assert all(torch.equal(before[name], again[name]) for name in before)


def test_measuring_changes_nothing_and_an_update_draws_anew() -> None:
    model, quiet = (train(make(), 2) for _ in range(2))
    ExamplesEvaluator(batch(5)).columns(model, seed=0)
    assert equal(model, quiet)
    assert equal(train(model, 2, first=2), train(quiet, 2, first=2))
    still = make(learning_rate=0.0)
    assert still.learn(batch())["loss"] != still.learn(batch())["loss"]


def test_a_prediction_does_not_depend_on_the_other_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    model = train(make(test_way=2, test_episodes=1), 2)
    monkeypatch.setattr(module, "drawn_from", lambda sets, count, _: sets[:, :count])
    examples = batch(5, classes=2)
    whole = ExamplesEvaluator(examples).columns(model, seed=0)["loss"]
    changed = examples["obs"].clone()
    changed[1, 5:] = 0  # The queries of the other class.
    other = Examples({"obs": changed, "label": examples["label"]})
    found = ExamplesEvaluator(other).columns(model, seed=0)["loss"]
    assert found[0] == pytest.approx(whole[0], rel=1e-5)
    assert found[1] != pytest.approx(whole[1], rel=1e-3)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"obs": Box(0, 255, (8,)), "label": Discrete(30)}, "needs sets"),
        ({"obs": Box(0, 255, (5, 6, 6, 1)), "label": Discrete(30)}, "with K of 6 or more"),
        ({"obs": Box(0, 255, (8, 6, 6, 1))}, "no classes in a column 'label'"),
        ({"obs": Discrete(3), "label": Discrete(30)}, "is a single number"),
    ],
)
def test_other_examples_are_refused(spec: Mapping[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        make(spec=spec)


def test_too_few_or_equal_classes_are_refused() -> None:
    twice = Examples({"obs": batch()["obs"][:2], "label": torch.zeros(2, dtype=torch.int64)})
    with pytest.raises(UserError, match="two sets of an episode have the same class"):
        make().learn(twice)
    with pytest.raises(UserError, match="test_way is 4, but only 3 classes are measured"):
        make().measure(batch(classes=3))
    with pytest.raises(UserError, match="shot is 0"):
        PrototypicalConfig(shot=0)
    with pytest.raises(UserError, match="test_way is 1"):
        PrototypicalConfig(test_way=1)
    with pytest.raises(UserError, match="scale is nan; give a number from"):
        PrototypicalConfig(scale=float("nan"))


class Killed(BaseException):
    """What no code expects."""


def test_a_run_killed_between_checkpoints_ends_as_one_never_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(out: Path) -> Run:
        config = RunConfig(
            env="glyph-sets", data_size=20, updates=3, eval_every=2, log_every=1, checkpoint_every=1, out=out
        )  # fmt: skip
        settings = PrototypicalConfig(encoder="conv4:width=4", batch_size=4, halving_updates=1)
        return Run("prototypical", settings, config, Console(quiet=True))

    run(tmp_path / "whole").start()
    usual, calls = Prototypical.learn, []

    def learn(model: Prototypical, experience: Examples) -> Mapping[str, Tensor]:
        calls.append(1)
        if len(calls) == 3:
            raise Killed
        return usual(model, experience)

    with monkeypatch.context() as patch:
        patch.setattr(Prototypical, "learn", learn)
        with pytest.raises(Killed):
            run(tmp_path / "broken").start()
    assert Run.resume(tmp_path / "broken", Console(quiet=True)).finish() == 1
    assert_equal(tmp_path / "whole", tmp_path / "broken")
