"""The classifier with a bottleneck: its losses by hand, and what every learner must do."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from rich.console import Console
from torch import Tensor

from rlbench.accelerate.compile import compiled_learn, interpreted
from rlbench.backbones.layers import bottleneck
from rlbench.backbones.models.vib import VIB, VIBConfig
from rlbench.backbones.optim import SGD
from rlbench.benchmarks.commands import export
from rlbench.benchmarks.training.config import RunConfig
from rlbench.benchmarks.training.runner import Run
from rlbench.envs.examples.signals import Problem
from rlbench.errors import UserError
from rlbench.experience import Examples
from rlbench.seeding import derive
from tests.networks import copies, equal, tensors, unchanged

SPEC: dict[str, Any] = {"obs": Box(-np.inf, np.inf, (20,)), "label": Discrete(3)}
SMALL: dict[str, Any] = {"hidden": 16, "code": 8, "learning_rate": 0.05}
PLAIN: dict[str, Any] = {"bottleneck": False}
METHODS: dict[str, dict[str, Any]] = {
    "none": PLAIN,
    "weight decay": PLAIN | {"weight_decay": 1e-3},
    "dropout": PLAIN | {"dropout": 0.2},
    "VIB": {},
}
EACH = pytest.mark.parametrize("settings", METHODS.values(), ids=METHODS)


def make(seed: int = 0, spec: dict[str, Any] = SPEC, **settings: Any) -> VIB:
    return VIB(VIBConfig(**SMALL | settings), spec, seed=seed)


def batch(seed: int = 0, rows: int = 25) -> Examples:
    """Signals of three classes; the first values tell which."""
    generator = torch.Generator().manual_seed(seed)
    label = torch.randint(3, (rows,), generator=generator)
    obs = torch.randn(rows, 20, generator=generator)
    obs[:, :3] = 3 * torch.eye(3)[label]
    return Examples({"obs": obs, "label": label})


def train(agent: VIB, updates: int, first: int = 0) -> VIB:
    for seed in range(first, first + updates):
        agent.learn(batch(seed))
    return agent


def weights(agent: VIB) -> dict[str, Tensor]:
    return {k: v for k, v in tensors(agent.state_dict()).items() if k.startswith("/network/")}


def test_gradient_descent_by_hand() -> None:
    weight = torch.tensor([1.0])
    descent = SGD([weight], learning_rate=0.1, momentum=0.5, weight_decay=0.2)
    descent.step((torch.tensor([1.0]),))
    torch.testing.assert_close(weight, torch.tensor([0.88]))  # v = 1 + 0.2
    descent.step((torch.tensor([1.0]),))
    # v = 0.6 + 1 + 0.2 * 0.88
    torch.testing.assert_close(weight, torch.tensor([0.88 - 0.1 * 1.776]))


def test_gradient_descent_equals_that_of_pytorch() -> None:
    mine, theirs = (torch.nn.Linear(3, 2) for _ in range(2))
    theirs.load_state_dict(mine.state_dict())
    descent = SGD(mine.parameters(), 0.1, 0.9, 0.01)
    reference = torch.optim.SGD(theirs.parameters(), 0.1, 0.9, weight_decay=0.01)
    for _ in range(3):
        x = torch.randn(4, 3)
        descent.step(torch.autograd.grad(mine(x).square().sum(), descent.parameters))
        reference.zero_grad()
        theirs(x).square().sum().backward()
        reference.step()
        torch.testing.assert_close(mine.weight, theirs.weight)


@EACH
def test_every_method_learns_the_classes(settings: dict[str, Any]) -> None:
    agent, test = train(make(**settings), 150), batch(1000, rows=200)
    found = agent.measure(test)
    assert found["accuracy"].mean() > 0.9
    assert found["loss"].mean() < 0.4


@EACH
def test_answers_are_probabilities(settings: dict[str, Any]) -> None:
    model = make(**settings)
    for rows, scale in ((1, 1.0), (7, 100.0)):
        noise = None if model.acting_noise is None else torch.randn(rows, *model.acting_noise)
        answer = model.decide(scale * torch.randn(rows, 20), noise)
        assert answer.shape == (rows, 3)
        torch.testing.assert_close(answer.sum(dim=1), torch.ones(rows))


def test_measures_by_hand() -> None:
    model = make(**PLAIN)
    with torch.no_grad():
        for parameter in model.network.parameters():
            parameter.zero_()
        model.network.head.bias.copy_(torch.tensor([math.log(2), 0.0, 0.0]))
    examples = Examples({"obs": torch.randn(2, 20), "label": torch.tensor([0, 1])})
    found = model.measure(examples)  # Probabilities 1/2, 1/4, 1/4.
    torch.testing.assert_close(found["loss"], torch.tensor([math.log(2), math.log(4)]))
    assert found["accuracy"].tolist() == [1.0, 0.0]


def test_the_loss_of_a_confident_mistake_is_finite() -> None:
    """The probability e^-200 is 0 in float32, its logarithm is not."""
    model = make(**PLAIN)
    with torch.no_grad():
        for parameter in model.network.parameters():
            parameter.zero_()
        model.network.head.bias.copy_(torch.tensor([200.0, 0.0, 0.0]))
    examples = Examples({"obs": torch.randn(1, 20), "label": torch.tensor([1])})
    torch.testing.assert_close(model.measure(examples)["loss"], torch.tensor([200.0]))


@EACH
def test_weights_depend_on_the_seed_alone(settings: dict[str, Any]) -> None:
    before = torch.get_rng_state()
    first = train(make(seed=3, **settings), 5)
    assert torch.equal(before, torch.get_rng_state())
    assert equal(first, train(make(seed=3, **settings), 5))
    assert not equal(first, train(make(seed=4, **settings), 5))


@EACH
def test_a_resumed_run_equals_an_uninterrupted_one(settings: dict[str, Any]) -> None:
    whole, half = train(make(**settings), 6), train(make(**settings), 3)
    resumed = make(seed=99, **settings)
    resumed.load_state_dict(half.state_dict())
    assert equal(whole, train(resumed, 3, first=3))
    assert torch.equal(whole.measure(batch())["loss"], resumed.measure(batch())["loss"])


@EACH
def test_measuring_changes_nothing_in_the_training(settings: dict[str, Any]) -> None:
    quiet, watched = make(**settings), make(**settings)
    for seed in range(3):
        watched.measure(batch(7))
        quiet.learn(batch(seed))
        watched.learn(batch(seed))
    before, after = weights(quiet), weights(watched)
    assert all(torch.equal(before[name], after[name]) for name in before)


@EACH
def test_a_recorded_update_equals_that_of_learn(settings: dict[str, Any]) -> None:
    agent, twin = make(**settings), make(**settings)
    learn = compiled_learn(twin, interpreted)
    for seed in range(3):
        wanted, got = agent.learn(batch(seed)), learn(batch(seed))
        for metric, value in wanted.items():
            torch.testing.assert_close(got[metric], value)
    for name, value in tensors(agent.state_dict()).items():
        torch.testing.assert_close(tensors(twin.state_dict())[name], value)


CHANGES: dict[str, tuple[Any, dict[str, Any]]] = {
    "bottleneck": (False, {}),
    "beta": (1.0, {}),
    "weight_decay": (0.1, PLAIN),
    "dropout": (0.2, PLAIN),
    "hidden": (32, {}),
    "code": (4, {}),
    "learning_rate": (0.01, {}),
    "momentum": (0.5, {}),
}


@pytest.mark.parametrize("field", [f.name for f in dataclasses.fields(VIBConfig)])
def test_every_setting_has_an_effect(field: str) -> None:
    if field == "batch_size":  # Read by the driver alone.
        return
    value, others = CHANGES[field]
    usual, changed = (weights(train(make(**others | own), 3)) for own in ({}, {field: value}))
    assert usual.keys() != changed.keys() or any(
        usual[name].shape != changed[name].shape or not torch.equal(usual[name], changed[name])
        for name in usual
    )


def test_a_code_that_costs_more_holds_less_information() -> None:
    cheap, dear = (train(make(beta=beta), 60).learn(batch())["kl"] for beta in (1e-3, 1.0))
    assert dear < 0.2 * cheap


def test_dropout_is_for_learning_alone() -> None:
    agent, obs = make(bottleneck=False, dropout=0.5), batch(rows=200)["obs"]
    whole = agent.network.features(obs)
    dropped = agent.network.features(obs, agent.generator)
    assert torch.equal(agent.network.features(obs), whole)
    shown = whole > 0
    assert (dropped[shown] > 0).float().mean() == pytest.approx(0.5, abs=0.05)
    kept = shown & (dropped > 0)
    torch.testing.assert_close(dropped[kept], 2 * whole[kept])


def test_forecasts_are_those_of_a_noisy_code() -> None:
    agent, obs = make(), batch()["obs"]
    noise = torch.randn(25, 8)
    mu, sigma = agent.network.code(agent.network.features(obs))
    code = bottleneck.sample(mu, sigma, noise[None])[0]
    wanted = agent.network.logits(code).softmax(dim=1)
    torch.testing.assert_close(agent.decide(obs, noise), wanted)
    first, second = (agent.measure(batch())["loss"] for _ in range(2))
    assert not torch.equal(first, second)
    assert make(**PLAIN).acting_noise is None


@pytest.mark.parametrize("form", ["_torchscript", pytest.param("_onnx", marks=pytest.mark.slow)])
@EACH
def test_a_classifier_is_exported_for_batches_of_any_size(
    settings: dict[str, Any], form: str
) -> None:
    if form == "_onnx":
        pytest.importorskip("onnxruntime")
    agent, obs = make(**settings), batch(rows=9)["obs"]
    given = (obs,) if agent.acting_noise is None else (obs, torch.randn(9, *agent.acting_noise))
    _, run = getattr(export, form)(agent, tuple(x[:3] for x in given))
    torch.testing.assert_close(run(given), agent.decide(*given), atol=1e-5, rtol=0)


def test_learning_leaves_the_batch_alone_and_moves_every_parameter() -> None:
    agent = make()
    before, given = copies(agent.network), batch()
    agent.learn(given)
    assert torch.equal(given["obs"], batch()["obs"])
    for parameter, old in zip(agent.network.parameters(), before, strict=True):
        assert not torch.equal(parameter, old)
    assert not unchanged(agent.network, before)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (
            SPEC | {"label": Box(-1, 1, (3,))},
            "no classes in a column 'label'; they have no classes at all",
        ),
        (
            {"obs": SPEC["obs"], "class": Discrete(3)},
            "no classes in a column 'label'; they have class",
        ),
        ({"x": SPEC["obs"], "label": Discrete(3)}, "a model reads `obs`"),
        (SPEC | {"label": Discrete(1)}, "has one class"),
        (SPEC | {"obs": Box(-1, 1, (3, 20, 20))}, r"this model needs a signal, \[D\]"),
        (SPEC | {"obs": Box(-1, 1, (10,))}, "this model needs a signal of 11 or more"),
    ],
)
def test_examples_of_another_kind_are_refused_in_one_sentence(
    spec: dict[str, Any], words: str
) -> None:
    with pytest.raises(UserError, match=words):
        make(spec=spec)


def test_a_run_learns_from_the_signals_of_its_seed(tmp_path: Path) -> None:
    settings = VIBConfig(hidden=16, code=8)
    for seed in (0, 1):
        config = RunConfig(
            env="signals-2", seed=seed, updates=3, data_size=30, out=tmp_path / f"{seed}"
        )
        Run("vib", settings, config, Console(quiet=True)).start()
    resumed = [Run.resume(tmp_path / seed) for seed in ("0", "1")]
    hashes = [run.provenance.sha256 for run in resumed if run.provenance is not None]
    assert len(set(hashes)) == 2
    for run, seed in zip(resumed, (0, 1), strict=True):
        assert run.examples is not None
        signals, _ = Problem(2, seed).draw(
            np.random.default_rng(derive(seed, "signals", "training signals")), 30, "train"
        )
        np.testing.assert_array_equal(run.examples.train["obs"], signals)
