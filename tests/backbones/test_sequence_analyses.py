"""Analyses of models of sequences: gradients, statistics of batches, and the cost of attention, by hand."""

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from gymnasium.spaces import Box, Discrete

from rlbench.backbones.analyses.attention_cost import AttentionCost, AttentionCostConfig
from rlbench.backbones.analyses.batch_statistics import BatchStatistics, BatchStatisticsConfig
from rlbench.backbones.analyses.gradient_norms import (
    GradientNorms,
    GradientNormsConfig,
    TanhRNN,
    norms,
)
from rlbench.backbones.layers.step_norm import EPSILON
from rlbench.backbones.models.sequence_classifier import (
    SequenceClassifier,
    SequenceClassifierConfig,
)
from rlbench.errors import UserError
from rlbench.experience import Examples
from rlbench.interface import evaluating
from rlbench.sequences import SPECIAL, TokenSequence

VECTORS: dict[str, Any] = {"obs": Box(-9, 9, (6, 2)), "label": Discrete(2)}
TOKENS: dict[str, Any] = {"obs": TokenSequence(SPECIAL, 6), "label": Discrete(2)}


def vectors(rows: int = 40) -> Examples:
    generator = torch.Generator().manual_seed(0)
    obs = torch.randn((rows, 6, 2), generator=generator)
    return Examples({"obs": obs, "label": (obs[:, 0, 0] > 0).long()})


def memory(name: str, **settings: Any) -> SequenceClassifier:
    config = SequenceClassifierConfig(memory=name, memory_size=8, **settings)
    model = SequenceClassifier(config, VECTORS)
    for _ in range(3):
        model.learn(vectors())
    return model


def test_norms_of_a_linear_recurrence_by_hand() -> None:
    factor = torch.tensor(0.5, requires_grad=True)

    def step(x: Any, state: Any, at: int) -> Any:
        hidden = factor * state + x
        return hidden, hidden

    with torch.no_grad():  # As in an analysis.
        found = norms(step, torch.ones(4, 1, 2), torch.zeros(1, 2), lambda h: (3 * h).sum())
    # The loss has the gradient (3, 3) at the last step, and half of that at each earlier one.
    assert found == pytest.approx(3 * math.sqrt(2) * 0.5 ** np.arange(3, -1, -1))


def test_a_step_of_the_untrained_network_by_hand() -> None:
    torch.manual_seed(0)
    network = TanhRNN(2, 5, 4, 0.3)
    eye = network.slow.weight @ network.slow.weight.T
    torch.testing.assert_close(eye, torch.eye(5), rtol=0, atol=1e-5)
    x, hidden = torch.randn(7, 2), torch.randn(7, 5)

    def normal(y: Any) -> Any:
        return 0.3 * (y - y.mean(0)) / (y.var(0, correction=0) + EPSILON).sqrt()

    expected = (normal(network.slow(hidden)) + normal(network.inputs(x))).tanh()
    out, state = network.step(x, hidden, 2)
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-5)
    assert out is state


def test_gradients_of_every_gamma_network_and_of_the_memory_are_shown() -> None:
    model = memory("bn-lstm")
    config = GradientNormsConfig(gains=(0.1, 1.0), units=20, rows=32, networks=2)
    with torch.no_grad(), evaluating(model):
        found = GradientNorms(config).analyse([model], {"x": vectors()})
        again = GradientNorms(config).analyse([model], {"x": vectors()})
        quiet = GradientNormsConfig(gains=(0.1,), units=20, rows=32, networks=1, noise=0.0)
        without = GradientNorms(quiet).analyse([model], {"x": vectors()})
    small, large = ([f"gamma {gain}, network {i}" for i in range(2)] for gain in ("0.1", "1"))
    names = [*small, *large, "trained memory"]
    assert list(found.numbers) == [f"{name}: log10 ratio" for name in names]
    for name in names:
        curve = found.columns[name]
        assert curve.shape == (1, 6)
        ratio = np.log10(curve[0, 0] / curve[0, -1])
        assert found.numbers[f"{name}: log10 ratio"] == pytest.approx(ratio)
    ratios = [found.numbers[f"{name}: log10 ratio"] for name in names]
    assert len({*ratios}) == 5
    assert found.numbers == again.numbers
    assert without.numbers[f"{small[0]}: log10 ratio"] != pytest.approx(ratios[0], abs=0.1)
    assert len(found.panels[0].lines) == 5


def test_gradients_of_a_memory_are_those_of_its_outputs() -> None:
    model, examples = memory("lstm"), vectors(8)
    config = GradientNormsConfig(gains=(0.1,), rows=8)
    found = GradientNorms(config).analyse([model], {"x": examples}).columns["trained memory"][0]
    network: Any = model.encoder
    state = network.memory.initial_state(8, torch.device("cpu"))
    x = examples["obs"].transpose(0, 1)
    outputs = []
    for now in x:
        out, state = network.memory.step(now, state)
        outputs.append(out)
    loss = F.cross_entropy(model.head(outputs[-1]), examples["label"])
    expected = [float(g.norm()) for g in torch.autograd.grad(loss, outputs)]
    assert found == pytest.approx(expected, rel=1e-5)


def test_both_statistics_of_a_trained_model() -> None:
    model, examples = memory("bn-lstm", learning_rate=0.1), vectors(45)
    with torch.no_grad(), evaluating(model):
        found = BatchStatistics(BatchStatisticsConfig(rows=20)).analyse([model], {"x": examples})
    assert list(found.numbers) == ["running averages", "statistics of the batch"]
    assert all(column.shape == (40,) for column in found.columns.values())
    with torch.no_grad():
        parts = [examples.take(slice(0, 20)), examples.take(slice(20, 40))]
        model.encoder.eval()
        averages = torch.cat([model.measure(part)["accuracy"] for part in parts])
        model.encoder.train()
        batch = torch.cat([model.measure(part)["accuracy"] for part in parts])
    assert found.columns["running averages"].tolist() == averages.tolist()
    assert found.columns["statistics of the batch"].tolist() == batch.tolist()
    assert found.numbers["running averages"] == pytest.approx(float(averages.mean()))


def test_the_cost_is_the_fastest_of_several_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = "transformer:width=8,layers=1,heads=2,units=8,attention=window,block=4"
    model = SequenceClassifier(SequenceClassifierConfig(encoder=encoder), TOKENS)
    # Every pass takes two looks at the clock: 3 s and 1 s, then 5 s and 4 s, ...
    ticks = iter([0, 3, 0, 1, 0, 5, 0, 4, 0, 6, 0, 2, 0, 9, 0, 8])
    monkeypatch.setattr("time.perf_counter", lambda: next(ticks))
    found = AttentionCost(AttentionCostConfig(lengths=(16, 64), repeats=2)).analyse([model], {})
    assert found.numbers == {
        "window: ms at 16": 1000.0, "window: ms at 64": 4000.0, "window: ratio": 4.0,
        "full: ms at 16": 2000.0, "full: ms at 64": 8000.0, "full: ratio": 4.0,
    }  # fmt: skip
    assert [line.name for line in found.panels[0].lines] == ["window", "full"]


def test_a_full_pattern_is_measured_once() -> None:
    encoder = "transformer:width=8,layers=1,heads=2,units=8"
    model = SequenceClassifier(SequenceClassifierConfig(encoder=encoder), TOKENS)
    found = AttentionCost(AttentionCostConfig(lengths=(16, 32), repeats=1)).analyse([model], {})
    assert len(found.numbers) == 3


def test_runs_that_do_not_suit_are_refused() -> None:
    plain = SequenceClassifier(
        SequenceClassifierConfig(encoder="transformer:width=8,layers=1,heads=2"), TOKENS
    )
    with pytest.raises(UserError, match="has no memory"):
        GradientNorms(GradientNormsConfig()).analyse([plain], {"x": vectors()})
    with pytest.raises(UserError, match="MANN is not its hidden state"):
        GradientNorms(GradientNormsConfig()).analyse([memory("mann")], {"x": vectors()})
    with pytest.raises(UserError, match="has no batch normalisation"):
        BatchStatistics(BatchStatisticsConfig()).analyse([memory("lstm")], {"x": vectors()})
    with pytest.raises(UserError, match="40 test examples; give --rows 40"):
        BatchStatistics(BatchStatisticsConfig()).analyse([memory("bn-lstm")], {"x": vectors()})
    with pytest.raises(UserError, match="has no transformer"):
        AttentionCost(AttentionCostConfig()).analyse([memory("lstm")], {})


@pytest.mark.parametrize(
    ("config", "settings", "words"),
    [
        (AttentionCostConfig, {"lengths": (5,)}, "two lengths or more"),
        (AttentionCostConfig, {"lengths": (0, 5)}, "two lengths or more"),
        (AttentionCostConfig, {"repeats": 0}, "repeats is 0"),
        (BatchStatisticsConfig, {"rows": 1}, "rows is 1"),
        (GradientNormsConfig, {"units": 1}, "units, rows and networks are 1"),
        (GradientNormsConfig, {"networks": 0}, "at least 2, 2 and 1"),
        (GradientNormsConfig, {"noise": -1.0}, "noise is -1.0"),
        (GradientNormsConfig, {"gains": ()}, "give one gain or more"),
        (GradientNormsConfig, {"gains": (-1.0,)}, "each a number from 0 to"),
        (GradientNormsConfig, {"gains": (float("nan"),)}, "each a number from 0 to"),
        (GradientNormsConfig, {"noise": float("inf")}, "each a number from 0 to"),
    ],
)
def test_settings_out_of_range_are_refused(
    config: Any, settings: dict[str, Any], words: str
) -> None:
    with pytest.raises(UserError, match=words):
        config(**settings)
