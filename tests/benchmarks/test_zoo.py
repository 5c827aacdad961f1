"""Trained agents and models that come with the package."""

import os
import shlex
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import rlbench
from docs.make_zoo import ENTRIES
from rlbench import cli
from rlbench.agents import AGENTS, RULES
from rlbench.benchmarks import zoo
from rlbench.benchmarks.tables.methods import UNDECISIVE
from rlbench.benchmarks.tables.tidy import rows
from rlbench.benchmarks.training.finding import run_folders
from rlbench.benchmarks.training.loading import load_run
from rlbench.benchmarks.training.run_folder import RunFolder
from rlbench.benchmarks.zoo import cards
from rlbench.benchmarks.zoo.finished import evaluate
from rlbench.cli import main
from rlbench.errors import UserError
from rlbench.interface import Agent

LARGEST = 15e6
"""Largest size of all files together, in bytes."""


def output(words: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(shlex.split(words)) == 0
    return capsys.readouterr().out


def test_everything_that_the_script_makes_is_there_and_small() -> None:
    assert set(zoo.names()) == set(ENTRIES)
    found = [cards.card(name) for name in zoo.names()]
    assert sum(x.bytes for x in found) < LARGEST
    assert {x.name: x.about for x in found} == {name: x[1] for name, x in ENTRIES.items()}


@pytest.mark.parametrize("name", sorted(ENTRIES))
def test_the_command_of_a_card_starts_the_same_run(name: str) -> None:
    config = cards.card(name).config
    words = shlex.split(cards.command_of(config))
    assert words[:2] == ["rlbench", "run"]
    run, settings, *_ = cli._new_run("run", words[2], words[3:])
    assert cards._plain(list(vars(settings).values())) == cards._plain(
        [tuple(x) if isinstance(x, list) else x for x in config["learner"]["settings"].values()]
    )
    options = {key: x for key, x in vars(run).items() if key not in UNDECISIVE}
    assert options == {key: x for key, x in config["run"].items() if key not in UNDECISIVE} | {
        key: options[key] for key in ("callbacks",) if key in options
    }


def test_a_command_has_only_what_differs_from_the_defaults() -> None:
    config = cards.card("iql-hopper-medium").config
    assert cards.command_of(config) == (
        "rlbench run iql --env hopper-medium --hidden 128 128 --batch-size 128"
    )
    config["learner"]["settings"] |= {"scale_rewards": False, "normalise_obs": False}
    assert cards.command_of(config).endswith("--no-scale-rewards --no-normalise-obs")
    config["learner"]["settings"] |= {"scale_rewards": True}
    assert "scale-rewards" not in cards.command_of(config)


@pytest.mark.parametrize("name", sorted(ENTRIES))
def test_weights_load_and_are_finite_and_actions_are_valid(name: str) -> None:
    learner, task = load_run(Path(f"zoo:{name}"))
    if isinstance(learner, Agent):
        env = task.make()
        agent = rlbench.load(f"zoo:{name}")
        for seed in range(3):
            action = agent(env.reset(seed=seed)[0])
            assert env.action_space.contains(action)
        env.close()
    for part in vars(learner).values():
        if isinstance(part, torch.nn.Module):
            assert all(bool(x.isfinite().all()) for x in part.parameters())


def test_all_names_are_listed_and_cards_show_results(capsys: pytest.CaptureFixture[str]) -> None:
    listed = output("zoo list", capsys)
    assert all(name in listed for name in (*ENTRIES, *RULES))
    assert "score" in listed
    shown = output("zoo card bear-hopper-medium", capsys)
    config = RunFolder(Path("zoo:bear-hopper-medium")).config()
    assert config["data"]["sha256"] in shown
    assert "over 100 episodes" in shown
    assert "rlbench run bear --env hopper-medium --hidden 128 128" in shown
    assert "a2c" in output("zoo card lpg-small", capsys)


def test_a_copy_is_a_finished_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "runs/ppo-cartpole" in output("zoo get ppo-cartpole", capsys).replace("\\", "/")
    assert "return 500.0" in output("evaluate runs/ppo-cartpole --episodes 2", capsys)
    assert "already complete" in output("run --resume runs/ppo-cartpole", capsys)
    frame = rlbench.results("runs")
    assert len(frame) == 1
    assert main(["zoo", "get", "ppo-cartpole"]) == 2
    assert "exists already" in capsys.readouterr().err


def test_a_killed_copy_is_no_run_and_the_next_one_is_complete(tmp_path: Path) -> None:
    kill = (
        "import os, sys\n"
        "from rlbench import files\n"
        "from rlbench.cli import main\n"
        "write, count = files.write_atomically, 0\n"
        "def killed(*arguments):\n"
        "    global count\n"
        "    count += 1\n"
        "    write(*arguments) if count < 4 else os._exit(9)\n"
        "files.write_atomically = killed\n"
        "main(['zoo', 'get', 'ppo-cartpole', '--out', 'run'])\n"
    )
    done = subprocess.run([sys.executable, "-c", kill], cwd=tmp_path, check=False)
    assert done.returncode == 9
    assert len(list(tmp_path.rglob("config.json"))) == 1
    assert run_folders([tmp_path]) == []
    assert main(["zoo", "get", "ppo-cartpole", "--out", str(tmp_path / "run")]) == 0
    assert len(rlbench.results(tmp_path)) == 1


def test_a_copy_of_a_read_only_package_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "package"
    shutil.copytree(zoo.TRAINED / "ppo-cartpole", package / "ppo-cartpole")
    places = [package, *package.rglob("*")]
    for place in places:
        place.chmod(0o555)
    monkeypatch.setattr(zoo, "TRAINED", package)
    out = zoo.copy("ppo-cartpole", tmp_path / "run")
    assert all(x.stat().st_mode & stat.S_IWUSR for x in (out, *out.rglob("*")))
    for place in places:
        place.chmod(0o755)


@pytest.mark.parametrize("name", zoo.names())
def test_results_are_read_from_the_package_and_its_files_are_unchanged(name: str) -> None:
    (row,) = rows(Path(f"zoo:{name}"))
    assert row["run"] == f"zoo:{name}"


def test_plots_and_reports_show_agents_of_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    if os.name != "nt":  # A folder that has this name by chance is not read.
        (tmp_path / "zoo:ppo-cartpole").mkdir()
        (tmp_path / "zoo:ppo-cartpole/config.json").write_text("{}")
    output("plot zoo:ppo-cartpole --out plot.svg", capsys)
    output("report zoo:ppo-cartpole zoo:iql-hopper-medium --no-films", capsys)
    assert "iql" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_commands_write_into_a_copy_and_not_into_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(zoo.TRAINED.rglob("*"))
    for _ in range(2):
        assert zoo.output_folder(Path("zoo:ppo-cartpole")) == Path("runs/ppo-cartpole")
    assert main(["watch", "zoo:ppo-cartpole", "--size", "32"]) == 0
    assert (tmp_path / "runs/ppo-cartpole/film.mp4").exists()
    assert (tmp_path / "runs/ppo-cartpole/config.json").exists()
    assert sorted(zoo.TRAINED.rglob("*")) == before
    assert zoo.output_folder(Path("own")) == Path("own")
    (tmp_path / "runs/ppo-cartpole/config.json").write_text("{}")
    with pytest.raises(UserError, match="exists already"):
        zoo.output_folder(Path("zoo:ppo-cartpole"))


@pytest.mark.slow
def test_an_analysis_is_written_into_a_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = "analyse adversarial zoo:ppo-cartpole --budgets 0.1 --episodes 1"
    for _ in range(2):
        assert main(words.split()) == 0
    assert [x.name for x in (tmp_path / "runs/ppo-cartpole/analyses").iterdir()] == ["adversarial"]


def test_a_run_can_begin_with_the_weights_of_an_agent_of_the_package(tmp_path: Path) -> None:
    words = "run ppo --env CartPole-v1 --updates 1 --rollout-steps 64 --learning-rate 1e-30 --eval-episodes 1 --pretrained zoo:ppo-cartpole"  # fmt: skip
    assert main([*words.split(), "--out", str(tmp_path / "run")]) == 0
    obs = np.random.default_rng(0).standard_normal((50, 4)).astype(np.float32)
    assert (rlbench.load(tmp_path / "run")(obs) == rlbench.load("zoo:ppo-cartpole")(obs)).all()
    assert RunFolder(tmp_path / "run").config()["pretrained"]["run"] == "zoo:ppo-cartpole"


def test_an_encoder_can_use_a_network_of_the_package(tmp_path: Path) -> None:
    words = "run ppo --env minigrid-empty-5 --encoder codes:zoo:minigrid-codes --updates 1 --rollout-steps 8 --batch-size 8 --eval-episodes 1"  # fmt: skip
    assert main([*words.split(), "--out", str(tmp_path / "run")]) == 0
    assert RunFolder(tmp_path / "run").config()["pretrained"]["run"] == "zoo:minigrid-codes"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("evaluate zoo:ppo-cartpol", "did you mean ppo-cartpole? `rlbench zoo list`"),
        ("zoo card nothing-like-it", "there is no 'nothing-like-it' in the zoo; `rlbench zoo list` shows all"),
        ("zoo get ../../agents", "there is no '../../agents' in the zoo"),
        ("zoo card PPO-CartPole", "did you mean ppo-cartpole?"),
        ("zoo get ppo-cartpole --out zoo:mine", "there is no 'mine' in the zoo"),
        ("zoo list ppo", "unknown setting 'ppo': there is no such setting;"),
        ("evaluate ppo-cartpole", "contains no run; give the folder of a run, or zoo:ppo-cartpole"),
        ("evaluate zoo:lpg-small", "rlbench run lpg --env TASK --rule lpg-small"),
        ("run --resume zoo:ppo-cartpole", "start a new run with --pretrained zoo:ppo-cartpole"),
        ("zoo get lpg-small", "rlbench run lpg --env TASK --rule lpg-small"),
        ("zoo gett ppo-cartpole", "did you mean get?"),
        ("run ppo --env CartPole-v1 --pretrained zoo:nope", "there is no 'nope' in the zoo"),
    ],
)  # fmt: skip
def test_wrong_names_are_explained(
    words: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(zoo.TRAINED.rglob("*"))
    assert main(words.split()) == 2
    assert message in capsys.readouterr().err
    assert sorted(zoo.TRAINED.rglob("*")) == before


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", sorted(x for x, (words, _) in ENTRIES.items() if words.split()[0] in AGENTS)
)
def test_agents_reach_the_returns_on_their_cards(name: str) -> None:
    learner, task = load_run(Path(f"zoo:{name}"))
    said = RunFolder(Path(f"zoo:{name}")).last_evaluation()["return"]
    found = evaluate(learner, task, len(said), seed=2)["return"]
    error = np.hypot(said.std(), found.std()) / len(said) ** 0.5
    assert abs(said.mean() - found.mean()) <= 4 * error + 1e-6
