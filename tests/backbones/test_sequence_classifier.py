"""The classifier of sequences: transformer or memory, by hand, pre-trained, and resumed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from gymnasium.spaces import Box, Discrete
from rich.console import Console
from torch import Tensor

from rlbench.backbones.memories import MEMORIES
from rlbench.backbones.models.language_model import LanguageModelConfig
from rlbench.backbones.models.sequence_classifier import (
    Reader,
    SequenceClassifier,
    SequenceClassifierConfig,
)
from rlbench.benchmarks.training.config import RunConfig
from rlbench.benchmarks.training.evaluation import ExamplesEvaluator
from rlbench.benchmarks.training.loading import load_run
from rlbench.benchmarks.training.runner import Run
from rlbench.errors import UserError
from rlbench.experience import Examples
from rlbench.sequences import CLS, PAD, SPECIAL, TokenSequence
from tests.kill_and_resume import assert_equal
from tests.networks import equal, same, tensors

SPACE = TokenSequence((*SPECIAL, "a", "b", "c", "d"), 8)
TOKENS: dict[str, Any] = {"obs": SPACE, "label": Discrete(4), "other": Discrete(4)}
VECTORS: dict[str, Any] = {"obs": Box(-1, 1, (6, 2)), "label": Discrete(2)}
SMALL = "transformer:width=16,layers=1,heads=2,units=16"


def make(seed: int = 0, spec: Mapping[str, Any] = TOKENS, **settings: Any) -> SequenceClassifier:
    config = SequenceClassifierConfig(**{"encoder": SMALL} | settings)
    return SequenceClassifier(config, spec, seed=seed)


def batch(seed: int = 0, rows: int = 16) -> Examples:
    """The class is the first word; `other` is the last one."""
    generator = torch.Generator().manual_seed(seed)
    words = torch.randint(3, 7, (rows, 7), generator=generator)
    length = torch.randint(3, 8, (rows, 1), generator=generator)
    other = words.gather(1, length - 1).squeeze(1) - 3
    words = words.masked_fill(torch.arange(7) >= length, PAD)
    obs = torch.cat([torch.full((rows, 1), CLS), words], 1).to(torch.uint8)
    return Examples({"obs": obs, "label": words[:, 0] - 3, "other": other})


def train(model: SequenceClassifier, updates: int, first: int = 0) -> SequenceClassifier:
    for seed in range(first, first + updates):
        model.learn(batch(seed))
    return model


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"encoder": f"{SMALL},reads=past,pool=token", "label": "other"},
        {"memory": "gru", "memory_size": 16, "input_layers": (16,), "output_layers": (16,)},
        {"memory": "lstm", "memory_size": 16, "label": "other"},
    ],
)
def test_it_learns_what_is_at_either_end(settings: dict[str, Any]) -> None:
    model = train(make(**settings, learning_rate=0.01), 150)
    with torch.no_grad():
        found = model.measure(batch(999, rows=200))
    assert found["accuracy"].mean() > 0.9
    assert found["loss"].mean() < 0.5
    assert found["prediction"].dtype == torch.int64


def test_a_memory_reads_one_hot_tokens_up_to_the_last_word() -> None:
    reader = Reader(SPACE, "lstm", 5, ())
    tokens = batch(rows=6)["obs"]
    found = reader(tokens)
    for row, expected in zip(tokens, found, strict=True):
        words = row[row != PAD].long()
        x = F.one_hot(words, 7).float()[:, None]
        state = reader.memory.initial_state(1, torch.device("cpu"))
        out, _ = reader.memory.unroll(x, state, torch.zeros(len(x), 1))
        torch.testing.assert_close(out[-1, 0], expected)
    layered = Reader(SPACE, "lstm", 5, (3, 2))
    shapes = [tuple(x.shape) for x in layered.layers.parameters()]
    assert shapes == [(3, 7), (3,), (2, 3), (2,)]
    (out,) = layered.layers(torch.randn(1, 7) * 9)
    assert (out >= 0).all()


def test_a_memory_reads_vectors_to_the_end() -> None:
    reader = Reader(VECTORS["obs"], "gru", 5, ())
    x = torch.randn(3, 6, 2)
    state = reader.memory.initial_state(3, torch.device("cpu"))
    out, _ = reader.memory.unroll(x.transpose(0, 1), state, torch.zeros(6, 3))
    torch.testing.assert_close(reader(x), out[-1])


def test_an_update_and_measures_by_hand() -> None:
    model = make(learning_rate=0.5)
    with torch.no_grad():
        for parameter in model.head.parameters():
            parameter.zero_()
        model.head.get_parameter("0.bias")[0] = torch.log(torch.tensor(3.0))
    examples = Examples({"obs": batch(rows=2)["obs"], "label": torch.tensor([0, 1])})
    with torch.no_grad():
        found = model.measure(examples)
    # Probabilities 3/6 and 1/6.
    torch.testing.assert_close(found["loss"], torch.log(torch.tensor([2.0, 6.0])))
    assert found["accuracy"].tolist() == [1, 0]
    probabilities = model.decide(examples["obs"])
    torch.testing.assert_close(probabilities, torch.tensor([[3.0, 1, 1, 1]] * 2) / 6)
    metrics = model.learn(examples)
    assert metrics["loss"] == pytest.approx(float(found["loss"].mean()))
    assert metrics["accuracy"] == 0.5
    assert model.preset("missions", 9) == {"decay_updates": 9}


CHANGES: dict[str, Any] = {
    "encoder": SMALL.replace("units=16", "units=8"),
    "memory": "gru",
    "label": "other",
    "learning_rate": 0.01,
    "decay_updates": 5,
    "weight_decay": 0.5,
    "max_grad_norm": 0.01,
}
WITH_MEMORY: dict[str, Any] = {"memory_size": 5, "input_layers": (3,), "output_layers": (3,)}


@pytest.mark.parametrize("field", [*CHANGES, *WITH_MEMORY])
def test_every_setting_has_an_effect(field: str) -> None:
    base: dict[str, Any] = {} if field in CHANGES else {"memory": "lstm"}
    usual, changed = (
        {k: v for k, v in tensors(train(make(**base, **own), 3).state_dict()).items() if "optimizer" not in k}
        for own in ({}, {field: (CHANGES | WITH_MEMORY)[field]})
    )  # fmt: skip
    assert not same(usual, changed)


def test_measuring_changes_nothing_and_looks_at_each_sequence_by_itself() -> None:
    encoder = f"{SMALL},dropout=0.3"
    model, quiet = (train(make(encoder=encoder), 2) for _ in range(2))
    examples = batch(5, rows=6)
    whole = ExamplesEvaluator(examples).columns(model, seed=0)["loss"]
    assert equal(model, quiet)
    for row in range(6):
        one = ExamplesEvaluator(examples.take(slice(row, row + 1))).columns(model, seed=0)
        assert one["loss"] == pytest.approx(whole[row], rel=1e-4)
    assert equal(train(model, 2, first=2), train(quiet, 2, first=2))
    assert not equal(train(make(encoder=encoder), 2), train(make(seed=1, encoder=encoder), 2))


@pytest.mark.parametrize(
    ("spec", "settings", "words"),
    [
        (VECTORS, {}, "needs sequences of tokens"),
        ({**TOKENS, "obs": Box(-1, 1, (4,))}, {"memory": "lstm"}, "sequences of tokens or of vectors"),
        (TOKENS, {"label": "colour"}, "no classes in a column 'colour'"),
        (TOKENS, {"memory": "elephant"}, "elephant"),
        (TOKENS, {"encoder": "flatten"}, "which the encoder flatten does not read; give transformer"),
        (TOKENS, {"input_layers": (0,)}, "input_layers"),
        (TOKENS, {"output_layers": (0,)}, "output_layers"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(
    spec: Mapping[str, Any], settings: dict[str, Any], words: str
) -> None:
    with pytest.raises(UserError, match=words):
        make(spec=spec, **settings)


def run(out: Path, learner: str = "sequence-classifier", **others: Any) -> Run:
    config = RunConfig(
        env="assoc-retrieval-2", data_size=40, updates=5, eval_every=3, log_every=1, checkpoint_every=2, out=out,
        pretrained=others.pop("pretrained", None),
    )  # fmt: skip
    kind = LanguageModelConfig if learner == "language-model" else SequenceClassifierConfig
    given: dict[str, Any] = {"encoder": f"{SMALL},dropout=0.1", "batch_size": 8, "decay_updates": 5}
    settings = kind(**given | others)
    return Run(learner, settings, config, Console(quiet=True))


def test_it_begins_with_the_encoder_of_a_language_model(tmp_path: Path) -> None:
    run(tmp_path / "words", "language-model").start()
    run(tmp_path / "tuned", pretrained=str(tmp_path / "words"), learning_rate=0.0).start()
    run(tmp_path / "scratch", learning_rate=0.0).start()
    words, tuned, scratch = (
        load_run(tmp_path / name)[0].encoder.state_dict() for name in ("words", "tuned", "scratch")
    )
    assert all(torch.equal(words[name], tuned[name]) for name in words)
    assert not all(torch.equal(words[name], scratch[name]) for name in words)
    other = SMALL.replace("width=16", "width=8")
    with pytest.raises(UserError, match="differs from the encoders of this run"):
        run(tmp_path / "other", pretrained=str(tmp_path / "words"), encoder=other).start()
    with pytest.raises(UserError, match="no encoder with weights"):
        run(tmp_path / "memory", pretrained=str(tmp_path / "words"), memory="lstm").start()


class Killed(BaseException):
    """What no code expects."""


@pytest.mark.parametrize("memory", [None, *MEMORIES])
def test_a_run_killed_between_checkpoints_ends_as_one_never_killed(
    memory: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path / "whole", memory=memory, memory_size=8).start()
    usual = SequenceClassifier.learn

    def learn(model: SequenceClassifier, experience: Examples) -> Mapping[str, Tensor]:
        if model.updates == 3:
            raise Killed
        return usual(model, experience)

    with monkeypatch.context() as patch:
        patch.setattr(SequenceClassifier, "learn", learn)
        with pytest.raises(Killed):
            run(tmp_path / "broken", memory=memory, memory_size=8).start()
    assert Run.resume(tmp_path / "broken", Console(quiet=True)).finish() == 3
    assert_equal(tmp_path / "whole", tmp_path / "broken")
