"""`rlbench sweep`: the grid of flags or a file is run, scored, and refused where it is wrong."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from rlbench.architecture import Architecture, Block
from rlbench.benchmarks.tables import executors, sweep
from rlbench.benchmarks.tables.executors import Execution
from rlbench.benchmarks.tables.jobs import Job
from rlbench.benchmarks.tables.summary import called, collect
from rlbench.benchmarks.tables.sweep import SweepConfig
from rlbench.benchmarks.training.run_folder import RunFolder
from rlbench.cli import main
from rlbench.errors import UserError

TOML = """
seeds = 2
tasks = ["point-random"]

[run]
updates = 10
data_size = 300
eval_episodes = 2

[[method]]
name = "narrow, short"
agent = "bc"
settings = { hidden = [4], batch_size = 4 }

[[method]]
agent = "td3"
settings = { hidden = [4], batch_size = 4 }
"""


def make(folder: Path, text: str | None = None, **options: Any) -> None:
    file = None
    if text is not None:
        file = folder / "sweep.toml"
        file.write_text(text)
    sweep.make(
        SweepConfig(file, out=folder / "out", format="json", execution=Execution(1), **options)
    )


def test_a_file_is_run_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, TOML)
    told = capsys.readouterr()
    (section,) = json.loads(told.out)
    assert section["header"] == ["task (data)", "narrow, short", "td3"]
    assert section["title"] == "Score after 10 updates, mean ± std of 2 seeds"
    assert section["rows"][0][0] == "point-random (generated)"
    folders = {path.name for path in (tmp_path / "out").iterdir() if path.is_dir()}
    assert folders == {f"{m}-point-random-s{s}" for m in ("narrow--short", "td3") for s in range(2)}
    config = json.loads((tmp_path / "out/narrow--short-point-random-s1/config.json").read_text())
    assert config["learner"]["settings"]["hidden"] == [4]
    assert (config["run"]["seed"], config["run"]["updates"]) == (1, 10)
    runs = [tmp_path / f"out/{m}-point-random-s0" for m in ("narrow--short", "td3")]
    assert called(collect(runs)) == ["narrow, short", "td3"]
    monkeypatch.setattr(executors, "run_all", lambda *_: pytest.fail("trains again"))
    make(tmp_path, TOML)
    assert capsys.readouterr().out == told.out


def test_flags_give_agents_tasks_and_seeds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["sweep", "--agents", "bc", "--tasks", "point-random", "point-expert", "--seeds", "1"]
    words += ["--updates", "10", "--data-size", "300", "--jobs", "1", "--format", "md"]
    assert main([*words, "--out", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert "| point-random (generated) |" in told
    assert "| point-expert (generated) |" in told


def test_agents_keep_their_own_lengths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {}

    def remember(jobs: Sequence[Job], *_: Any) -> None:
        seen.update({job.learner: (job.config.updates, job.config.log_every) for job in jobs})

    monkeypatch.setattr(executors, "run_all", remember)
    words = ["sweep", "--agents", "ppo", "sac", "--tasks", "Pendulum-v1", "--out", str(tmp_path)]
    assert main(words) == 0
    assert seen == {"ppo": (500, 1), "sac": (100_000, 1_000)}
    seen.clear()
    assert main([*words, "--updates", "7"]) == 0
    assert seen == {"ppo": (7, 1), "sac": (7, 1_000)}


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("seeds = 2", "", "lacks or misspells 'seeds'"),
        ("seeds = 2", "seeds = 0", "seeds is 0; give 1 or more"),
        ("seeds = 2", "seeds = ", "is not valid TOML"),
        ('agent = "td3"', 'agent = "td4"', "there is no agent 'td4'; did you mean td3"),
        ('agent = "td3"', 'agent = "bc"\nname = "narrow, short"', "two methods are called"),
        (
            "hidden = [4]",
            "hiden = [4]",
            "narrow, short: there is no setting 'hiden'; did you mean hidden",
        ),
        (
            "updates = 10",
            "update = 10",
            r"\[run\]: there is no setting 'update'; did you mean updates",
        ),
        ('["point-random"]', '["point-random", "point-random"]', "'point-random' is given twice"),
        ('agent = "td3"', 'agent = "td3"\nname = "narrow- short"', "would share the folder"),
        (
            "hidden = [4]",
            'hidden = "4"',
            r"narrow, short on point-random: hidden is '4'; give a list",
        ),
        (
            "hidden = [4]",
            "hidden = [0]",
            r"narrow, short on point-random: hidden is \(0,\); give 1 or more",
        ),
        (
            "settings =",
            "setings =",
            r"^\S+sweep\.toml: a \[\[method\]\] has setings; give name, agent, settings and nothing else",
        ),
        ("seeds = 2", "seeds = 2\nseed = 1", "the file has seed; give seeds, tasks, method, run"),
        (
            "updates = 10",
            "zzz = 10",
            r"\[run\]: there is no setting 'zzz'; there are callbacks,",
        ),
        ("seeds = 2", "seeds = 2.5", "seeds is 2.5; give a whole number"),
        ("seeds = 2", 'seeds = "2"', "seeds is '2'; give a whole number"),
        ('["point-random"]', '"point-random"', "tasks is 'point-random'; give a list, as in"),
        ("updates = 10", "updates = 10.5", "updates is 10.5; give a whole number"),
        (
            "updates = 10\ndata_size = 300\neval_episodes = 2",
            'updates = 10.5\n\n[[method]]\nagent = "bear"',
            "^updates is 10.5; give a whole number",
        ),
        ("updates = 10", 'updates = 10\ncompile = "maybe"', "compile is 'maybe'; give one of"),
        ("point-random", "point-rando", "no task named 'point-rando'; did you mean point-random"),
    ],
)
def test_a_mistake_is_one_sentence_before_anything_runs(
    tmp_path: Path, old: str, new: str, words: str
) -> None:
    assert old in TOML
    with pytest.raises(UserError, match=words) as error:
        make(tmp_path, TOML.replace(old, new, 1))
    assert "\n" not in str(error.value).strip()
    assert not (tmp_path / "out").exists()


def test_a_single_table_of_a_method_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"method is {'agent': 'bc'}; give tables with two brackets"
    ):
        make(tmp_path, TOML.partition("[[method]]")[0] + '[method]\nagent = "bc"\n')


def test_nothing_to_run_and_a_missing_file_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="give the runs: rlbench sweep --agents bc bear"):
        make(tmp_path)
    with pytest.raises(UserError, match=r"there is no file .*nowhere\.toml"):
        sweep.make(SweepConfig(tmp_path / "nowhere.toml"))


def test_an_architecture_is_read_from_its_file_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = Architecture("", 4, 1, (Block.parse("conv_r1_k3_s2_o8_none"),))
    (tmp_path / "found.json").write_text(json.dumps(network.to_json()))
    seen: list[Job] = []
    monkeypatch.setattr(executors, "run_all", lambda jobs, *_: seen.extend(jobs))
    setting = f'encoder = "mnas:{tmp_path}/found.json", batch_size = 4'
    make(tmp_path, TOML.replace("batch_size = 4", setting, 1))
    encoders = {job.settings.get("encoder") for job in seen}
    assert encoders == {f"mnas:{network.options()}", None}


FAILING = """
from rlbench.agents.bc import BC

class Fails(BC):
    def learn(self, experience):
        raise KeyError("gain")

class Leaves(BC):
    def build(self):
        raise SystemExit(3)

class Unset(BC):
    @classmethod
    def preset(cls, task, updates):
        raise ZeroDivisionError("no updates")
"""


def test_a_failing_agent_ends_only_its_run_which_is_named(
    in_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.path", [*sys.path])
    Path("failing.py").write_text(FAILING)
    words = [
        "--tasks",
        "point-random",
        "--data-size",
        "300",
        "--updates",
        "2",
        "--seeds",
        "1",
        "--jobs",
        "1",
    ]
    assert main(["sweep", "--agents", "failing:Fails", "failing:Leaves", "bc", *words]) == 1
    told = capsys.readouterr()
    assert (
        "runs/sweep/failing.Fails-point-random-s0: failing:Fails raised KeyError in learn: 'gain'"
        in told.err.replace("failing-Fails", "failing.Fails")
    )
    assert "failing:Leaves raised SystemExit in build: 3" in told.err
    assert "2 runs failed" in told.err
    assert "point-random (generated)" in told.out
    assert RunFolder(Path("runs/sweep/bc-point-random-s0")).complete()
    assert main(["sweep", "--agents", "bc", "failing:Unset", *words, "--out", "other"]) == 2
    assert (
        "failing:Unset on point-random: failing:Unset raised ZeroDivisionError in preset"
        in capsys.readouterr().err
    )
    assert not Path("other").exists()


def test_own_data_are_an_option(in_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "make", "point-random", "--size", "300", "--out", "a file.hdf5"]) == 0
    words = ["--tasks", "point-expert", "--updates", "2", "--seeds", "1", "--jobs", "1"]
    assert (
        main(["sweep", "--agents", "bc", "--data", "a file.hdf5", *words, "--out", "my runs"]) == 0
    )
    told = capsys.readouterr()
    assert "point-expert (generated)" in told.out
    assert "next: rlbench report 'my runs'" in told.err
    config = json.loads(Path("my runs/bc-point-expert-s0/config.json").read_text())
    assert config["run"]["data"] == "a file.hdf5"
    assert config["data"]["name"] == "a file.hdf5"


@pytest.mark.slow
def test_an_agent_that_ends_its_process_ends_only_its_run(
    in_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.path", [*sys.path])
    Path("dying.py").write_text(
        "import os\nfrom rlbench.agents.bc import BC\n\nclass Dies(BC):\n    def learn(self, experience):\n        os._exit(9)\n"
    )
    words = [
        "--tasks",
        "point-random",
        "--data-size",
        "300",
        "--updates",
        "2",
        "--seeds",
        "1",
        "--jobs",
        "2",
    ]
    assert main(["sweep", "--agents", "dying:Dies", "bc", "td3", *words]) == 1
    told = capsys.readouterr().err
    assert "dying-Dies-point-random-s0: its process died" in told.replace(
        "dying.Dies", "dying-Dies"
    )
    assert "1 run failed" in told
    assert all(RunFolder(Path(f"runs/sweep/{x}-point-random-s0")).complete() for x in ("bc", "td3"))
