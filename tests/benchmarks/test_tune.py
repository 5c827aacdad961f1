"""`rlbench tune`: stages of runs that are exactly resumed, the best settings as a file, errors, reports, and kills."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from rlbench.benchmarks.tables import executors
from rlbench.benchmarks.tables.executors import Execution
from rlbench.benchmarks.tables.jobs import Job, Outcome, execute
from rlbench.benchmarks.training.config import RunConfig
from rlbench.benchmarks.training.run_folder import RunFolder
from rlbench.benchmarks.tuning import shown
from rlbench.benchmarks.tuning.description import Description
from rlbench.benchmarks.tuning.training import stage_ends
from rlbench.callbacks import Callback, Progress
from rlbench.cli import main
from rlbench.interface import Learner
from tests.kill_and_resume import assert_equal

BC = [
    "tune", "bc", "--env", "point-random", "--data-size", "300", "--eval-episodes", "2", "--hidden", "4",
]  # fmt: skip
SHORT = [*BC, "--updates", "4", "--eval-every", "1", "--jobs", "1"]
SMALL = [*SHORT, "--search", "learning-rate", "batch-size=4,8", "--trials", "2", "--seeds", "1"]


def online(folder: Path) -> Job:
    """A short run of TD3, which has a replay buffer."""
    config = RunConfig(
        env="point-random", data="none", out=folder, updates=40, eval_every=10, eval_episodes=1,
        checkpoint_every=15, log_every=5,
    )  # fmt: skip
    return Job("td3", {"hidden": (4,), "batch_size": 4, "random_steps": 10}, config)


def test_a_run_in_stages_equals_a_run_in_one(tmp_path: Path) -> None:
    whole, staged = online(tmp_path / "whole"), online(tmp_path / "staged")
    assert execute(whole) == Outcome(whole)
    for until in (20, 30):
        part = replace(staged, until=until)
        assert not part.complete()
        assert execute(part) == Outcome(part)
        assert part.complete()
        assert RunFolder(staged.folder).checkpoints() == [until]
        assert not staged.complete()
        assert execute(part) == Outcome(part)  # Trains no further.
        assert RunFolder(staged.folder).checkpoints() == [until]
    assert execute(staged) == Outcome(staged)
    assert staged.complete()
    assert_equal(whole.folder, staged.folder)


def test_runs_that_a_callback_ends_are_judged_by_their_last_evaluation(
    in_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (in_folder / "ending.py").write_text(
        "from rlbench.callbacks import Callback\n\nclass Ending(Callback):\n"
        "    def on_evaluation(self, progress, learner):\n        if progress.update == 2:\n            progress.stop('enough')\n",
        encoding="utf-8",
    )  # fmt: skip
    assert main([*SMALL, "--callbacks", "ending:Ending"]) == 0
    assert "Best: trial" in capsys.readouterr().out
    folders = sorted((in_folder / "runs/tune-bc-point-random").glob("trial-*"))
    assert len(folders) == 2
    assert all(RunFolder(x).stopped() == (2, "enough") for x in folders)


def test_a_study_and_a_run_do_not_share_a_folder(
    in_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*BC[1:], "--updates", "2", "--eval-every", "1", "--out", "mine"]
    assert main(["run", *words]) == 0
    assert main([*SMALL, "--out", "mine"]) == 2
    assert "mine holds a run; give another --out for the study" in capsys.readouterr().err


def test_stages_end_with_evaluations() -> None:
    assert stage_ends(1000, 250) == [250, 500, 750, 1000]
    assert stage_ends(999, 300) == [300, 600, 900, 999]
    assert stage_ends(1000, 100) == [300, 500, 800, 1000]
    assert stage_ends(1000, 600) == [600, 1000]
    assert stage_ends(1000, 0) == stage_ends(1000, 1000) == [1000]


def test_a_study_from_the_command_to_its_best_run(
    in_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    twice = [*SMALL, "--seeds", "2"]
    assert main(twice) == 0
    shown = capsys.readouterr()
    assert "trial 0 complete: return " in shown.err
    assert "Trials of bc on point-random" in shown.out
    study = in_folder / "runs/tune-bc-point-random"
    best = json.loads((study / "best.json").read_text())
    assert best["learner"] == "bc"
    assert best["settings"].keys() == {"hidden", "learning_rate", "batch_size"}
    assert best["settings"]["hidden"] == [4]
    # The value is the mean over the seeds of the last evaluations.
    runs = [RunFolder(study / f"trial-{best['trial']}-point-random-s{seed}") for seed in (0, 1)]
    last = [run.last_evaluation()["return"].mean() for run in runs]
    assert last[0] != last[1]
    assert best["return"] == pytest.approx(sum(last) / 2)
    for run, (name, value) in product(runs, best["settings"].items()):
        assert run.config()["learner"]["settings"][name] == value

    command = next(x for x in shown.err.splitlines() if x.startswith("run the best: "))
    words = command.partition("rlbench ")[2].split()
    assert words[-2:] == ["--seed", "2"]
    assert main([*words, "--learning-rate", "0.5", "--out", "again"]) == 0
    config = RunFolder(in_folder / "again").config()
    settings = config["learner"]["settings"]
    assert settings["learning_rate"] == 0.5  # The command line beats the file.
    assert settings["batch_size"] == best["settings"]["batch_size"]
    assert (config["run"]["updates"], config["run"]["data_size"]) == (4, 300)

    capsys.readouterr()
    monkeypatch.setattr(executors, "execute", lambda job: pytest.fail("trains again"))
    assert main(twice) == 0
    assert capsys.readouterr().out == shown.out


def test_a_sweep_takes_the_best_settings(in_folder: Path) -> None:
    file = in_folder / "best.json"
    file.write_text('{"learner": "bc", "settings": {"hidden": [4], "batch_size": 7}, "trial": 3}')
    short = ["--updates", "2", "--data-size", "300", "--seeds", "1", "--jobs", "1"]
    flags = ["--agents", "bc", "--tasks", "point-random", "--settings", "best.json"]
    assert main(["sweep", *flags, *short, "--out", "flags"]) == 0
    (in_folder / "sweep.toml").write_text(
        'seeds = 1\ntasks = ["point-random"]\n[run]\nupdates = 2\ndata_size = 300\n'
        '[[method]]\nagent = "bc"\nsettings = "best.json"\n'
    )
    assert main(["sweep", "sweep.toml", "--jobs", "1", "--out", "file"]) == 0
    for folder in ("flags", "file"):
        config = RunFolder(in_folder / folder / "bc-point-random-s0").config()
        assert config["learner"]["settings"]["batch_size"] == 7


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "there is no file best.json; give a file of settings"),
        ("[1", "best.json is not a file of settings; give a JSON file such as"),
        ('{"learning_rate": 1}', "best.json is not a file of settings"),
        ("[" * 100_000, "best.json is not a file of settings"),
        ('{"learner": "sac", "settings": {}}', "has settings of sac, not of bc"),
        ('{"learner": "bc", "settings": {"batch_sise": 1}}', "bc has no setting 'batch_sise'; did you mean batch_size?"),
        ('{"learner": "bc", "settings": {"batch_size": 0}}', "the settings in best.json: batch_size is 0; give 1 or more"),
        ('{"learner": "bc", "settings": {"batch_size": "x"}}', "batch_size is 'x'; give a whole number"),
    ],
)  # fmt: skip
def test_a_wrong_file_of_settings_is_refused(
    in_folder: Path, capsys: pytest.CaptureFixture[str], content: str | None, words: str
) -> None:
    if content is not None:
        (in_folder / "best.json").write_text(content)
    assert main(["run", "bc", "--env", "point-random", "--settings", "best.json"]) == 2
    assert words in capsys.readouterr().err
    assert main(["sweep", "--agents", "bc", "--tasks", "point-random", "--settings", "best.json"]) == 2  # fmt: skip
    assert "best.json" in capsys.readouterr().err or "batch_size" in words


class Ending(Callback):
    """Ends the runs of one seed between two stages."""

    def on_evaluation(self, progress: Progress, learner: Learner) -> None:
        if progress.seed == 0 and progress.update == 1:
            progress.stop("enough")


def test_a_run_that_ended_early_counts_as_much_as_one_of_full_length(
    in_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*SMALL, "--seeds", "2", "--trials", "1", "--eval-every", "1", "--updates", "8"]
    assert main([*words, "--callbacks", f"{__name__}:Ending", "--loggers", "csv", "tensorboard"]) == 0  # fmt: skip
    study = in_folder / "runs" / "tune-bc-point-random"
    runs = [RunFolder(study / f"trial-0-point-random-s{seed}") for seed in (0, 1)]
    assert [list(run.evaluations()["update"]) for run in runs] == [[1], list(range(1, 9))]
    value = json.loads((study / "best.json").read_text())["return"]
    assert value == pytest.approx(sum(x.evaluations()["return"][-1].mean() for x in runs) / 2)
    command = capsys.readouterr().err.splitlines()[-1]
    assert f" --loggers csv tensorboard --callbacks {__name__}:Ending --seed 2" in command


@pytest.mark.parametrize("line", [b"half a line\n", b"\x00\x00\x00\n", b"[]\n", b"{}\n"])
def test_a_damaged_journal_is_one_sentence(
    in_folder: Path, capsys: pytest.CaptureFixture[str], line: bytes
) -> None:
    assert main([*SMALL, "--trials", "1", "--out", "study"]) == 0
    journal = in_folder / "study" / "journal.log"
    damaged = line + journal.read_bytes()
    journal.write_bytes(damaged)
    capsys.readouterr()
    assert main([*SMALL, "--trials", "2", "--out", "study"]) == 2
    words = "study/journal.log is damaged; restore it from a copy, or give another --out"
    assert words in capsys.readouterr().err
    assert journal.read_bytes() == damaged
    assert main(["report", "study"]) == 0
    assert words in " ".join(capsys.readouterr().out.split())


def test_the_folder_of_another_study_is_refused(
    in_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*SMALL, "--trials", "1", "--out", "study"]) == 0
    for old, new, words in (
        ("bc", "td3", 'learner is "bc", not "td3"'),
        ("point-random", "point-mixed", 'task is "point-random", not "point-mixed"'),
        ("batch-size=4,8", "batch-size=4,9", "searched is "),
        ("300", "301", 'run is {"data_size": 300,'),
    ):
        changed = [new if word == old else word for word in SMALL]
        assert main([*changed, "--out", "study"]) == 2
        message = capsys.readouterr().err.splitlines()[-1]
        assert message.startswith("rlbench: study holds another study: ")
        assert words in message
        assert message.endswith("give the options of that study, or another --out")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["tune"], "give an agent or a model first: rlbench tune td3"),
        (["tune", "tdd3", "--env", "x"], "there is no agent 'tdd3'"),
        ([*SHORT, "--search", "lr"], "bc has no setting 'lr'"),
        ([*SHORT, "--search", "batch-size=8..8"], "this is no range"),
        ([*SHORT, "--search", "learning-rate=0..2"], "learning_rate is 2.0; give a number from 0 to 1"),
        ([*SHORT, "--trials", "0"], "trials is 0; give 1 or more"),
        ([*SHORT, "--steps", "100"], "--updates is 4 and --steps is 100; give only one of them"),
        ([*SHORT, "--seeed", "1"], "did you mean --seed"),
        (["tune", "bc", "--env", "point-randon"], "did you mean point-random"),
    ],
)  # fmt: skip
def test_senseless_commands_are_refused_and_write_nothing(
    in_folder: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert main(words) == 2
    assert message in capsys.readouterr().err
    assert not [*in_folder.iterdir()]


def test_a_failing_run_fails_its_trial_and_the_study_goes_on(
    in_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(job: Job) -> Outcome:
        if job.folder.name == "trial-1-point-random-s0":
            return Outcome(job, "actor_loss became nan by update 2")
        return execute(job)

    monkeypatch.setattr(executors, "execute", failing)
    assert main([*SMALL, "--trials", "3"]) == 0
    shown = capsys.readouterr()
    reason = "Trial 1 failed: runs/tune-bc-point-random/trial-1-point-random-s0: actor_loss became nan by update 2"
    assert reason in shown.out
    states = [line.split()[:2] for line in shown.out.splitlines()[2:5]]
    assert states == [["0", "complete"], ["1", "failed"], ["2", "complete"]]


def test_a_study_stops_if_trial_after_trial_fails(
    in_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executors, "execute", lambda job: Outcome(job, "the disk is full"))
    assert main([*SMALL, "--trials", "50"]) == 1
    message = capsys.readouterr().err.splitlines()[-1]
    assert "the last 5 trials failed, trial 4 because of runs/" in message
    assert "the disk is full; correct the cause" in message


def test_a_missing_optuna_is_one_sentence(
    in_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert main(SMALL) == 2
    assert "pip install 'rlbench[tune]'" in capsys.readouterr().err
    assert not [*in_folder.iterdir()]


def test_a_report_shows_a_study(
    in_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shown, "FEWEST", 3)
    monkeypatch.setattr(shown, "TOP", 1)
    search = ["--search", "batch-size=2,4,6,8", "hidden=2,3,4", "--trials", "3", "--no-prune"]
    assert main([*SHORT, *search, "--seeds", "1", "--out", "study"]) == 0
    best = json.loads((in_folder / "study/best.json").read_text())["trial"]
    before = {file: file.read_bytes() for file in (in_folder / "study").glob("*.*")}
    assert main(["report", "study", "--no-films"]) == 0
    page = (in_folder / "report.html").read_text()
    assert "<title>Trials of bc on point-random</title>" in page
    for word in ("best so far", "importance of the settings", "batch_size: 0.", "hidden: 0."):
        assert word in page
    others = {*range(3)} - {0, best}
    assert f"<td>trial {best}</td>" in page
    assert not any(f"<td>trial {number}</td>" in page for number in others)
    assert before == {file: file.read_bytes() for file in (in_folder / "study").glob("*.*")}
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert main(["report", "study", "--no-films"]) == 0
    assert "note: the study in study is left out: studies need the package optuna" in capsys.readouterr().out  # fmt: skip
    assert "best so far" not in (in_folder / "report.html").read_text()


@pytest.mark.slow
def test_steps_give_trials_the_same_length(in_folder: Path) -> None:
    words = [
        "tune", "ppo", "--env", "CartPole-v1", "--steps", "64", "--search", "rollout-steps=16,32",
        "--envs", "1", "--hidden", "4", "--epochs", "1", "--batch-size", "16", "--eval-every", "1",
        "--eval-episodes", "1", "--trials", "2", "--seeds", "1", "--jobs", "1", "--out", "study",
    ]  # fmt: skip
    # The default of 2,048 is not searched, so both trials are proposals.
    assert main(words) == 0
    lengths = {
        config["learner"]["settings"]["rollout_steps"]: config["run"]["updates"]
        for config in (RunFolder(x).config() for x in (in_folder / "study").glob("trial-*"))
    }
    assert lengths == {16: 4, 32: 2}
    kept = Description.kept(in_folder / "study")
    # One rollout of the default 2,048 steps has a single evaluation.
    assert (kept.run["steps"], kept.stages) == (64, 1)


def test_as_many_trials_as_fit_the_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Execution(jobs=8).at_once == 8
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert Execution().at_once == 6


@pytest.mark.slow
def test_a_study_killed_again_and_again_loses_no_trial(tmp_path: Path) -> None:
    words = [
        *BC, "--updates", "800", "--eval-every", "200", "--checkpoint-every", "70", "--log-every", "50",
        "--batch-size", "32", "--trials", "6", "--seeds", "2", "--jobs", "2",
    ]  # fmt: skip
    root = str(Path(__file__).parents[2])
    environment: dict[str, Any] = os.environ | {"PYTHONPATH": root}

    def command(folder: str) -> list[str]:
        return [sys.executable, "-m", "rlbench", *words, "--out", str(tmp_path / folder)]

    def begun() -> int:
        return sum(x.stat().st_size for x in (tmp_path / "killed").glob("trial-*/metrics.jsonl"))

    for _ in range(4):
        before = begun()
        with subprocess.Popen(command("killed"), stderr=subprocess.DEVNULL, env=environment) as run:
            while begun() <= before and run.poll() is None:
                time.sleep(0.05)
            time.sleep(1)
            run.send_signal(signal.SIGKILL)
    tables = []
    for folder in ("killed", "whole"):
        done = subprocess.run(
            command(folder), capture_output=True, text=True, env=environment, check=False
        )
        assert done.returncode == 0, done.stderr
        tables.append(done.stdout)
    assert tables[0] == tables[1]
    runs = [sorted(x.name for x in (tmp_path / f).glob("trial-*")) for f in ("killed", "whole")]
    assert runs[0] == runs[1]
    for name in runs[0]:
        assert_equal(tmp_path / "killed" / name, tmp_path / "whole" / name)
