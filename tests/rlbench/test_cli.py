"""The command line: what it loads, what it says, and how it refuses."""

import errno
import os
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from safetensors.torch import load_file

from rlbench import checkpoint, cli
from rlbench.agents import RULES
from rlbench.agents._rule import shipped_rules
from rlbench.backbones.ranges import LIMIT, RANGES
from rlbench.benchmarks.commands.listing import EXAMPLES
from rlbench.benchmarks.training.config import RunConfig
from rlbench.benchmarks.training.learners import load_learner
from rlbench.benchmarks.training.run_folder import RunFolder
from rlbench.benchmarks.training.runner import Run
from rlbench.cli import main
from rlbench.files import only_one
from tests.run_files import edit

TINY = [
    "--updates", "6", "--eval-every", "3", "--eval-episodes", "2", "--log-every", "2",
    "--checkpoint-every", "2", "--hidden", "8",
]  # fmt: skip
ONLINE = ["run", "sac", "--env", "Pendulum-v1", "--random-steps", "20", "--batch-size", "4", *TINY]


def refused(capsys: pytest.CaptureFixture[str], words: Sequence[str]) -> str:
    """The sentence with which a command is refused."""
    code = main(words)
    told = capsys.readouterr()
    assert code == 2, told.err
    assert told.err.startswith("rlbench: ")
    assert told.err.count("\n") == 1, "more than one line"
    assert "Traceback" not in told.err
    return told.err


@pytest.mark.parametrize("words", [["--help"], ["list"], ["run", "--help"], ["--version"]])
def test_help_and_list_load_neither_torch_nor_numpy(words: list[str]) -> None:
    code = (
        f"import sys; from rlbench.cli import main; main({words!r});"
        "heavy = {'torch', 'numpy', 'matplotlib', 'gymnasium'} & set(sys.modules);"
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_list_shows_agents_and_tasks(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    told = capsys.readouterr().out
    for word in ("bear", "bc", "sac", "halfcheetah", "medium-replay", "coinrun", "Pendulum-v1"):
        assert word in told


def test_list_shows_every_shipped_rule(capsys: pytest.CaptureFixture[str]) -> None:
    assert sorted(RULES) == shipped_rules()
    assert main(["list"]) == 0
    told = capsys.readouterr().out
    assert all(f"  {name}  {text}\n" in told for name, text in RULES.items())


def test_help_of_an_agent_names_every_setting_with_the_papers_name(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["run", "bear", "--env", "halfcheetah-medium", "--help"])
    assert stop.value.code == 0
    told = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for word in ("--kernel-width", "(paper: sigma)", "(paper: lambda)", "--updates", "gaussian"):
        assert word in told
    assert (
        "the policy minimises the constraint alone. Range: 0 or more, up to 10^15. (default: 8000)"
        in told
    )


def test_the_help_of_a_run_has_three_groups(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["run", "recurrent-ppo", "--help"])
    told = capsys.readouterr().out
    run, _, rest = told.partition("recurrent-ppo options")
    own, _, encoder = rest.partition("encoder options")
    line = re.compile(r"^[ │]*(--[a-z][\w-]*)", re.MULTILINE)
    flags = [sorted(line.findall(part)) for part in (run, own, encoder)]
    assert {"--env", "--updates", "--out"} <= set(flags[0])
    assert {"--hidden", "--learning-rate"} <= set(flags[1])
    assert flags[2] == ["--encoder", "--freeze", "--memory", "--memory-size", "--pretrained"]


def test_a_run_ends_with_its_figure_and_the_next_command(
    in_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(ONLINE) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[-2].startswith("done: return -")
    assert told[-1] == (
        "kept in runs/sac-Pendulum-v1-s0; next: rlbench evaluate runs/sac-Pendulum-v1-s0 "
        "--episodes 100"
    )
    assert main(["evaluate", "runs/sac-Pendulum-v1-s0", "--episodes", "2"]) == 0
    assert "over 2 episodes" in capsys.readouterr().out
    assert main(["run", "--resume", "runs/sac-Pendulum-v1-s0"]) == 0
    assert "already complete" in capsys.readouterr().out


def test_the_same_command_again_takes_a_new_folder(in_folder: Path) -> None:
    assert main(ONLINE) == main(ONLINE) == 0
    assert {path.name for path in (in_folder / "runs").iterdir()} == {
        "sac-Pendulum-v1-s0",
        "sac-Pendulum-v1-s0-2",
    }


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["rum"], "did you mean run?"),
        (["run"], "give an agent or a model first"),
        (["run", "baer", "--env", "halfcheetah-random"], "bear"),
        (["run", "no_module:Agent", "--env", "x"], "no_module"),
        (["run", "rlbench.errors:UserError", "--env", "Pendulum-v1"], "UserError"),
        (["run", "bear", "--env", "halfcheetah-mediun"], "did you mean halfcheetah-medium"),
        (["run", "bear", "--env", "hopper-full-replay-v1"], "rlbench data get"),
        (["run", "bear", "--env", "halfcheetah-medium", "--sigma", "3"], "--sigma"),
        (["run", "bear", "--env", "halfcheetah-medium", "--critcs", "3"], "--critics"),
        ([*ONLINE, "--updates", "many"], "--updates is many; give a whole number"),
        ([*ONLINE, "--steps", "1e4"], "--steps is 1e4; give a whole number, here 10000"),
        ([*ONLINE, "--learning-rate", "fast"], "--learning-rate is fast; give a number"),
        (["run", "bear", "--env", "halfcheetah-medium", "--kernel", "cosine"], "laplacian"),
        (["run", "bear"], "--env"),
        (["run", "bear", "--env", "Pendulum-v1"], "--data FILE"),
        (["run", "bear", "--env", "CartPole-v1", "--data", "x.hdf5"], "x.hdf5"),
        ([*ONLINE, "--device", "gpu"], "'gpu'"),
        ([*ONLINE, "--device", "cuda:99"], "cuda:99"),
        (["run", "--resume", "nowhere"], "contains no run"),
        (["evaluate", "nowhere"], "contains no run"),
        (["list", "agents"], "takes no arguments"),
        (["data", "inof"], "did you mean info?"),
        (["sweep", "--agents", "bc", "--encoder", "flatten"], "unknown setting '--encoder'"),
        (["sweep", "--bananas", "3"], "'--bananas': expected one of --agents, --tasks, --seeds,"),
        (["run", "bc", "--bananas", "3"], "'--bananas': there is no such setting; see"),
        (["run", "bear", "--envs", "point-mixed"], "did you mean --env?"),
        (
            ["run", "ppo", "--env", "CartPole-v1", "--memory", "gru"],
            "ppo has no memory; give recurrent-ppo",
        ),
        (["run", "bc", "--env", "point-mixed", "--memory", "gru"], "unknown setting '--memory'"),
        (["run", "--resume", "here", "--updates", "9"], "keeps its settings, so --updates cannot"),
        (["run", "--resume", "here", "--seed", "3"], "give the folder alone, with --trust if it"),
        (
            ["run", "ppo", "--env", "MiniGrid-Empty-5x5-v0"],
            "give it an --encoder, such as grid, if",
        ),
    ],
)
def test_a_mistake_is_one_sentence_and_leaves_nothing_behind(
    words: list[str], expected: str, in_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert expected in refused(capsys, words)
    assert list(in_folder.iterdir()) == []


def test_a_mistake_shows_where_it_arose_with_debug() -> None:
    with pytest.raises(ValueError, match="baer"):
        main(["run", "baer", "--env", "x", "--debug"])


def test_an_action_space_that_does_not_fit_is_one_sentence(
    in_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = refused(capsys, ["run", "sac", "--env", "CartPole-v1", *TINY])
    assert "bounded Box" in told
    assert list(in_folder.iterdir()) == []


class TestARunFolderThatDoesNotFit:
    @pytest.fixture(autouse=True)
    def _run(self, in_folder: Path) -> None:
        assert main([*ONLINE, "--out", "run"]) == 0

    def test_is_not_overwritten(self, capsys: pytest.CaptureFixture[str]) -> None:
        before = (Path("run") / "config.json").read_bytes()
        assert "already contains a run" in refused(capsys, [*ONLINE, "--out", "run"])
        assert (Path("run") / "config.json").read_bytes() == before

    def test_in_use_by_a_live_process(self, capsys: pytest.CaptureFixture[str]) -> None:
        with only_one(Path("run/.lock"), ""):
            assert "in use by a running process" in refused(capsys, ["run", "--resume", "run"])

    def test_with_a_flipped_byte(self, capsys: pytest.CaptureFixture[str]) -> None:
        file = next(Path("run/checkpoint").glob("*.safetensors"))
        blob = bytearray(file.read_bytes())
        blob[len(blob) // 2] ^= 1
        file.write_bytes(blob)
        for words in (["run", "--resume", "run"], ["evaluate", "run"]):
            assert "changed after it was written" in refused(capsys, words)

    def test_with_the_checkpoint_of_another_agent(self, capsys: pytest.CaptureFixture[str]) -> None:
        other = ["--hidden", "9", "9", "--out", "other"]
        assert main([*ONLINE, *other]) == 0
        for file in Path("run/checkpoint").iterdir():
            file.unlink()
        for file in Path("other/checkpoint").iterdir():
            file.rename(Path("run/checkpoint") / file.name)
        told = refused(capsys, ["evaluate", "run"])
        assert "another learner or other settings" in told

    @pytest.mark.parametrize(
        ("change", "expected"),
        [
            ({"format": 0}, "has format 0"),
            ({"learner": {"name": "sac", "settings": {"old": 1}}}, "do not fit this version"),
        ],
    )
    def test_of_another_version(
        self, capsys: pytest.CaptureFixture[str], change: dict[str, object], expected: str
    ) -> None:
        edit(Path("run"), lambda config: config.update(change))
        assert expected in refused(capsys, ["evaluate", "run"])

    def test_with_a_damaged_config(self, capsys: pytest.CaptureFixture[str]) -> None:
        Path("run/config.json").write_text("{")
        assert "damaged" in refused(capsys, ["run", "--resume", "run"])


def test_a_run_folder_that_is_removed_is_not_made_again(
    in_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    save = RunFolder.save_checkpoint

    def move(folder: RunFolder, update: int, state: dict[str, Any], keep: int) -> None:
        save(folder, update, state, keep)
        folder.path.rename(in_folder / "moved")

    monkeypatch.setattr(RunFolder, "save_checkpoint", move)
    told = refused(capsys, [*ONLINE, "--out", "run"])
    assert "run was removed or renamed while the run was writing to it" in told
    assert not (in_folder / "run" / "checkpoint").exists()
    monkeypatch.undo()
    monkeypatch.chdir(in_folder)
    assert main(["run", "--resume", "moved"]) == 0


def test_errors_of_the_system_are_one_sentence(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(_: Any) -> None:
        raise OSError(errno.ESTALE, "Stale file handle", "runs/x")

    monkeypatch.setattr(cli, "_list", lost)
    told = refused(capsys, ["list"])
    assert "the system reported Stale file handle at runs/x; what was saved before is kept" in told


def test_too_little_memory_is_one_sentence(
    capsys: pytest.CaptureFixture[str], in_folder: Path
) -> None:
    words = [
        "recurrent-ppo",
        "--env",
        "recall-1-2",
        "--memory",
        "mann:slots=1000000,width=50000,heads=1",
        "--out",
    ]
    told = refused(capsys, ["run", *words, str(in_folder / "run")])
    assert "there is not enough memory" in told
    assert "give smaller sizes" in told


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full, where all is full")
def test_a_full_disk_is_one_sentence_and_keeps_the_last_checkpoint(
    in_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    save = RunFolder.save_checkpoint

    def fill_the_disk(folder: RunFolder, update: int, state: dict[str, Any], keep: int) -> None:
        save(folder, update, state, keep)
        (folder.path / "metrics.jsonl").unlink()
        (folder.path / "metrics.jsonl").symlink_to("/dev/full")

    monkeypatch.setattr(RunFolder, "save_checkpoint", fill_the_disk)
    told = refused(capsys, [*ONLINE, "--out", "run"])
    assert "metrics.jsonl: the disk is full" in told
    monkeypatch.undo()
    # With space again, the same run ends where an undisturbed one does.
    (in_folder / "run/metrics.jsonl").unlink()
    monkeypatch.chdir(in_folder)
    assert main(["run", "--resume", "run"]) == main([*ONLINE, "--out", "whole"]) == 0
    weights = [checkpoint.all_in(Path(run, "checkpoint"))[-1] for run in ("run", "whole")]
    one, other = (Path(f"{path}.safetensors").read_bytes() for path in weights)
    assert one == other


def test_a_replay_buffer_larger_than_the_disk_is_refused_before_the_run_begins(
    in_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=0))
    told = refused(capsys, [*ONLINE, "--out", "run"])
    assert re.search(r"needs .* GB, but the disk of run has 0\.0 GB free; .* a smaller", told)
    monkeypatch.undo()
    monkeypatch.chdir(in_folder)
    assert main([*ONLINE, "--out", "run"]) == 0


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_one_sentence(
    in_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    in_folder.chmod(0o500)
    told = refused(capsys, ONLINE)
    assert "you may not write there" in told


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES])
def test_a_folder_that_the_system_protects_is_one_sentence(
    in_folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    code: int,
) -> None:
    def protect(*_: Any, **__: Any) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(Path, "mkdir", protect)
    assert "choose another folder" in refused(capsys, ONLINE)
    assert list(in_folder.iterdir()) == []


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_checkpoint(
    in_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(RANGES, "learning_rate", LIMIT)
    told = refused(capsys, [*ONLINE, "--learning-rate", "1e30", "--out", "run"])
    assert "by update" in told
    for saved in checkpoint.all_in(Path("run/checkpoint")):
        tensors = load_file(f"{saved}.safetensors")
        assert all(x.isfinite().all() for x in tensors.values() if x.is_floating_point())


@pytest.mark.parametrize(
    ("name", "task"),
    [("ibac-sni", "multiroom-n1"), ("rfm", "stag-hunt"), ("one-shot", "glyph-episodes")],
)
def test_the_example_of_a_learner_suits_it(
    name: str, task: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["run", name, "--help"])
    assert f"Example: rlbench run {name} --env {task}" in capsys.readouterr().out


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_list_shows_the_task_that_a_learner_needs(
    name: str, in_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["list"]) == 0
    told = capsys.readouterr().out
    assert re.search(rf"^  {name} .*; try --env {EXAMPLES[name]}$", told, re.MULTILINE)


@pytest.mark.parametrize("name", ["language-model", "nearest", "one-shot", "rfm-predictor", "vib"])
def test_a_model_takes_the_examples_of_its_task(name: str) -> None:
    config = RunConfig(env=EXAMPLES[name], data_size=64)
    kind = load_learner(name)
    assert Run(name, kind.Config(**kind.preset(config.env, 10)), config).learner.measured


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_stream_that_lacks_a_character_ends_no_run(encoding: str, in_folder: Path) -> None:
    words = [sys.executable, "-m", "rlbench", *ONLINE, "--out", "run"]
    done = subprocess.run(
        words, capture_output=True, check=False, env={**os.environ, "PYTHONIOENCODING": encoding},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    sign = "±".encode(encoding, "backslashreplace")
    assert re.search(rb"done: return -[\d,.]+ " + re.escape(sign) + rb" \d", done.stdout)
    assert RunFolder(Path("run")).complete()


@pytest.mark.parametrize("debug", [[], ["--debug"]])
def test_warnings_show_no_place_in_the_code(
    debug: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "_dispatch", lambda words: warnings.warn("look at this", stacklevel=1))
    usual = warnings.formatwarning

    def show(*given: Any) -> None:
        sys.stderr.write(warnings.formatwarning(*given[:4]))

    with warnings.catch_warnings():
        warnings.resetwarnings()
        monkeypatch.setattr(warnings, "showwarning", show)
        assert main(["list", *debug]) == 0
    said = capfd.readouterr().err
    assert (said == "rlbench: warning: look at this\n") == (not debug)
    assert warnings.formatwarning is usual
