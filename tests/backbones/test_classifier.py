"""The classifier: its update and measures by hand, and that a run cut off anywhere ends as a whole one."""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from gymnasium.spaces import Box, Discrete
from rich.console import Console
from torch import Tensor, nn

from rlbench.backbones.models.classifier import Classifier, ClassifierConfig
from rlbench.backbones.optim import LAST, one_cycle
from rlbench.benchmarks.training.config import RunConfig
from rlbench.benchmarks.training.drivers import ExamplesDriver
from rlbench.benchmarks.training.evaluation import ExamplesEvaluator
from rlbench.benchmarks.training.runner import Run
from rlbench.errors import UserError
from rlbench.experience import Examples
from rlbench.interface import evaluating
from rlbench.seeding import drawing_from
from tests.kill_and_resume import assert_equal, killed_equals_unkilled
from tests.networks import equal, same, tensors

IMAGES: dict[str, Any] = {"obs": Box(0, 255, (8, 8, 1)), "label": Discrete(3), "other": Discrete(3)}
VECTORS: dict[str, Any] = {"obs": Box(-9, 9, (2,)), "label": Discrete(2)}
SMALL = "resnet:units=1,width=4,norm=bn"
RANDOM = f"{SMALL},shortcut=dropout"
"""Its training draws random numbers."""


def make(seed: int = 0, spec: Mapping[str, Any] = IMAGES, **settings: Any) -> Classifier:
    return Classifier(ClassifierConfig(**{"encoder": SMALL} | settings), spec, seed=seed)


def linear(**settings: Any) -> Classifier:
    """Without an encoder, and with weights of 0."""
    model = make(spec=VECTORS, encoder="flatten", **settings)
    with torch.no_grad():
        for parameter in model.head.parameters():
            parameter.zero_()
    return model


def batch(seed: int = 0, rows: int = 16) -> Examples:
    """Bright images of three classes; another column has other classes."""
    generator = torch.Generator().manual_seed(seed)
    label = torch.randint(3, (rows,), generator=generator)
    obs = torch.randint(256, (rows, 8, 8, 1), generator=generator).float()
    obs[:, 0, :3, 0] = 500 * torch.eye(3)[label]
    return Examples({"obs": obs, "label": label, "other": (label + 1) % 3})


def train(model: Classifier, updates: int, first: int = 0) -> Classifier:
    for seed in range(first, first + updates):
        model.learn(batch(seed))
    return model


def weights(model: Classifier) -> dict[str, Tensor]:
    parts = ("/encoder/", "/head/")
    return {k: v for k, v in tensors(model.state_dict()).items() if k.startswith(parts)}


def test_one_cycle_by_hand() -> None:
    assert one_cycle(0) == pytest.approx(1 / 25)
    assert one_cycle(0.15) == pytest.approx((1 + 1 / 25) / 2), "half of the way up"
    assert one_cycle(0.3) == 1
    assert one_cycle(0.65) == pytest.approx((1 + LAST) / 2), "half of the way down"
    assert one_cycle(1) == pytest.approx(1 / 250_000)
    assert one_cycle(1.5) == one_cycle(1)


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")
def test_one_cycle_is_that_of_pytorch() -> None:
    """It counts from the first to the last update, and is at the top one update before 0.3."""
    updates = 200
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1.0, updates, cycle_momentum=False)
    top = 0.3 * updates - 1
    for update in range(updates):
        up = update <= top
        at = 0.3 * update / top if up else 0.3 + 0.7 * (update - top) / (updates - 1 - top)
        assert one_cycle(at) == pytest.approx(theirs.get_last_lr()[0], rel=1e-9)
        assert one_cycle(update / updates) == pytest.approx(theirs.get_last_lr()[0], abs=0.03)
        theirs.step()


def test_an_update_by_hand() -> None:
    model = linear(learning_rate=0.5, momentum=0.9, weight_decay=0.1)
    example = Examples({"obs": torch.tensor([[1.0, 2.0]]), "label": torch.tensor([0])})
    metrics = model.learn(example)
    # Both classes have 1/2, so the gradient of the logits is (-1/2, 1/2).
    assert metrics["loss"] == pytest.approx(math.log(2))
    weight, bias = model.head.weight.detach().clone(), model.head.bias.detach().clone()
    torch.testing.assert_close(weight, torch.tensor([[0.25, 0.5], [-0.25, -0.5]]))
    torch.testing.assert_close(bias, torch.tensor([0.25, -0.25]))
    # Logits 1.5 and -1.5: the probability of class 0 is 1 / (1 + e^-3).
    wrong = 1 - 1 / (1 + math.exp(-3))
    metrics = model.learn(example)
    assert metrics["loss"] == pytest.approx(math.log(1 + math.exp(-3)))
    assert metrics["accuracy"] == 1
    velocity = 0.9 * -0.5 + (-wrong + 0.1 * 0.25)  # Of the bias; 0.1 is the weight decay.
    torch.testing.assert_close(model.head.bias.detach()[0], torch.tensor(0.25 - 0.5 * velocity))
    assert not any(value.requires_grad for value in metrics.values())


def test_the_step_size_rises_and_falls_once_in_a_run() -> None:
    model = linear(learning_rate=0.5, cycle_updates=10)
    example = Examples({"obs": torch.ones(1, 2), "label": torch.tensor([0])})
    found = []
    for _ in range(12):
        model.learn(example)
        found.append(model.optimizer.learning_rate)
    assert found == pytest.approx([0.5 * one_cycle(i / 10) for i in range(12)])
    assert (found[0], found[3], found[10]) == pytest.approx((0.02, 0.5, 2e-6))
    assert Classifier.preset("digits", 77) == {"cycle_updates": 77}
    constant = linear(learning_rate=0.5)
    constant.learn(example)
    assert constant.optimizer.learning_rate == 0.5


def test_measures_by_hand() -> None:
    model = linear()
    with torch.no_grad():
        model.head.bias.copy_(torch.tensor([math.log(3), 0.0]))
    found = model.measure(Examples({"obs": torch.randn(2, 2), "label": torch.tensor([0, 1])}))
    # Probabilities 3/4 and 1/4.
    torch.testing.assert_close(found["loss"], torch.tensor([math.log(4 / 3), math.log(4)]))
    assert found["accuracy"].tolist() == [1, 0]
    assert found["prediction"].tolist() == [0, 0]
    torch.testing.assert_close(model.decide(torch.zeros(1, 2)), torch.tensor([[0.75, 0.25]]))
    assert [measure.name for measure in model.measures] == ["accuracy", "loss"]
    assert [measure.higher_is_better for measure in model.measures] == [True, False]


def test_it_learns() -> None:
    model = train(make(learning_rate=0.05), 40)
    with evaluating(model):
        assert model.measure(batch(999, rows=100))["accuracy"].mean() > 0.9


CHANGES: dict[str, Any] = {
    "encoder": "flatten",
    "label": "other",
    "learning_rate": 0.01,
    "momentum": 0.5,
    "weight_decay": 0.1,
    "cycle_updates": 5,
}


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(ClassifierConfig)])
def test_every_setting_has_an_effect(field: str) -> None:
    if field == "batch_size":  # Read by the driver alone.
        return
    usual, changed = (weights(train(make(**own), 3)) for own in ({}, {field: CHANGES[field]}))
    assert not same(usual, changed)


def test_weights_depend_on_the_seed_alone() -> None:
    first = train(make(seed=3, encoder=RANDOM), 3)
    torch.manual_seed(99)
    before = torch.get_rng_state()
    assert equal(first, train(make(seed=3, encoder=RANDOM), 3))
    assert torch.equal(before, torch.get_rng_state())
    assert not equal(first, train(make(seed=4, encoder=RANDOM), 3))


def test_what_layers_draw_comes_from_the_given_generator() -> None:
    mine, twin = (torch.Generator().manual_seed(5) for _ in range(2))
    before = torch.get_rng_state()
    with drawing_from(mine):
        drawn = torch.rand(3)
    assert torch.equal(drawn, torch.rand(3, generator=twin))
    assert torch.equal(torch.rand(3, generator=mine), torch.rand(3, generator=twin))
    assert torch.equal(before, torch.get_rng_state())


def test_measuring_changes_nothing_and_looks_at_each_example_by_itself() -> None:
    """Batch normalisation has two modes; the other one mixes the examples of a batch."""
    model, quiet = (train(make(encoder=RANDOM), 2) for _ in range(2))
    examples = batch(5, rows=8)
    whole = ExamplesEvaluator(examples).columns(model, seed=0)["loss"]
    assert equal(model, quiet)
    assert model.encoder.training
    for row in range(8):
        one = ExamplesEvaluator(examples.take(slice(row, row + 1))).columns(model, seed=0)
        assert one["loss"] == pytest.approx(whole[row], rel=1e-4)
    assert equal(train(model, 2, first=2), train(quiet, 2, first=2))


def test_a_part_that_is_kept_in_evaluation_mode_stays_there() -> None:
    model = make()
    model.encoder.layers.eval()
    with evaluating(model):
        assert not any(part.training for part in model.encoder.modules())
    assert model.encoder.training
    assert not any(part.training for part in model.encoder.layers.modules())
    with pytest.raises(KeyError), evaluating(model):
        raise KeyError
    assert model.encoder.training, "also after an error"


def test_the_trial_of_an_encoder_leaves_its_statistics_alone() -> None:
    norms = [x for x in make().encoder.modules() if isinstance(x, nn.BatchNorm2d)]
    assert len(norms) > 3
    for norm in norms:
        assert norm.running_var is not None
        assert (norm.running_var == 1).all()
        assert norm.num_batches_tracked == 0


def test_images_of_one_pixel_can_be_normalised_over_a_batch_of_two_or_more() -> None:
    spec = IMAGES | {"obs": Box(0, 255, (1, 1, 1))}
    examples = Examples({"obs": torch.rand(2, 1, 1, 1), "label": torch.tensor([0, 2])})
    assert make(spec=spec).learn(examples)["loss"].isfinite()
    with pytest.raises(UserError, match=r"batch_size is 1, but the encoder .* normalises over a"):
        make(spec=spec, batch_size=1)
    make(spec=spec, batch_size=1, encoder="resnet:units=1,width=16,norm=gn")
    with pytest.raises(UserError, match=r"shape \(1, 1, 1\), too small for the encoder resnet"):
        make(spec=spec, encoder="resnet:units=1,width=8,norm=gn")  # One value in each group.


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"obs": Box(-1, 1, ())}, r"the `obs` of an example is a single number; give an array"),
        ({"obs": Discrete(3)}, r"the `obs` of an example is a single number"),
        ({"label": Discrete(3, start=1)}, "'label' has classes from 1 to 3; number them from 0"),
        ({"label": Discrete(10**12)}, "'label' has classes from 0 to 999999999999; number them"),
        ({"label": Discrete(1)}, "has one class; a classifier needs 2 or more"),
        ({"label": Box(0, 1, (3,))}, "they have other; a class is a whole number from 0, one for"),
        ({"obs": Box(-1, 1, (5,))}, "give the encoder flatten"),
    ],
)
def test_examples_of_another_kind_are_refused(changed: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        make(spec=IMAGES | changed)


def driven(size: int, rows: int, seed: int = 0) -> tuple[ExamplesDriver, list[list[int]]]:
    """A driver of numbered examples, and the numbers of each batch."""
    model, seen = make(batch_size=size), list[list[int]]()

    def learn(examples: Examples) -> dict[str, Tensor]:
        seen.append(examples["number"].tolist())
        return {}

    return ExamplesDriver(model, Examples({"number": torch.arange(rows)}), seed, learn), seen


def joined(batches: list[list[int]]) -> list[int]:
    return [number for numbers in batches for number in numbers]


def test_every_example_is_learned_from_once_in_each_epoch() -> None:
    driver, seen = driven(3, 12)
    for _ in range(8):
        driver.update()
    assert [len(numbers) for numbers in seen] == [3] * 8
    first, second = joined(seen[:4]), joined(seen[4:])
    assert sorted(first) == sorted(second) == list(range(12))
    assert first != second != sorted(second), "in an order of its own"
    again, other = driven(3, 12), driven(3, 12, seed=1)
    again[0].update()
    other[0].update()
    assert again[1] == seen[:1] != other[1]


def test_the_rest_of_an_epoch_is_left_out() -> None:
    driver, seen = driven(5, 12)
    for _ in range(4):
        driver.update()
    assert all(len(set(joined(seen[i : i + 2]))) == 10 for i in (0, 2))
    single, whole = driven(12, 12)
    single.update()
    assert sorted(whole[0]) == list(range(12))


@pytest.mark.parametrize("done", [1, 2, 3])
def test_a_driver_goes_on_in_the_middle_of_an_epoch(done: int) -> None:
    driver, seen = driven(5, 12)
    for _ in range(4):
        driver.update()
    resumed, later = driven(5, 12)
    resumed.load_state_dict({"updates": done})
    for _ in range(4 - done):
        resumed.update()
    assert later == seen[done:]


@pytest.mark.parametrize(
    ("size", "words"),
    [(13, "batch_size is 13, but there are 12 training"), (0, "is 0"), (2.5, "is 2.5; give a whole")],
)  # fmt: skip
def test_a_batch_that_cannot_be_drawn_is_refused(size: Any, words: str) -> None:
    model = make()
    model.config = dataclasses.replace(model.config)
    object.__setattr__(model.config, "batch_size", size)
    with pytest.raises(UserError, match=words):
        ExamplesDriver(model, Examples({"number": torch.arange(12)}), 0)


class Killed(BaseException):
    """What no code expects."""


def run(out: Path) -> Run:
    config = RunConfig(
        env="digits", data_size=40, updates=7, eval_every=3, log_every=1, checkpoint_every=2, out=out
    )  # fmt: skip
    settings = ClassifierConfig(encoder=RANDOM, batch_size=16, cycle_updates=7)
    return Run("classifier", settings, config, Console(quiet=True))


def test_a_run_killed_between_checkpoints_ends_as_one_never_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path / "whole").start()
    usual = Classifier.learn

    def learn(model: Classifier, experience: Examples) -> Mapping[str, Tensor]:
        if model.updates == dies_at:
            raise Killed
        return usual(model, experience)

    torch.manual_seed(77)
    with monkeypatch.context() as patch:
        patch.setattr(Classifier, "learn", learn)
        dies_at = 3
        with pytest.raises(Killed):
            run(tmp_path / "broken").start()
        dies_at = 5
        with pytest.raises(Killed):
            Run.resume(tmp_path / "broken", Console(quiet=True)).finish()
    torch.manual_seed(78)
    assert Run.resume(tmp_path / "broken", Console(quiet=True)).finish() == 3
    assert_equal(tmp_path / "whole", tmp_path / "broken")


@pytest.mark.slow
def test_a_process_killed_at_any_time_ends_as_one_never_killed(tmp_path: Path) -> None:
    words = ["classifier", "--env", "digits", "--encoder", RANDOM, "--updates", "300"]
    words += ["--log-every", "20", "--checkpoint-every", "20", "--eval-every", "100"]
    assert "killed 2 times" in killed_equals_unkilled(words, tmp_path, kills=2, seed=0)
