"""Run folders that name custom code: nothing is imported unless the user gave the name or trusts the folder."""

import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from rlbench.agents.ppo import PPOConfig
from rlbench.benchmarks.tables.methods import labels
from rlbench.benchmarks.tables.paper import Grid, Method, Paper
from rlbench.benchmarks.training.config import RunConfig
from rlbench.benchmarks.training.learners import is_custom, load_learner
from rlbench.benchmarks.training.loading import examples_of_run, load_agent_run, load_run
from rlbench.benchmarks.training.runner import Run
from rlbench.cli import main
from rlbench.envs.tasks import find_task
from rlbench.errors import Interrupted, UserError
from rlbench.trust import texts, trusts, with_names
from tests.rlbench.test_cli import refused
from tests.run_files import edit

QUIET = Console(quiet=True)
MODULE = """
import pathlib
import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Discrete
from rlbench.agents.ppo import PPO
from rlbench.envs.examples import Arrays

pathlib.Path("imported").touch()


class World(gym.Env):
    metadata = {"render_modes": ["rgb_array"], "render_fps": 5}
    render_mode = "rgb_array"
    observation_space = Box(0, 255, (8, 8, 1), np.uint8)
    action_space = Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation_space.low, {}

    def step(self, action):
        return self.observation_space.low, float(action), False, False, {}

    def render(self):
        return np.zeros((16, 16, 3), np.uint8)


def make():
    return gym.wrappers.TimeLimit(World(), 4)


def source():
    obs, label = np.arange(128, dtype=np.float32).reshape(16, 8), np.arange(16) % 2
    return Arrays({"obs": obs, "label": label}, {"obs": obs, "label": label})


class Mine(PPO):
    '''PPO under another name.'''
"""
PPO = ["--encoder", "resnet:units=1,width=4", "--rollout-steps", "8", "--batch-size", "4", "--epochs", "1"]  # fmt: skip
RUN = ["run", "ppo", "--env", "world:make", *PPO, "--updates", "2", "--eval-episodes", "2"]
ON_ITS_OWN = """
seeds = 1
tasks = ["frames:make"]
[run]
updates = 1
eval_episodes = 2
pretrained = "run"
[[method]]
agent = "ppo"
settings = { encoder = "resnet:units=1,width=4", rollout_steps = 8, batch_size = 4, epochs = 1 }
"""


@pytest.fixture(autouse=True)
def _world(in_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module in the current folder that makes the file `imported`, and which no other test has imported."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    Path("world.py").write_text(MODULE)
    Path("frames.py").write_text("from world import make")
    forget()


def forget() -> None:
    """Makes the next import run the module again."""
    for name in ("world", "frames"):
        sys.modules.pop(name, None)
    Path("imported").unlink(missing_ok=True)


def imported() -> bool:
    return Path("imported").exists()


@pytest.fixture
def run(_world: None) -> Path:
    """A finished run on the module's environment."""
    assert main([*RUN, "--out", "run"]) == 0
    forget()
    return Path("run")


COMMANDS = {
    "evaluate": ["evaluate", "run", "--episodes", "2"],
    "watch": ["watch", "run", "--out", "film.gif"],
    "export": ["export", "run"],
    "resume": ["run", "--resume", "run"],
    "analyse": ["analyse", "other-tasks", "run", "--tasks", "frames:make", "--episodes", "2"],
    "data examples": ["data", "examples", "run", "--size", "8"],
    "pretrained": ["run", "ppo", "--env", "frames:make", *PPO, "--updates", "1", "--pretrained", "run"],
}  # fmt: skip


@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
def test_a_command_imports_what_a_folder_names_only_with_trust(
    words: list[str], run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    if "frames:make" in words:  # The user's own name must not carry the folder's name with it.
        Path("frames.py").write_text(MODULE.replace('"imported"', '"mine"'))
    sentence = refused(capsys, words)
    assert "run names the custom code world:make, which runs when it is" in sentence
    assert "if you trust whoever made the folder, give --trust (in Python, trust=True)" in sentence
    assert not imported()
    assert main([*words, "--trust"]) == 0, capsys.readouterr().err
    assert imported()


def test_a_capture_imports_what_a_folder_names_only_with_trust(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["data", "capture", "run"]
    assert "run names the custom code world:make" in refused(capsys, words)
    assert not imported()
    assert main([*words, "--trust"]) == 2  # It is imported, and no world of MuJoCo.
    assert imported()
    assert "not a MuJoCo robot on a floor" in " ".join(capsys.readouterr().err.split())


def test_a_report_shows_the_reason_in_place_of_a_film(run: Path) -> None:
    for more, expected in (([], False), (["--trust"], True)):
        assert main(["report", "run", *more]) == 0
        page = Path("report.html").read_text()
        assert ("data:image/gif" in page) == expected
        assert ("run names the custom code world:make, which" in page) != expected
        assert imported() == expected


def test_a_model_is_measured_and_shown_only_with_trust(
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = [
        "run",
        "classifier",
        "--env",
        "world:source",
        "--updates",
        "2",
        "--batch-size",
        "4",
        "--encoder",
        "flatten",
    ]
    assert main([*model, "--out", "run"]) == 0
    forget()
    capsys.readouterr()
    assert "run names the custom code world:source" in refused(capsys, ["evaluate", "run"])
    with pytest.raises(UserError, match="run names the custom code world:source"):
        examples_of_run(Path("run"))
    assert main(["report", "run"]) == 0
    assert "run names the custom code world:source" in Path("report.html").read_text()
    assert not imported()
    assert main(["report", "run", "--trust"]) == 0
    assert "run names the custom code world:source" not in Path("report.html").read_text()
    assert main(["evaluate", "run", "--trust"]) == 0
    assert "accuracy" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["os:abort", "pip:main", "world:make", "shared:world:make"])
@pytest.mark.parametrize("where", ["env", "learner", "memory"])
def test_every_name_in_a_config_is_checked(
    name: str, where: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["run", "recurrent-ppo", "--env", "CartPole-v1", "--updates", "1", "--envs", "2"]
    assert main([*words, "--rollout-steps", "4", "--eval-episodes", "1", "--out", "run"]) == 0

    def change(config: dict[str, Any]) -> None:
        config["run"]["trust"] = config["trust"] = True  # A folder cannot trust itself.
        if where == "env":
            config["run"]["env"] = name
        elif where == "learner":
            config["learner"]["name"] = name
        else:
            config["learner"]["settings"]["memory"] = name

    edit(Path("run"), change)
    named = name.removeprefix("shared:") if where == "env" else name
    for words in (["evaluate", "run"], ["run", "--resume", "run"]):
        assert f"run names the custom code {named}, which" in refused(capsys, words)
    with pytest.raises(UserError, match=f"run names the custom code {named}, which"):
        Run.resume(Path("run"), QUIET)
    assert not imported()


def test_a_module_that_is_imported_already_is_not_trusted(run: Path) -> None:
    find_task("world:make").make()
    with pytest.raises(UserError, match="run names the custom code world:make"):
        load_agent_run(run)


def test_python_trusts_all_names_or_some(run: Path) -> None:
    for trust in (False, (), ("world:other", "make")):
        with pytest.raises(UserError, match="run names the custom code world:make"):
            load_run(run, trust=trust)
    assert not imported()
    assert load_run(run, trust=True)[1].name == "world:make"
    assert load_run(run, trust={"world:make"})[1].name == "world:make"
    assert Run.resume(run, QUIET, trust={"world:make"}).finish() == 0


def test_names_on_the_command_line_are_the_users_own(run: Path) -> None:
    words = ["analyse", "other-tasks", "run", "--tasks", "world:make", "--episodes", "2"]
    assert main(words) == 0
    words = ["run", "ppo", "--env", "world:make", *PPO, "--updates", "1", "--pretrained", "run"]
    assert main(words) == 0


def test_the_next_command_and_the_way_to_resume_have_the_option(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main([*RUN, "--out", "run"]) == 0
    told = capsys.readouterr().out
    assert told.endswith("next: rlbench evaluate run --episodes 100 --trust\n")
    assert main(["run", "ppo", "--env", "CartPole-v1", "--updates", "1", "--out", "other"]) == 0
    assert "--trust" not in capsys.readouterr().out
    settings = PPOConfig(encoder="resnet:units=1,width=4", rollout_steps=8, batch_size=4)
    job = Run("ppo", settings, RunConfig(env="world:make", updates=2, out=Path("cut")), QUIET)
    stopping = nullcontext(SimpleNamespace(requested=True))
    monkeypatch.setattr("rlbench.benchmarks.training.runner.Interrupt", lambda: stopping)
    with pytest.raises(Interrupted, match=r"`rlbench run --resume cut --trust`"):
        job.start()


def test_a_sweep_trusts_its_own_names_and_no_others(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("frames.py").write_text(MODULE.replace('"imported"', '"mine"'))
    Path("sweep.toml").write_text(ON_ITS_OWN)
    words = ["sweep", "sweep.toml", "--jobs", "1", "--out", "swept"]
    assert main(words) == 1
    assert "run names the custom code world:make, which" in capsys.readouterr().err
    assert not imported()
    assert main([*words, "--trust"]) == 0
    (made,) = Path("swept").glob("*s0")
    for file in (made / "checkpoint").iterdir():  # As if it had been killed.
        file.unlink()
    (made / "measures.npz").unlink()
    assert main([*words, "--trust"]) == 0
    assert (made / "measures.npz").exists()


def test_a_sweep_of_custom_code_is_resumed_without_the_option() -> None:
    Path("sweep.toml").write_text(
        ON_ITS_OWN.replace('pretrained = "run"\n', "")
        .replace('"ppo"', '"world:Mine"')
        .replace("frames:", "world:")
    )
    words = ["sweep", "sweep.toml", "--jobs", "1", "--out", "swept"]
    assert main(words) == 0
    (made,) = Path("swept").glob("*s0")
    for file in (made / "checkpoint").iterdir():
        file.unlink()
    (made / "measures.npz").unlink()
    assert main(words) == 0
    assert (made / "measures.npz").exists()


def test_the_runs_of_a_table_may_import_what_any_of_its_grids_names() -> None:
    first = Grid((Method("a", "world:Mine", {"memory": "world:Memory"}),), ("world:make",), 1, {})
    second = Grid((Method("b", "bc", pretrained=("a", "world:make")),), ("point-mixed",), 1, {})
    paper = Paper("p", "", "", "b", {"small": (first, second), "full": ()}, {}, ())
    names = {"world:Mine", "world:Memory", "world:make"}
    jobs = [job for stage in paper.stages("small", Path()) for job in stage.jobs]
    jobs += [job for _, job in paper.jobs("small", Path())]
    assert len(jobs) == 4
    for job in jobs:
        assert isinstance(job.trust, frozenset)
        assert names <= job.trust


def test_methods_are_named_without_importing_custom_code() -> None:
    def config(**settings: Any) -> dict[str, Any]:
        learner = {"name": "world:Mine", "settings": settings}
        return {"learner": learner, "run": {"env": "point-mixed"}, "data": None}

    runs = [config(), config(epochs=10)]
    assert len(set(labels(["x", "x"], runs))) == 2
    assert not imported()
    # The default is known, so both runs have the same settings.
    assert len(set(labels(["x", "x"], runs, trust=True))) == 1
    assert len(set(labels(["x", "x"], runs, trust={"world:Mine"}))) == 1


def test_names_that_a_learner_has_as_defaults_need_no_trust(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The class of a trusted learner would import them in any case."""
    kind = load_learner("recurrent-ppo")
    words = ["run", "recurrent-ppo", "--env", "CartPole-v1", "--updates", "1", "--envs", "2"]
    assert main([*words, "--rollout-steps", "4", "--eval-episodes", "1", "--out", "run"]) == 0
    place = "rlbench.backbones.memories.lstm:LSTM"
    edit(Path("run"), lambda config: config["learner"]["settings"].update(memory=place))
    with pytest.raises(UserError, match=f"run names the custom code {place}"):
        load_run(Path("run"))
    monkeypatch.setattr(kind, "preset", lambda task, updates: {"memory": place})
    load_run(Path("run"))


def test_only_custom_code_needs_trust() -> None:
    assert [x for x in ("ppo", "classifier", "lpg-meta", "nothing", "a:B") if is_custom(x)] == [
        "a:B"
    ]
    custom = ("a.b:make", "shared:a.b:make", "independent:a.b:make")
    assert [find_task(name).imports for name in custom] == ["a.b:make"] * 3
    for name in ("CartPole-v1", "shared:coin", "frames-procgen:coinrun", "digits", "point-mixed"):
        assert find_task(name).imports is None


def test_trust_in_names() -> None:
    assert trusts(True, "a:b")
    assert not trusts(False, "a:b")
    assert trusts(["a:b"], "a:b")
    assert not trusts(["a:b"], "a:c")
    assert with_names(True, ["a:b"]) is True
    assert with_names(False, ["a:b"]) == {"a:b"}
    assert with_names({"c:d"}, ["a:b"]) == {"a:b", "c:d"}
    assert texts({"x": ["a", ("b", {"y": "c"})], "z": 3, "none": None}) == {"a", "b", "c"}


def test_options_of_a_memory_are_not_custom_code() -> None:
    words = ["run", "recurrent-ppo", "--env", "CartPole-v1", "--updates", "1", "--envs", "2"]
    words += ["--memory", "mann:slots=5,width=3", "--rollout-steps", "4", "--eval-episodes", "1"]
    assert main([*words, "--out", "run"]) == 0
    load_run(Path("run"))
