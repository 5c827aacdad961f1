"""Callbacks see what is logged and measured, keep their state, may stop a run, and change nothing unless they say so."""

import math
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from rich.console import Console

from rlbench import checkpoint
from rlbench.agents.bc import BC
from rlbench.benchmarks.tables.results import read_result
from rlbench.benchmarks.training.loading import load_run
from rlbench.benchmarks.training.run_folder import RunFolder
from rlbench.benchmarks.training.runner import Run
from rlbench.callbacks import Callback, Progress
from rlbench.cli import main
from rlbench.errors import UserError
from tests.benchmarks.test_recorder import cut_off, lines, made
from tests.kill_and_resume import assert_equal

QUIET = Console(quiet=True)
HERE = __name__
WORDS = [
    "bc", "--env", "point-random", "--data-size", "100", "--hidden", "8", "--batch-size", "8", "--updates", "8",
    "--eval-every", "3", "--log-every", "2", "--checkpoint-every", "3", "--eval-episodes", "2", "--compile", "off",
]  # fmt: skip


class Witness(Callback):
    """Notes what it is given."""

    def __init__(self) -> None:
        self.logs: list[Any] = []
        self.evaluations: list[Any] = []

    def on_log(self, progress: Progress) -> Mapping[str, float] | None:
        self.logs.append([progress.update, dict(progress.values), progress.env_steps])
        return {"logs": len(self.logs)} if progress.update == 6 else None

    def on_evaluation(self, progress: Progress, learner: Any) -> Mapping[str, float]:
        returns = progress.columns["return"].tolist()
        self.evaluations.append([progress.update, returns, dict(progress.values), progress.last])
        progress.columns["return"][:] = math.nan  # Copies of what is recorded.
        return {"best": max(returns)}


class Stops(Callback):
    """Asks to stop at one log line or evaluation."""

    at: ClassVar[tuple[str, int]] = ("on_evaluation", 3)

    def on_log(self, progress: Progress) -> None:
        if self.at == ("on_log", progress.update):
            progress.stop("enough lines")

    def on_evaluation(self, progress: Progress, learner: Any) -> None:
        if self.at == ("on_evaluation", progress.update):
            progress.stop("enough evaluations")


class Counting(Callback):
    """Has state of every kind, on which what it logs depends."""

    def __init__(self) -> None:
        self.count, self.best, self.name = 0, -math.inf, "a"
        self.nothing: int | None = None
        self.history: dict[str, list[Any]] = {"returns": []}
        self.total = torch.zeros(2)
        self.generator = np.random.default_rng(0)
        self.line = object()  # No state.

    def on_log(self, progress: Progress) -> Mapping[str, float]:
        self.count += 1
        self.total += self.count
        return {"count": self.count, "total": float(self.total[0]), "draw": self.generator.random()}

    def on_evaluation(self, progress: Progress, learner: Any) -> Mapping[str, float]:
        self.best = max(self.best, progress.values["return"])
        self.history["returns"].append(progress.values["return"])
        self.nothing = self.nothing or progress.update
        return {"best": self.best, "mean": float(np.mean(self.history["returns"]))}


class Meddler(Callback):
    """Draws from every generator that it can reach, and acts."""

    def on_log(self, progress: Progress) -> None:
        random.random(), np.random.rand(), torch.rand(3)  # noqa: NPY002

    def on_evaluation(self, progress: Progress, learner: Any) -> None:
        random.seed(1), np.random.seed(1), torch.manual_seed(1)  # noqa: NPY002
        torch.rand(3, generator=learner.generator)
        torch.rand(3, generator=learner.act_generator)
        assert not learner.policy.training
        env = progress.task.make()
        obs = torch.as_tensor(env.reset(seed=0)[0], dtype=torch.float32)[None]
        learner.act(obs)
        learner.policy.train()


class Gambler(BC):
    """Uses the global generators, as custom agents may."""

    def learn(self, experience: Any) -> Any:
        dice = random.random() + np.random.rand() + torch.rand(())  # noqa: NPY002
        return {**super().learn(experience), "dice": dice}


class Changing(Callback):
    """Changes a weight."""

    def on_evaluation(self, progress: Progress, learner: Any) -> None:
        next(iter(learner.policy.parameters())).data[0] += 1


class Admitting(Changing):
    """Changes a weight, and says so."""

    changes_learner = True


class Wrong(Callback):
    """Fails, or returns what it must not."""

    mode: ClassVar[str] = ""

    def on_log(self, progress: Progress) -> Any:
        calls: dict[str, Callable[[], Any]] = {"raise": self.fail, "exit": exit}
        return calls.get(self.mode, self.answer)()

    def fail(self) -> None:
        raise KeyError("door")

    def answer(self) -> Any:
        return {"text": "x", "nan": {"x": math.nan}, "update": {"update": 1.0}}.get(self.mode)

    def state_dict(self) -> dict[str, Any]:
        wrong: Any = {"state": {"x": object()}, "list": [1]}
        return wrong[self.mode] if self.mode in wrong else super().state_dict()


class Needing(Callback):
    """Cannot be made without an argument."""

    def __init__(self, patience: int) -> None:
        self.patience = patience


def named(*kinds: type) -> tuple[str, ...]:
    return tuple(f"{HERE}:{kind.__name__}" for kind in kinds)


def started(out: Path, *kinds: type, agent: str = "bc", **options: Any) -> Run:
    run = made(out, agent, callbacks=named(*kinds), **options)
    run.start()
    return run


def test_a_callback_sees_each_log_line_and_evaluation(tmp_path: Path) -> None:
    witness, console = Witness(), Console(record=True, width=200)
    plain = made(tmp_path / "run", "ppo")
    run = Run("ppo", plain.settings, plain.config, console, callbacks=[witness])
    run.start()
    assert "nan" not in console.export_text()
    whole = [
        {"update": update, "env_steps": steps} | values for update, values, steps in witness.logs
    ]
    assert whole == lines(tmp_path / "run")
    saved = run.folder.evaluations()
    assert [x[0] for x in witness.evaluations] == saved["update"].tolist() == [3, 6, 7]
    assert [x[1] for x in witness.evaluations] == saved["return"].tolist()
    assert [x[2]["return"] for x in witness.evaluations] == pytest.approx(saved["return"].mean(1))
    assert all("score" in x[2] for x in witness.evaluations)
    assert [x[3] for x in witness.evaluations] == [False, False, True]
    best = saved["return"].max(1).tolist()
    assert lines(tmp_path / "run", "callbacks.jsonl") == [
        {"update": 3, "best": best[0]}, {"update": 6, "logs": 2.0}, {"update": 6, "best": best[1]},
        {"update": 7, "best": best[2]},
    ]  # fmt: skip
    assert run.folder.config()["run"]["callbacks"] == list(named(Witness))
    assert run.folder.config()["learner_changed_by"] == []


def test_what_callbacks_return_is_logged(tmp_path: Path) -> None:
    started(tmp_path / "run", Witness, loggers=("csv",))
    text = (tmp_path / "run/curves.csv").read_text()
    assert "callback/logs,6,,2.0" in text
    assert "callback/best,7,," in text


@pytest.mark.parametrize(
    ("at", "end", "reason"),
    [
        (("on_evaluation", 3), 3, "enough evaluations"),
        (("on_log", 4), 4, "enough lines"),
        (("on_evaluation", 7), 7, "enough evaluations"),
    ],
)
def test_a_callback_ends_a_run_which_is_then_complete(
    at: tuple[str, int], end: int, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Stops, "at", at)
    run = started(tmp_path / "run", Stops, log_every=2)
    assert run.folder.checkpoints() == [end]
    assert run.folder.evaluations()["update"].tolist()[-1] == end
    assert run.folder.complete()
    assert run.folder.stopped() == (end, reason)
    assert Run.resume(tmp_path / "run", QUIET, trust=True).finish() == 0
    result = read_result("bc", tmp_path / "run")
    assert result.columns["return"].tolist() == run.folder.evaluations()["return"][-1].tolist()
    load_run(tmp_path / "run")  # It needs no trust, because it imports no callback.


def test_a_run_that_no_callback_ended_is_not_complete_before_its_last_update(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_off(made(tmp_path / "run", callbacks=named(Stops, Witness), eval_every=4), 5, monkeypatch)
    assert not RunFolder(tmp_path / "run").complete()
    assert RunFolder(tmp_path / "run").stopped() is None


def test_a_sweep_does_not_repeat_runs_that_callbacks_ended(
    in_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [
        "sweep",
        "--agents",
        "bc",
        "--tasks",
        "point-random",
        "--seeds",
        "2",
        "--data-size",
        "100",
    ]
    flags += [
        "--updates",
        "9",
        "--eval-every",
        "3",
        "--jobs",
        "1",
        "--callbacks",
        *named(Stops),
        "--out",
        "runs",
    ]
    for _ in range(2):
        assert main(flags) == 0
        assert "A callback ended 2 of 2 runs early." in capsys.readouterr().out
    for folder in map(RunFolder, Path("runs").glob("bc-*")):
        assert folder.checkpoints() == [3]
        assert (folder.path / "log.txt").read_text().count("a callback ended the run") == 1


@pytest.mark.parametrize(
    "agent", ["bc", *(pytest.param(x, marks=pytest.mark.slow) for x in ("sac", "ppo"))]
)
def test_the_state_of_a_callback_is_resumed_exactly(
    agent: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"updates": 9, "log_every": 2, "eval_every": 2}
    started(tmp_path / "whole", Counting, agent=agent, **options)
    for updates in (2, 5, 8):
        folder = tmp_path / f"cut-{updates}"
        cut_off(made(folder, agent, callbacks=named(Counting), **options), updates, monkeypatch)
        Run.resume(folder, QUIET, trust=True).finish()
        assert_equal(tmp_path / "whole", folder)
        whole, other = (x / "callbacks.jsonl" for x in (tmp_path / "whole", folder))
        assert whole.read_bytes() == other.read_bytes()


def test_a_callback_that_only_reads_changes_no_byte(tmp_path: Path) -> None:
    contents = []
    for kinds in ((), (Meddler,)):
        random.seed(0), np.random.seed(0), torch.manual_seed(0)  # noqa: NPY002
        plain = made(tmp_path / str(len(kinds)))
        config = plain.config
        callbacks = [kind() for kind in kinds]
        run = Run(f"{HERE}:Gambler", plain.settings, config, QUIET, callbacks=callbacks)
        run.start()
        path = run.folder.path
        (tensors,) = (path / "checkpoint").glob("*.safetensors")
        files = (path / "metrics.jsonl", path / "measures.npz", tensors)
        contents.append([file.read_bytes() for file in files])
        state = checkpoint.load(tensors.with_suffix(""))
        assert ("callbacks" in state) == bool(kinds)
    assert b"dice" in contents[0][0]
    assert contents[0] == contents[1]


def test_a_changed_learner_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"{HERE}:Changing changed policy of the learner") as told:
        started(tmp_path / "run", Changing)
    assert "set changes_learner = True" in str(told.value)
    assert "--resume" in str(told.value)
    assert RunFolder(tmp_path / "run").checkpoints() == []


class Freezing(Callback):
    """Freezes the weights of the policy."""

    def on_evaluation(self, progress: Progress, learner: Any) -> None:
        learner.policy.requires_grad_(False)


def test_a_frozen_learner_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"Freezing changed requires_grad in policy of the learner"):
        started(tmp_path / "run", Freezing)


def test_a_changed_learner_is_learned_from_and_noted_if_the_class_says_so(tmp_path: Path) -> None:
    started(tmp_path / "plain", compile="auto", updates=50)
    run = made(tmp_path / "run", callbacks=named(Admitting), compile="auto", updates=50)
    assert run.config.compile == "off", "however long the run is"
    run.start()
    assert run.folder.config()["learner_changed_by"] == list(named(Admitting))
    one, other = ((tmp_path / x / "metrics.jsonl").read_text() for x in ("plain", "run"))
    assert one != other
    with pytest.raises(UserError, match="may not notice; leave out --compile on"):
        made(tmp_path / "on", callbacks=named(Admitting), compile="on")


def test_a_class_that_no_longer_changes_the_learner_is_refused_on_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_off(made(tmp_path / "run", callbacks=named(Admitting)), 5, monkeypatch)
    monkeypatch.setattr(Admitting, "changes_learner", False)
    with pytest.raises(UserError, match="with the same changes_learner"):
        Run.resume(tmp_path / "run", QUIET, trust=True)


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("raise", f"{HERE}:Wrong raised KeyError in on_log: 'door'; this comes from your callback"),
        ("exit", f"{HERE}:Wrong raised SystemExit in on_log"),
        ("text", "returned 'x'; return a dict of names and finite numbers, or None"),
        ("nan", "returned {'x': nan}"),
        ("update", "returned {'update': 1.0}"),
        ("state", "return a dict of tensors, numbers, strings, lists and nested dicts"),
        ("list", f"`state_dict` of {HERE}:Wrong returned [1]; return a dict"),
    ],
)
def test_a_faulty_callback_is_named_as_the_user_s(
    mode: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Wrong, "mode", mode)
    with pytest.raises(UserError) as told:
        started(tmp_path / "run", Wrong)
    assert words in str(told.value)
    assert "--trust` continues from update 0" in str(told.value)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("patience",), "give your own class as package.module:Class"),
        (("nowhere:Class",), "cannot import the module 'nowhere'"),
        (("builtins:int",), "derive its class from rlbench.callbacks.Callback"),
        (named(Needing), "Needing raised TypeError in its constructor"),
        (named(Witness, Witness), "a callback is given twice"),
    ],
)
def test_a_wrong_name_is_one_sentence(names: tuple[str, ...], words: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=words):
        made(tmp_path / "run", callbacks=names)


def test_a_resume_imports_callbacks_only_with_trust(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = made(tmp_path / "run", callbacks=named(Witness))
    assert (run.resume_option, run.trust_option) == (" --trust", "")
    cut_off(run, 5, monkeypatch)
    with pytest.raises(UserError, match=f"names the custom code {HERE}:Witness"):
        Run.resume(tmp_path / "run", QUIET)
    assert Run.resume(tmp_path / "run", QUIET, trust=named(Witness)).finish() == 4


def test_objects_are_resumed_in_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = made(tmp_path / "run")
    run = Run("bc", plain.settings, plain.config, QUIET, callbacks=[Needing(3)])
    cut_off(run, 5, monkeypatch)
    with pytest.raises(UserError, match="give the same classes"):
        Run.resume(tmp_path / "run", QUIET, callbacks=[Witness()])
    again = Needing(5)
    assert Run.resume(tmp_path / "run", QUIET, callbacks=[again]).finish() == 4
    assert again.patience == 3, "from the checkpoint"


def test_an_object_that_is_no_callback_is_refused(tmp_path: Path) -> None:
    plain = made(tmp_path / "run")
    with pytest.raises(UserError, match="the callback builtins:int is 3; derive its class"):
        Run("bc", plain.settings, plain.config, QUIET, callbacks=[3])  # type: ignore[list-item]


def test_each_of_several_seeds_has_its_own_callbacks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = named(Counting, Stops)
    words = ["run", *WORDS, "--seeds", "2", "--callbacks", *names, "--out", str(tmp_path / "both")]
    assert main(words) == 0
    found = capsys.readouterr().out
    assert found.count("but seeds that learn together end together") == 2
    for seed in (0, 1):
        folder = RunFolder(tmp_path / f"both/s{seed}")
        assert folder.checkpoints() == [8]
        means = folder.evaluations()["return"].mean(1)
        logged = lines(folder.path, "callbacks.jsonl")
        assert [x["best"] for x in logged if "best" in x] == pytest.approx(
            np.maximum.accumulate(means)
        )
        assert [x["count"] for x in logged if "count" in x] == [1, 2, 3, 4]
    assert main(["run", *WORDS, "--seeds", "2", "--callbacks", *named(Admitting)]) == 2
    assert "leave out --seeds 2" in capsys.readouterr().err


def test_the_state_of_a_callback_is_plain_values_and_parts() -> None:
    one, other = Counting(), Counting()
    one.count, one.history, one.total = 5, {"returns": [1.0]}, torch.tensor([1.0, 2.0])
    one.generator.random(3)
    other.load_state_dict(one.state_dict())
    assert (other.count, other.history, other.best) == (5, {"returns": [1.0]}, -math.inf)
    assert other.total.tolist() == [1.0, 2.0]
    assert one.generator.random() == other.generator.random()
