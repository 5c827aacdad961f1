"""Models measured on examples: what is kept of it, and measures that are faulty."""

from collections.abc import Mapping
from dataclasses import dataclass
from operator import methodcaller
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from torch import Tensor

from rlbench.benchmarks.training.config import RunConfig
from rlbench.benchmarks.training.evaluation import MEASURED_AT_ONCE, ExamplesEvaluator
from rlbench.benchmarks.training.learners import load_learner
from rlbench.benchmarks.training.loading import load_run
from rlbench.benchmarks.training.logged import curves_of
from rlbench.benchmarks.training.run_folder import RunFolder
from rlbench.benchmarks.training.runner import Run
from rlbench.cli import main
from rlbench.errors import UserError
from rlbench.experience import Examples, Lifetimes, Transitions
from rlbench.interface import Learner, Model
from rlbench.measures import Measure
from rlbench.meta_learner import MetaLearner
from tests.rlbench.test_cli import refused
from tests.run_files import edit

SPEC: dict[str, Any] = {"obs": Box(-1, 1, (1,)), "label": Discrete(2)}
ROWS = 2 * MEASURED_AT_ONCE + 3
NUMBERS = Examples({"obs": torch.arange(float(ROWS))[:, None], "label": torch.zeros(ROWS)})


@dataclass(frozen=True)
class Config:
    """Settings."""

    batch_size: int = 2


class Ruler(Model):
    """Measures the number of an example; each test changes one thing."""

    Config = Config
    measures = (Measure("number"), Measure("largest", "m"))
    run: ClassVar[Mapping[str, Any]] = {"updates": 2}
    seen: ClassVar[list[int]] = []

    def build(self) -> None:
        """It has nothing to learn."""

    def learn(self, experience: Examples) -> Mapping[str, Tensor]:
        return {"loss": torch.zeros(())}

    def measure(self, examples: Examples) -> Any:
        self.seen.append(len(examples))
        assert not torch.is_grad_enabled()
        noise = torch.rand(len(examples), generator=self.measure_generator)
        return {"number": examples["obs"][:, 0], "pair": examples["obs"].repeat(1, 2), "noise": noise}  # fmt: skip

    def summary(self, columns: Mapping[str, Any]) -> Any:
        return {"largest": columns["number"].max()}


def model() -> Ruler:
    return Ruler(Config(), SPEC)


def test_measures_of_all_examples_and_of_them_all_at_once() -> None:
    Ruler.seen.clear()
    found = ExamplesEvaluator(NUMBERS).columns(model(), seed=0)
    assert Ruler.seen == [MEASURED_AT_ONCE, MEASURED_AT_ONCE, 3]
    assert found["number"].tolist() == list(range(ROWS))
    assert found["pair"].shape == (ROWS, 2)
    assert found["largest"].tolist() == [ROWS - 1]
    # A curve is the mean of each number per example, and what is measured of all at once.
    assert {"number", "largest", "noise"} == set(curves_of(found))
    assert curves_of(found)["number"] == (ROWS - 1) / 2
    assert ExamplesEvaluator(NUMBERS, prefix="train/").columns(model(), 0)["train/largest"] == 1002


def test_the_seed_decides_what_is_drawn_and_the_model_stays_as_it_was() -> None:
    evaluator, ruler = ExamplesEvaluator(NUMBERS), model()
    before = ruler.measure_generator.get_state()
    one, two, other = (evaluator.columns(ruler, seed)["noise"] for seed in (3, 3, 4))
    assert np.array_equal(one, two)
    assert not np.array_equal(one, other)
    assert len(set(one.tolist())) > MEASURED_AT_ONCE, "each batch draws on"
    assert torch.equal(before, ruler.measure_generator.get_state())


ONES = torch.ones(3)


@pytest.mark.parametrize(
    "numbers",
    [torch.tensor([1, 0, 1]), torch.tensor([True, False, True]), torch.tensor([1, 0, 1]).bfloat16()],
)  # fmt: skip
def test_answers_that_are_right_or_wrong_count_as_numbers(
    numbers: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Ruler, "measure", lambda *_: {"number": numbers})
    found = ExamplesEvaluator(NUMBERS.take(slice(3))).columns(model(), 0)
    assert found["number"].dtype == np.float32
    assert curves_of(found)["number"] == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("measured", "words"),
    [
        ({"number": ONES[:2]}, r"returned number of shape \[2\] for 3 examples; let it return a te"),
        ({"number": ONES.sum()}, r"returned number of shape \[\] for 3 examples"),
        ({"number": 1.0}, "returned number as a float for 3 examples"),
        ({"number": ONES.numpy()}, "returned number as a ndarray for 3 examples"),
        ({"number": ONES[:, None]}, r"the number of .*Ruler has the shape \[1\] for each example"),
        ({"number": ONES * torch.nan}, "the number of .*Ruler is missing or not finite; return fini"),
        ({"number": ONES * 1j}, "the number of .*Ruler is missing or not finite"),
        ({"numbers": ONES}, "the number of .*Ruler is missing or not finite"),
        ({"number": ONES, "update": ONES}, "returned a measure called 'update', which run folders"),
        ({"number": ONES, "seed": ONES}, "a measure called 'seed'"),
        ({"number": ONES, "train/number": ONES}, "a measure called 'train/number'"),
        (None, r"Ruler cannot be run \(AttributeError.*`measure` must return a mapping of tensors"),
    ],
)  # fmt: skip
def test_a_faulty_measure_is_named(
    measured: Any, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Ruler, "measure", lambda *_: measured)
    monkeypatch.setattr(Ruler, "summary", lambda *_: {"largest": 1.0})
    with pytest.raises(UserError, match=words):
        ExamplesEvaluator(NUMBERS.take(slice(3))).columns(model(), 0)


@pytest.mark.parametrize(
    ("summary", "words"),
    [
        (lambda *_: {}, "the largest of .*Ruler is missing or not finite; return finite numbers"),
        (lambda *_: {"largest": np.inf}, "the largest of .*Ruler is missing or not finite"),
        (lambda *_: None, r"Ruler cannot be run \(AttributeError"),
        (lambda *_: {"largest": np.ones(2)}, r"Ruler cannot be run \(TypeError"),
        (lambda *_: {"largest": "high"}, r"Ruler cannot be run \(ValueError"),
        (lambda _, columns: columns["absent"], "Ruler raised KeyError in <lambda>: 'absent'"),
    ],
)
def test_a_faulty_summary_is_named(
    summary: Any, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Ruler, "summary", summary)
    with pytest.raises(UserError, match=words):
        ExamplesEvaluator(NUMBERS).columns(model(), 0)


def test_measures_that_only_some_batches_have_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(self: Ruler, examples: Examples) -> dict[str, Tensor]:
        found = {"number": examples["obs"][:, 0]}
        return found | ({"rest": found["number"]} if len(examples) == 3 else {})

    monkeypatch.setattr(Ruler, "measure", measure)
    words = "returned number for one batch and number, rest for another; let it return the same na"
    with pytest.raises(UserError, match=words):
        ExamplesEvaluator(NUMBERS).columns(model(), 0)


@pytest.mark.parametrize("changed", [{"b": np.ones(2)}, {"a": np.ones(3)}, {}])
def test_other_columns_than_before_are_refused_and_change_no_file(
    changed: dict[str, Any], tmp_path: Path
) -> None:
    folder, first = RunFolder(tmp_path), {"a": np.ones(2)}
    folder.start({})
    folder.add_evaluation(1, first)
    words = (
        r"evaluation of update 2 has other columns than the previous one.*let the learner return"
    )
    with pytest.raises(UserError, match=words):
        folder.add_evaluation(2, changed if "a" in changed else {**first, **changed} if changed else {})  # fmt: skip
    assert folder.evaluations()["update"].tolist() == [1]
    folder.add_evaluation(2, {"a": np.zeros(2)})
    assert folder.evaluations()["a"].tolist() == [[1, 1], [0, 0]]


class OnlyLearner(Learner):
    Config = Config
    consumes = Transitions
    measures = (Measure("number"),)

    def learn(self, experience: Any) -> Mapping[str, Tensor]:
        return {}


@dataclass(frozen=True)
class Unbatched:
    """No batch_size."""

    size: int = 2


@pytest.mark.parametrize(
    ("attribute", "value", "words"),
    [
        ("measures", ("number",), r"has measures = \('number',\), expected a tuple of one or more"),
        ("measures", Measure("number"), "has measures = Measure"),
        ("measures", (), r"has measures = \(\), expected a tuple"),
        (
            "measures",
            (Measure("a"), Measure("a", "m")),
            "has two measures with the same name, so give",
        ),
        ("Config", Unbatched, "has a Config without batch_size, so give it one"),
        ("consumes", Transitions, "has consumes = .*Transitions'>, expected Examples"),
    ],
)
def test_what_a_model_lacks_is_named(
    attribute: str, value: Any, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Ruler, attribute, value)
    with pytest.raises(UserError, match=f"model 'tests.benchmarks.test_measuring:Ruler': the class Ruler {words}"):  # fmt: skip
        load_learner("tests.benchmarks.test_measuring:Ruler")


@pytest.mark.parametrize("name", ["OnlyLearner", "Config", "SPEC"])
def test_what_is_neither_agent_nor_model_is_refused(name: str) -> None:
    words = (
        r"is not a subclass of rlbench\.interface\.Agent, Model or MetaLearner; expected package"
    )
    with pytest.raises(UserError, match=f"agent, model or meta-learner 'tests.benchmarks.test_measuring:{name}': it {words}"):  # fmt: skip
        load_learner(f"tests.benchmarks.test_measuring:{name}")


RULER = ["run", "tests.benchmarks.test_measuring:Ruler", "--env", "mine.npz", "--out", "run"]


def write(file: Path, add: float = 0.0) -> None:
    """Eight examples; numbers 0 to 7 and what is added."""
    obs = np.arange(8.0)[:, None] + add
    np.savez(file, **{"train/obs": obs, "test/obs": 2 * obs})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("attribute", "value", "words"),
    [
        ("run", {"update": 3}, "`run` of tests.benchmarks.test_measuring:Ruler names update, which is not a sett"),
        ("preset", lambda *_: {"rate": 3}, "`preset` of tests.benchmarks.test_measuring:Ruler names rate, whi"),
        ("preset", lambda *_: int("x"), "Ruler raised ValueError in <lambda>: invalid literal"),
    ],
)  # fmt: skip
def test_faulty_defaults_of_a_model_are_named(
    attribute: str, value: Any, words: str, in_folder: Path,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(Ruler, attribute, value)
    write(in_folder / "mine.npz")
    assert words in refused(capsys, RULER)
    assert not Path("run").exists()


def test_a_custom_model_is_run_evaluated_and_reported(
    in_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(in_folder / "mine.npz")
    assert main(RULER) == 0
    told = capsys.readouterr().out
    words = "number 7.000, largest 14.000 m over 8 examples"
    assert f"done: {words}; training examples: number 3.500, largest 7.000 m over 8 ex" in told
    assert told.endswith("kept in run; next: rlbench evaluate run --trust\n")
    before = {file: file.stat().st_mtime_ns for file in Path("run").rglob("*")}
    assert main(["evaluate", "run", "--trust"]) == 0
    assert capsys.readouterr().out == f"{words}\n"
    assert {file: file.stat().st_mtime_ns for file in Path("run").rglob("*")} == before
    assert "which does not act; leave --explore out" in refused(capsys, ["evaluate", "run", "--explore", "--trust"])  # fmt: skip
    for command in ("watch", "export"):
        assert "run is the run of a learner that does not act" in refused(
            capsys, [command, "run", "--trust"]
        )
    assert main(["report", "run"]) == 0
    assert "number 7.0 ±" in Path("report.html").read_text()


def test_examples_that_were_changed_are_named_by_every_command_that_reads_them(
    in_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(in_folder / "mine.npz")
    assert main(RULER) == 0
    capsys.readouterr()
    write(in_folder / "mine.npz", add=1)
    words = (
        "the data of mine.npz differ from those with which run began; restore them or start a new"
    )
    for command in (["evaluate"], ["run", "--resume"]):
        assert words in refused(capsys, [*command, "run", "--trust"])
    file = Path("run/config.json")
    whole = file.read_text()
    for data, told in ((None, words), ({"kind": "file"}, "run/config.json is damaged; restore it")):
        edit(Path("run"), methodcaller("update", {"data": data}))
        for command in (["evaluate"], ["run", "--resume"]):
            assert told in refused(capsys, [*command, "run", "--trust"])
    file.write_text(whole)
    Path("mine.npz").unlink()
    assert "there is no file mine.npz" in refused(capsys, ["evaluate", "run", "--trust"])


def test_a_model_trained_on_a_gpu_is_evaluated_on_a_cpu(
    in_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(in_folder / "mine.npz")
    assert main(RULER) == 0
    edit(Path("run"), lambda config: config["run"].update(device="cuda"))
    assert load_run(Path("run"), trust=True)[0].device.type == "cpu"
    assert main(["evaluate", "run", "--trust"]) == 0
    assert "number 7.000" in capsys.readouterr().out


@dataclass(frozen=True)
class Crowd:
    lifetimes: int = 2
    workers: int = 2


class Idle(MetaLearner):
    """Learns nothing."""

    Config: ClassVar[type] = Crowd
    measures = (Measure("score"),)

    def build(self) -> None:
        pass

    def learn(self, lifetimes: Lifetimes) -> dict[str, torch.Tensor]:
        return {}

    def measure(self, lifetimes: Lifetimes) -> dict[str, torch.Tensor]:
        return {"score": torch.zeros(lifetimes.spec.shape[0])}


def test_a_meta_learner_needs_lifetimes_and_workers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    name = "tests.benchmarks.test_measuring:Idle"
    config = RunConfig(env="chain-short", updates=1, out=tmp_path / "x")
    for setting in ("lifetimes", "workers"):
        with pytest.raises(UserError, match=f"{setting} is 0; give a whole number, 1 or more"):
            Run(name, Crowd(**{setting: 0}), config).start()
    assert not (tmp_path / "x").exists()
    monkeypatch.setattr(Idle, "Config", Unbatched)
    with pytest.raises(
        UserError, match="has a Config without lifetimes and workers, so give it each"
    ):
        load_learner(name)
