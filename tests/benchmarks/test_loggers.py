"""Learning curves of a run in every logger: the same numbers, each once, and a run that does not depend on them."""

import csv
import importlib
import json
import os
import random
import struct
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from rlbench.agents import load_agent
from rlbench.agents.bc import BC
from rlbench.benchmarks.loggers import LOGGERS, LoggedRun, Logger
from rlbench.benchmarks.loggers.csv import CSV
from rlbench.benchmarks.training.config import RunConfig
from rlbench.benchmarks.training.run_folder import RunFolder
from rlbench.benchmarks.training.runner import Run
from rlbench.cli import main
from rlbench.errors import UserError
from tests.benchmarks.test_recorder import cut_off, lines, made

QUIET = Console(quiet=True)
HERE = __name__
WORDS = [
    "bc", "--env", "point-random", "--data-size", "100", "--hidden", "8", "--batch-size", "8", "--updates", "6",
    "--eval-every", "3", "--log-every", "2", "--checkpoint-every", "3", "--eval-episodes", "2",
]  # fmt: skip
Points = dict[tuple[str, int], float]
"""Value by curve and update."""


class Noisy(Logger):
    """Draws from every global generator."""

    seen: ClassVar[list[tuple[int, str, float]]] = []
    closed: ClassVar[list[bool]] = []

    def __init__(self, run: LoggedRun) -> None:
        self._draw()
        self.kept = {"began": [*run.kept.get("began", []), run.first]}

    def add(self, update: int, values: Mapping[str, float], env_steps: int | None = None) -> None:
        self._draw()
        self.seen.extend((update, name, value) for name, value in values.items())

    def close(self, *, complete: bool) -> None:
        self._draw()
        self.closed.append(complete)

    def _draw(self) -> None:
        random.random(), np.random.rand(), torch.rand(())  # noqa: NPY002


class Failing(Noisy):
    """Fails at its second points."""

    def add(self, update: int, values: Mapping[str, float], env_steps: int | None = None) -> None:
        if update > 2:
            raise ConnectionError("no route\nto host")


class Unreachable(Noisy):
    """Cannot be opened while `down`."""

    down: ClassVar[bool] = True

    def __init__(self, run: LoggedRun) -> None:
        if self.down:
            raise ConnectionError("no route")
        super().__init__(run)


class Gambler(BC):
    """Uses the global generators, as custom agents may."""

    def learn(self, experience: Any) -> Any:
        dice = random.random() + np.random.rand() + torch.rand(())  # noqa: NPY002
        return {**super().learn(experience), "dice": dice}


@pytest.fixture(autouse=True)
def _nothing_seen() -> None:
    Noisy.seen.clear()
    Noisy.closed.clear()


def named(*kinds: type) -> tuple[str, ...]:
    return tuple(f"{HERE}:{kind.__name__}" for kind in kinds)


def expected(folder: Path) -> Points:
    """The points of a run, from its own files."""
    found: Points = {}
    for line in lines(folder):
        update = line.pop("update")
        line.pop("env_steps", None)
        found |= {(f"train/{name}", update): value for name, value in line.items()}
    saved = RunFolder(folder).evaluations()
    for update, returns in zip(saved["update"].tolist(), saved["return"], strict=True):
        found["eval/return", update] = returns.mean()
    return found


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "curves.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def in_csv(folder: Path) -> Points:
    found = {(row["curve"], int(row["update"])): float(row["value"]) for row in rows(folder)}
    assert len(found) == len(rows(folder)), "no point twice"
    return found


def in_tensorboard(folder: Path) -> Points:
    shown = EventAccumulator(str(folder / "tensorboard"))
    shown.Reload()
    points = [(tag, x.step, x.value) for tag in shown.Tags()["scalars"] for x in shown.Scalars(tag)]
    assert len({point[:2] for point in points}) == len(points), "no point twice"
    return {(tag, step): value for tag, step, value in points}


def agree(found: Points, wanted: Points) -> bool:
    """Whether all wanted points are there, and no others but speeds, scores and further measures."""
    more = {name for name, _ in found.keys() - wanted.keys() if name.startswith("train/")}
    return not more and all(found[k] == pytest.approx(x, rel=1e-5) for k, x in wanted.items())


def test_a_run_is_the_same_with_and_without_loggers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = []
    for names in ((), ("tensorboard", "csv", *named(Noisy, Failing))):
        random.seed(0), np.random.seed(0), torch.manual_seed(0)  # noqa: NPY002
        settings = load_agent("bc").Config(hidden=(8,), batch_size=8)
        config = RunConfig(
            env="point-random", data_size=100, updates=6, eval_every=3, log_every=2, eval_episodes=2,
            checkpoint_every=3, out=tmp_path / str(len(names)), loggers=names,
        )  # fmt: skip
        run = Run(f"{HERE}:Gambler", settings, config, QUIET)
        run.start()
        path = run.folder.path
        files = ["config.json", "metrics.jsonl", "measures.npz", *(path / "checkpoint").iterdir()]
        contents.append([(path / name).read_bytes() for name in sorted(map(str, files))])
    assert "dice" in contents[0][-1].decode()
    assert contents[0] == contents[1]
    assert Noisy.seen


def test_every_logger_has_the_curves_of_the_run(tmp_path: Path) -> None:
    run = made(tmp_path / "run", "ppo", loggers=("csv", "tensorboard", *named(Noisy)))
    run.start()
    wanted = expected(tmp_path / "run")
    assert ("eval/return", 7) in wanted
    for found in (in_csv(tmp_path / "run"), in_tensorboard(tmp_path / "run")):
        assert agree(found, wanted)
    assert agree({(name, update): x for update, name, x in Noisy.seen}, wanted)
    assert {(row["update"], row["env_steps"]) for row in rows(tmp_path / "run")} == {
        (str(update), str(14 * update)) for update in (3, 6, 7)
    }
    assert Noisy.closed == [True]


def test_a_resume_gives_loggers_the_old_points_again_and_shows_each_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"updates": 9, "log_every": 1, "eval_every": 2}
    options["loggers"] = ("csv", "tensorboard", *named(Noisy))
    cut_off(made(tmp_path / "run", **options), 5, monkeypatch)
    assert {update for update, *_ in Noisy.seen} == {1, 2, 3, 4, 5}
    assert Noisy.closed == [False]
    Noisy.seen.clear()
    Run.resume(tmp_path / "run", QUIET, trust=True).finish()
    wanted = expected(tmp_path / "run")
    assert agree(in_csv(tmp_path / "run"), wanted)
    assert agree(in_tensorboard(tmp_path / "run"), wanted)
    newest = max((tmp_path / "run/tensorboard").glob("events*"), key=lambda x: x.name)
    steps = {event.step for event in EventFileLoader(str(newest)).Load() if event.summary.value}
    assert steps == {4, 5, 6, 7, 8, 9}, "older points keep their time of day"
    again = {(name, update): x for update, name, x in Noisy.seen}
    assert agree(again, wanted)
    assert len(again) == len(Noisy.seen), "each is given once in a process"
    assert ("speed/updates_per_second", 1) in again
    assert ("eval/score", 2) in again
    kept = json.loads((tmp_path / "run/loggers.json").read_text())["loggers"]
    assert kept[f"{HERE}:Noisy"] == {"began": [0, 3]}


@pytest.mark.parametrize("seeds", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_resume_of_a_complete_run_gives_loggers_what_they_missed(
    seeds: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [*WORDS, "--seeds", str(seeds), "--compile", "off", "--loggers", "csv"]
    assert main(["run", *words, "--out", str(tmp_path / "run")]) == 0
    run = tmp_path / "run" if seeds == 1 else tmp_path / "run/s1"
    before = (run / "curves.csv").read_text()
    (run / "curves.csv").write_text("curve\n")
    assert main(["run", "--resume", str(tmp_path / "run")]) == 0
    assert sorted((run / "curves.csv").read_text().splitlines()) == sorted(before.splitlines())


def test_a_failing_logger_is_reported_once_and_the_run_goes_on(tmp_path: Path) -> None:
    console = Console(record=True, width=1000)
    run = made(tmp_path / "run", loggers=(*named(Failing), "csv"))
    run = Run(run.learner_name, run.settings, run.config, console)
    run.start()
    told = console.export_text()
    assert told.count("cannot be written to (ConnectionError: no route to host)") == 1
    assert "so the run continues without it" in told
    assert run.folder.complete()
    assert agree(in_csv(tmp_path / "run"), expected(tmp_path / "run"))


def test_a_logger_that_cannot_be_opened_is_refused_in_a_new_run_and_reported_in_a_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = made(tmp_path / "run", loggers=named(Unreachable))
    with pytest.raises(
        UserError, match=r"Unreachable cannot be opened \(ConnectionError: no route\)"
    ):
        run.start()
    assert not (tmp_path / "run/config.json").exists()
    monkeypatch.setattr(Unreachable, "down", False)
    cut_off(made(tmp_path / "run", loggers=named(Unreachable)), 5, monkeypatch)
    before = (tmp_path / "run/loggers.json").read_bytes()
    monkeypatch.setattr(Unreachable, "down", True)
    console = Console(record=True, width=1000)
    assert Run.resume(tmp_path / "run", console, trust=True).finish() == 4
    assert console.export_text().count("cannot be opened") == 1
    assert (tmp_path / "run/loggers.json").read_bytes() == before, "a later resume may reach it"


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_missing_package_is_named_before_anything_is_made(
    name: str, in_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, f"rlbench.benchmarks.loggers.{name}", raising=False)
    assert main(["run", *WORDS, "--loggers", "csv", name]) == 2
    told = capsys.readouterr().err
    assert (
        f"the logger {name} needs the package {name}; install it with pip install 'rlbench[{name}]'"
        in told
    )
    assert list(in_folder.iterdir()) == []


def test_no_logger_at_all(in_folder: Path) -> None:
    assert main(["run", *WORDS, "--out", "run", "--loggers"]) == 0
    assert RunFolder(Path("run")).complete()
    assert not Path("run/tensorboard").exists()


def test_a_run_of_an_earlier_version_is_logged_for_tensorboard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_off(made(tmp_path / "run"), 5, monkeypatch)
    (tmp_path / "run/loggers.json").unlink()
    assert Run.resume(tmp_path / "run", QUIET).config.loggers == ("tensorboard",)


def test_a_changed_list_of_loggers_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_off(made(tmp_path / "run", loggers=("csv",)), 5, monkeypatch)
    file = tmp_path / "run/loggers.json"
    file.write_text(file.read_text().replace("csv", "evil:Logger"))
    with pytest.raises(UserError, match=r"loggers\.json was changed"):
        Run.resume(tmp_path / "run", QUIET, trust=True)


def test_a_custom_logger_of_a_folder_needs_trust(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_off(made(tmp_path / "run", loggers=named(Noisy)), 5, monkeypatch)
    with pytest.raises(UserError, match=f"names the custom code {HERE}:Noisy"):
        Run.resume(tmp_path / "run", QUIET)
    assert Run.resume(tmp_path / "run", QUIET, trust=named(Noisy)).resume_option == " --trust"


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("tensorbord",), "there is no logger 'tensorbord'; did you mean tensorboard"),
        (("csv", "csv"), "the logger csv is given twice"),
        (("builtins:int",), "expected a subclass of rlbench.benchmarks.loggers.Logger"),
    ],
)
def test_a_wrong_name_is_one_sentence(names: tuple[str, ...], words: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=words):
        made(tmp_path / "run", loggers=names)


def test_an_installed_package_adds_a_logger(
    in_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("their_logger.py").write_text(
        "from rlbench.benchmarks.loggers.csv import CSV\nclass Theirs(CSV):\n    pass\n"
    )
    information = Path("their_logger-1.dist-info")
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: their-logger\nVersion: 1\n")
    (information / "entry_points.txt").write_text(
        "[rlbench.loggers]\ntheirs = their_logger:Theirs\n"
    )
    monkeypatch.syspath_prepend(str(in_folder))
    assert LOGGERS["theirs"] == "from their-logger"
    assert issubclass(LOGGERS.load("theirs"), CSV)
    assert main(["run", *WORDS, "--out", "run", "--loggers", "theirs"]) == 0
    assert agree(in_csv(Path("run")), expected(Path("run")))
    Run.resume(Path("run"), QUIET)  # What the user installed needs no trust.


@pytest.mark.slow
def test_every_seed_of_a_batch_has_its_curves(tmp_path: Path) -> None:
    words = [*WORDS, "--seeds", "2", "--compile", "off", "--loggers", "csv"]
    assert main(["run", *words, "--out", str(tmp_path / "both")]) == 0
    both = [in_csv(tmp_path / f"both/s{seed}") for seed in (0, 1)]
    for seed in (0, 1):
        assert agree(both[seed], expected(tmp_path / f"both/s{seed}"))
    assert both[0]["train/policy_loss", 2] != both[1]["train/policy_loss", 2]


def test_a_sweep_gives_its_loggers_to_all_runs(in_folder: Path) -> None:
    Path("sweep.toml").write_text(
        'seeds = 1\ntasks = ["point-random"]\n[run]\nupdates = 2\ndata_size = 100\neval_episodes = 1\n'
        'loggers = ["csv"]\n[[method]]\nagent = "bc"\nsettings = { hidden = [8] }\n'
    )
    assert main(["sweep", "sweep.toml", "--out", "new"]) == 0
    (run,) = Path("new").glob("bc-*")
    assert agree(in_csv(run), expected(run))
    flags = ["--agents", "bc", "--tasks", "point-random", "--updates", "2", "--data-size", "100"]
    assert main(["sweep", *flags, "--seeds", "1", "--loggers", "--out", "other"]) == 0
    (run,) = Path("other").glob("bc-*")
    assert not {"tensorboard", "curves.csv"} & {x.name for x in run.iterdir()}
    # Loggers decide nothing, so the same sweep with others finds its runs complete.
    before = (run / "checkpoint").stat().st_mtime_ns
    assert main(["sweep", *flags, "--seeds", "1", "--loggers", "csv", "--out", "other"]) == 0
    assert (run / "checkpoint").stat().st_mtime_ns == before
    assert main(["sweep", *flags, "--loggers", "tensorbord", "--out", "third"]) == 2
    assert not Path("third").exists()


def leveldb_records(content: bytes) -> Iterator[bytes]:
    """The records of a log in LevelDB's format: blocks of 32 KiB with pieces of records, after 7 bytes of W&B's."""
    place, record = 7, b""
    while place + 7 <= len(content):
        if (left := 32768 - place % 32768) < 7:
            place += left
            continue
        _, length, kind = struct.unpack("<IHB", content[place : place + 7])
        record += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # The whole record, or its last piece.
            yield record
            record = b""


def in_wandb(folder: Path) -> Points:
    """The points of the newest offline run, as a later `wandb sync` sends them."""
    proto = importlib.import_module("wandb.proto.wandb_internal_pb2")
    found: Points = {}
    newest = max((folder / "wandb").glob("offline-run-*"), key=lambda x: x.stat().st_mtime_ns)
    (file,) = newest.glob("*.wandb")
    for data in leveldb_records(file.read_bytes()):
        record = proto.Record.FromString(data)
        items = record.history.item
        row = {x.key or "/".join(x.nested_key): json.loads(x.value_json) for x in items}
        for name, value in row.items():
            if "/" in name:
                assert (name, row["_step"]) not in found, "no point twice"
                found[name, row["_step"]] = value
    return found


def in_mlflow(folder: Path) -> Points:
    mlflow = importlib.import_module("mlflow")
    client = mlflow.MlflowClient()
    (experiment,) = [x for x in client.search_experiments() if x.name == "rlbench"]
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.run_name == folder.name
    assert run.data.params["learner.settings.hidden"] in ("[8]", "(8,)")
    assert run.info.status == "FINISHED"
    found: Points = {}
    for name in run.data.metrics:
        for point in client.get_metric_history(run.info.run_id, name):
            assert (name, point.step) not in found, "no point twice"
            found[name, point.step] = point.value
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("name", "read"), [("wandb", in_wandb), ("mlflow", in_mlflow)])
def test_a_run_that_is_killed_is_one_run_with_each_point_once(
    name: str, read: Any, in_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(name)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{in_folder / 'mlflow.db'}")
    Path("killing.py").write_text(
        "import os, signal\nfrom rlbench.callbacks import Callback\n"
        "class Kill(Callback):\n    def on_log(self, progress):\n"
        "        if progress.update == int(os.environ.get('KILL_AT', 0)):\n"
        "            os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    words = [x if x != "6" else "12" for x in WORDS]
    command = [sys.executable, "-m", "rlbench", "run"]
    new = [*command, *words, "--loggers", name, "--callbacks", "killing:Kill", "--out", "run"]
    assert killed(new, at=8)
    resume = [*command, "--resume", "run", "--trust"]
    assert killed(resume, at=10)
    assert not killed(resume, at=0)
    wanted = expected(Path("run"))
    assert {update for _, update in wanted} == {2, 3, 4, 6, 8, 9, 10, 12}
    found = read(Path("run"))
    assert agree(found, wanted)
    assert ("speed/updates_per_second", 2) in found


def killed(command: list[str], at: int) -> bool:
    """Runs a command with a kill at an update; whether it was killed."""
    done = subprocess.run(
        command, env={**os.environ, "KILL_AT": str(at)}, capture_output=True, text=True, check=False
    )
    assert done.returncode in (0, -9), done.stderr
    return done.returncode == -9


class FakeRun:
    """A run of Weights & Biases on a server that has all steps before `step`."""

    def __init__(self, step: int) -> None:
        self.step, self.rows, self.code = step, list[tuple[int, dict[str, float]]](), -1

    def log(self, row: dict[str, float], step: int) -> None:
        self.rows.append((step, row))

    def finish(self, exit_code: int) -> None:
        self.code = exit_code


def test_weights_and_biases_is_sent_whole_steps_that_it_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, asked = FakeRun(step=4), list[dict[str, Any]]()

    def init(**words: Any) -> FakeRun:
        asked.append(words)
        return server

    fake = SimpleNamespace(init=init, Settings=dict)
    monkeypatch.setitem(sys.modules, "wandb", fake)
    monkeypatch.delitem(sys.modules, "rlbench.benchmarks.loggers.wandb", raising=False)
    monkeypatch.setenv("WANDB_PROJECT", "other")
    kind = LOGGERS.load("wandb")
    monkeypatch.delitem(sys.modules, "rlbench.benchmarks.loggers.wandb")
    config = {"learner": {"name": "bc"}, "run": {"env": "point-random"}}
    run = LoggedRun(folder=tmp_path / "run", config=config, kept={"id": "a1", "project": "first"})
    log = kind(run)
    assert log.kept == {"id": "a1", "project": "first"}, "an environment variable moves no run"
    assert (asked[0]["id"], asked[0]["project"], asked[0]["resume"]) == ("a1", "first", "allow")
    log.add(3, {"train/x": 1.0})
    log.add(4, {"train/x": 2.0}, 40)
    log.add(4, {"eval/y": 3.0}, 40)
    assert server.rows == [], "an evaluation of the same update may follow"
    log.add(6, {"train/x": 4.0}, 60)
    log.close(complete=True)
    assert server.rows == [
        (4, {"train/x": 2.0, "eval/y": 3.0, "env_steps": 40}),
        (6, {"train/x": 4.0, "env_steps": 60}),
    ]
    assert server.code == 0
    new = kind(LoggedRun(folder=tmp_path / "run", config=config))
    assert new.kept["project"] == "other"
    assert len(new.kept["id"]) == 8


class FakeClient:
    """MLflow's client, on a list of points and a dict of parameters."""

    def __init__(self) -> None:
        self.points: list[tuple[str, float, int, int]] = []
        self.parameters: dict[str, str] = {}
        self.states: list[str] = []

    def get_experiment_by_name(self, name: str) -> SimpleNamespace:
        return SimpleNamespace(experiment_id=name)

    def create_run(self, experiment: str, run_name: str) -> SimpleNamespace:
        return SimpleNamespace(info=SimpleNamespace(run_id=f"{experiment}/{run_name}"))

    def update_run(self, run_id: str, status: str) -> None:
        self.states.append(status)

    def set_terminated(self, run_id: str, status: str) -> None:
        self.states.append(status)

    def log_batch(self, run_id: str, metrics: Any = (), params: Any = ()) -> None:
        assert len(params) <= 100
        self.points += metrics
        self.parameters |= params

    def get_metric_history(self, run_id: str, name: str) -> list[SimpleNamespace]:
        return [SimpleNamespace(step=step) for key, _, _, step in self.points if key == name]


def test_mlflow_is_sent_the_points_that_it_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = FakeClient()
    entities = SimpleNamespace(Metric=lambda *point: point, Param=lambda *pair: pair)
    fake = SimpleNamespace(MlflowClient=lambda: client, entities=entities)
    monkeypatch.setitem(sys.modules, "mlflow", fake)
    monkeypatch.delitem(sys.modules, "rlbench.benchmarks.loggers.mlflow", raising=False)
    kind = LOGGERS.load("mlflow")
    monkeypatch.delitem(sys.modules, "rlbench.benchmarks.loggers.mlflow")
    config = {"learner": {"name": "bc", "settings": {f"x{n}": n for n in range(150)}}}
    log = kind(LoggedRun(folder=tmp_path / "run", config=config))
    assert client.parameters["learner.settings.x149"] == "149"
    log.add(2, {"train/x%": 1.0}, 20)
    log.add(2, {"eval/y": 2.0})
    log.close(complete=False)
    again = kind(LoggedRun(folder=tmp_path / "run", config=config, first=2, kept=log.kept))
    assert again.kept == log.kept == {"run": "rlbench/run"}
    again.add(2, {"train/x%": 1.0, "speed/z": 3.0, "eval/y": 2.0}, 20)
    again.add(4, {"train/x%": 4.0})
    again.close(complete=True)
    assert [(name, value, step) for name, value, _, step in client.points] == [
        ("train/x_", 1.0, 2), ("train_by_env_steps/x_", 1.0, 20), ("eval/y", 2.0, 2), ("speed/z", 3.0, 2),
        ("speed_by_env_steps/z", 3.0, 20), ("eval_by_env_steps/y", 2.0, 20), ("train/x_", 4.0, 4),
    ]  # fmt: skip
    assert client.states == ["KILLED", "RUNNING", "FINISHED"]
