"""One-shot learning: what the memory sees, measures by hand, and that labels are drawn anew."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from gymnasium.spaces import Box, Discrete, MultiDiscrete
from rich.console import Console
from torch import Tensor

from rlbench.backbones.memories import MEMORIES
from rlbench.backbones.models.nearest import Nearest, NearestConfig, nearest
from rlbench.backbones.models.one_shot import (
    INSTANCES,
    OneShot,
    OneShotConfig,
    accuracies,
    instances,
)
from rlbench.benchmarks.training.config import RunConfig
from rlbench.benchmarks.training.evaluation import ExamplesEvaluator
from rlbench.benchmarks.training.runner import Run
from rlbench.envs.examples.glyph_episodes import GlyphEpisodes
from rlbench.errors import UserError
from rlbench.experience import Examples
from tests.kill_and_resume import assert_equal
from tests.networks import equal, same, tensors

SPEC: dict[str, Any] = {"obs": Box(-9, 9, (6, 2)), "label": MultiDiscrete([2] * 6)}


def make(seed: int = 0, spec: Mapping[str, Any] = SPEC, **settings: Any) -> OneShot:
    given: dict[str, Any] = {"memory": "gru", "memory_size": 16} | settings
    return OneShot(OneShotConfig(**given), spec, seed=seed)


def batch(seed: int = 0, rows: int = 16) -> Examples:
    """Two things at opposite places of a circle, each three times, with the same class in every episode."""
    generator = torch.Generator().manual_seed(seed)
    label = torch.stack([torch.randperm(6, generator=generator) % 2 for _ in range(rows)])
    angle = torch.rand((rows, 1), generator=generator) * 6.28
    angle = angle + 3.14 * label
    return Examples({"obs": torch.stack([angle.cos(), angle.sin()], -1), "label": label})


def train(model: OneShot, updates: int, first: int = 0) -> OneShot:
    for seed in range(first, first + updates):
        model.learn(batch(seed, rows=64))
    return model


def test_instances_and_their_accuracies_by_hand() -> None:
    label = torch.tensor([[0, 1, 0, 0, 1, 1]])
    assert instances(label, 2).tolist() == [[1, 1, 2, 3, 2, 3]]
    correct = torch.tensor([[0.0, 1, 1, 1, 1, 0]])
    found = accuracies(correct, label, 2)
    assert {name: float(x) for name, x in found.items()} == {
        "instance_1": 0.5, "instance_2": 1.0, "instance_3": 0.5, "instance_4": 0.0, "instance_5": 0.0, "instance_10": 0.0,
    }  # fmt: skip


def test_the_memory_sees_each_class_one_step_later() -> None:
    model = make()
    obs, label = batch(rows=3)["obs"], batch(rows=3)["label"]
    found = model.logits(obs, label)
    assert found.shape == (3, 6, 2)
    before = torch.cat([torch.zeros(3, 1, 2), F.one_hot(label[:, :-1], 2).float()], 1)
    x = torch.cat([obs, before], -1).transpose(0, 1)
    state = model.memory.initial_state(3, torch.device("cpu"))
    out, _ = model.memory.unroll(x, state, torch.zeros(6, 3))
    torch.testing.assert_close(found, model.head(out).transpose(0, 1))
    other = label.clone()
    other[:, 2] = 1 - other[:, 2]
    changed = (model.logits(obs, other) != found).any(-1)
    assert changed.int().tolist() == [[0, 0, 0, 1, 1, 1]] * 3


def test_it_learns_within_an_episode() -> None:
    model = train(make(learning_rate=0.01), 250)
    with torch.no_grad():
        found = model.measure(batch(999, rows=300))
    assert found["instance_1"].mean() < 0.85, (
        "one of two things is a guess, and the other follows from it"
    )
    assert found["instance_3"].mean() > 0.9
    assert found["loss"].shape == (300,)
    assert {"loss", *(f"instance_{k}" for k in INSTANCES)} == set(found)
    assert {measure.name for measure in model.measures} == set(found)
    assert model.measures[0].name == "instance_2"


def test_classes_are_numbered_anew_in_every_update(monkeypatch: pytest.MonkeyPatch) -> None:
    model, seen = make(), []
    usual = OneShot.logits

    def logits(model: OneShot, obs: Tensor, label: Tensor) -> Tensor:
        seen.append(label)
        return usual(model, obs, label)

    monkeypatch.setattr(OneShot, "logits", logits)
    examples = batch(rows=64)
    model.learn(examples)
    model.learn(examples)
    swapped = [(label != examples["label"]) for label in seen]
    # Whole episodes are swapped or not.
    assert all((x.all(1) | ~x.any(1)).all() for x in swapped)
    assert 0.3 < swapped[0][:, 0].float().mean() < 0.7
    assert not torch.equal(seen[0], seen[1])
    model.measure(examples)
    assert torch.equal(seen[2], examples["label"])


@pytest.mark.parametrize(
    ("field", "value"),
    [("memory", "lstm"), ("memory_size", 5), ("learning_rate", 0.1), ("max_grad_norm", 1e-3)],
)
def test_every_setting_has_an_effect(field: str, value: Any) -> None:
    usual, changed = (
        {k: v for k, v in tensors(train(make(**own), 3).state_dict()).items() if "optimizer" not in k}
        for own in ({}, {field: value})
    )  # fmt: skip
    assert not same(usual, changed)


def test_measuring_changes_nothing() -> None:
    model, quiet = (train(make(), 2) for _ in range(2))
    examples = batch(5, rows=6)
    whole = ExamplesEvaluator(examples).columns(model, seed=0)["loss"]
    assert equal(model, quiet)
    one = ExamplesEvaluator(examples.take(slice(2, 3))).columns(model, seed=0)
    assert one["loss"] == pytest.approx(whole[2], rel=1e-4)
    assert equal(train(model, 2, first=2), train(quiet, 2, first=2))


@pytest.mark.parametrize(
    "spec",
    [
        {"obs": Box(-1, 1, (6, 2)), "label": Discrete(2)},
        {"obs": Box(-1, 1, (6,)), "label": MultiDiscrete([2] * 6)},
        {"obs": Box(-1, 1, (6, 2)), "label": MultiDiscrete([2] * 5)},
        {"obs": Box(-1, 1, (6, 2))},
    ],
)
def test_other_examples_are_refused(spec: Mapping[str, Any]) -> None:
    with pytest.raises(UserError, match="needs episodes with obs"):
        make(spec=spec)


class Killed(BaseException):
    """What no code expects."""


@pytest.mark.parametrize("memory", list(MEMORIES))
def test_a_run_killed_between_checkpoints_ends_as_one_never_killed(
    memory: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(GlyphEpisodes, "sizes", {"train": 20, "test": 20})

    def run(out: Path) -> Run:
        config = RunConfig(
            env="glyph-episodes", data_size=20, updates=3, eval_every=2, log_every=1, checkpoint_every=1, out=out
        )  # fmt: skip
        settings = OneShotConfig(memory=memory, memory_size=8, batch_size=4)
        return Run("one-shot", settings, config, Console(quiet=True))

    run(tmp_path / "whole").start()
    usual, calls = OneShot.learn, []

    def learn(model: OneShot, experience: Examples) -> Mapping[str, Tensor]:
        calls.append(1)
        if len(calls) == 3:
            raise Killed
        return usual(model, experience)

    with monkeypatch.context() as patch:
        patch.setattr(OneShot, "learn", learn)
        with pytest.raises(Killed):
            run(tmp_path / "broken").start()
    assert Run.resume(tmp_path / "broken", Console(quiet=True)).finish() == 1
    assert_equal(tmp_path / "whole", tmp_path / "broken")


def test_neighbours_by_hand() -> None:
    obs = torch.tensor([[[0.0], [5.0], [5.2], [0.1], [4.0]]])
    label = torch.tensor([[1, 0, 2, 1, 0]])
    # The last is nearest to 5.0, then to 5.2, 0.1 and 0.0.
    assert nearest(obs, label, 3, 1).tolist() == [[0, 1, 0, 1, 0]]
    # Two classes with one vote each: the nearer one.
    assert nearest(obs, label, 3, 2)[0, 4] == 0
    assert nearest(obs, label, 3, 4)[0, 4] == 1, "two votes against one and one"
    assert nearest(obs, label, 3, 99).tolist()[0][:2] == [0, 1]


def test_neighbours_learn_nothing_and_know_a_class_once_they_have_seen_it() -> None:
    model = Nearest(NearestConfig(), SPEC)
    examples = batch(rows=100)
    examples.columns["obs"][:, :, 0] *= 3
    found = model.measure(examples)
    assert found["instance_2"].mean() > 0.9
    assert found["instance_1"].mean() < 0.6
    assert {measure.name for measure in model.measures} == set(found)
    assert model.learn(examples)["instance_2"] == found["instance_2"].mean()
    four = Nearest(NearestConfig(neighbours=4), SPEC).measure(examples)
    assert not torch.equal(four["instance_2"], found["instance_2"])
    with pytest.raises(UserError, match="neighbours is 0"):
        NearestConfig(neighbours=0)
