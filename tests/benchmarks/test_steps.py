"""Environment steps: the length of a run, its speed, and the axis of its curves."""

import json
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from rich.console import Console
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from rlbench.agents import load_agent
from rlbench.benchmarks.tables import executors, sweep
from rlbench.benchmarks.tables.executors import Execution
from rlbench.benchmarks.tables.jobs import Job
from rlbench.benchmarks.tables.sweep import SweepConfig
from rlbench.benchmarks.training.config import RunConfig
from rlbench.benchmarks.training.formats import is_whole
from rlbench.benchmarks.training.progress import ProgressLine, duration
from rlbench.benchmarks.training.run_folder import RunFolder
from rlbench.benchmarks.training.runner import Run
from rlbench.benchmarks.training.steps import EnvSteps
from rlbench.cli import main
from rlbench.errors import UserError

QUIET = Console(quiet=True)
PPO: dict[str, Any] = {"envs": 3, "rollout_steps": 5, "hidden": (4,), "batch_size": 15, "epochs": 1}
SAC: dict[str, Any] = {"random_steps": 7, "hidden": (4,), "batch_size": 4}
DQN: dict[str, Any] = {"random_steps": 7, "hidden": (4,), "batch_size": 4, "steps_per_update": 4}
SB3: dict[str, Any] = {"envs": 2, "rollout_steps": 8, "batch_size": 16, "hidden": (4,)}
ROLLOUTS: dict[str, Any] = {"envs": 2, "rollout_steps": 8, "hidden": (4,)}
NAS: dict[str, Any] = {"envs": 4}


class Counted(gym.Env[Any, Any]):
    """Counts the steps of all its instances; both actions lead on, for ten steps."""

    steps = 0
    observation_space = gym.spaces.Box(-1, 1, (2,))
    action_space: gym.Space[Any] = gym.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, Any]:
        super().reset(seed=seed)
        self.at = 0
        return np.zeros(2, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        Counted.steps += 1
        self.at += 1
        return np.zeros(2, np.float32), 1.0, False, self.at == 10, {}


class CountedBox(Counted):
    """The same with continuous actions."""

    action_space = gym.spaces.Box(-1, 1, (1,))


def made(out: Path, agent: str, env: str, settings: dict[str, Any], **options: Any) -> Run:
    config: dict[str, Any] = {"updates": 4, "eval_every": 2, "eval_episodes": 1, "log_every": 1}
    given = RunConfig(env=env, out=out, compile="off", **config | options)
    return Run(agent, load_agent(agent).Config(**settings), given, QUIET)


HERE = f"{__name__}:Counted"
ONLINE = [
    ("ppo", HERE, PPO, EnvSteps(0, 15)),
    ("a2c", HERE, ROLLOUTS, EnvSteps(0, 16)),
    ("sac", f"{__name__}:CountedBox", SAC, EnvSteps(7, 1)),
    ("sb3-dqn", HERE, DQN, EnvSteps(7, 4)),
    ("sb3-ppo", HERE, SB3, EnvSteps(0, 16)),
]


@pytest.mark.parametrize(("agent", "env", "settings", "expected"), ONLINE)
def test_environments_count_the_steps_that_follow_from_the_updates(
    tmp_path: Path, agent: str, env: str, settings: dict[str, Any], expected: EnvSteps
) -> None:
    run = made(tmp_path / "run", agent, env, settings)
    run.folder.start(run.description())
    assert run.env_steps == expected
    driver, before = run.make_driver(), Counted.steps
    for update in range(1, 4):
        driver.update()
        assert Counted.steps - before == expected.at(update)


def test_a_search_takes_one_step_for_each_token(tmp_path: Path) -> None:
    run = made(tmp_path, "nas", "archsearch-tiny", NAS)
    assert run.env_steps == EnvSteps(0, 4 * run.learner.rollout_steps)


@pytest.mark.parametrize(
    ("steps", "updates"), [(1, 1), (15, 1), (20, 1), (21, 1), (22, 2), (25, 2), (26, 3)]
)
def test_steps_are_rounded_up_to_whole_updates(steps: int, updates: int) -> None:
    counted = EnvSteps(first=17, each=4)
    assert counted.updates(steps) == updates
    assert counted.at(updates) >= steps
    assert updates == 1 or counted.at(updates - 1) < steps


def test_a_run_knows_its_steps_wherever_it_is_read(tmp_path: Path) -> None:
    run = made(tmp_path / "run", "ppo", HERE, PPO)
    run.start()
    assert EnvSteps.saved(run.folder.config()) == EnvSteps(0, 15)
    logs = [(tmp_path / "run" / f"{name}.jsonl").read_text() for name in ("metrics", "timing")]
    for log in logs:
        lines = [json.loads(line) for line in log.splitlines()]
        assert [line["env_steps"] for line in lines] == [15, 30, 45, 60]
    timing = json.loads(logs[1].splitlines()[-1])
    assert timing["env_steps_per_second"] == pytest.approx(15 * timing["updates_per_second"])
    (file,) = (tmp_path / "run/tensorboard/env_steps").iterdir()
    points = [(event.step, value.tag) for event in EventFileLoader(str(file)).Load() for value in event.summary.value]  # fmt: skip
    assert [x for x, tag in points if tag == "eval_by_env_steps/return"] == [30, 60]
    assert [x for x, tag in points if tag == "train_by_env_steps/policy_loss"] == [15, 30, 45, 60]


def test_a_run_on_data_takes_none(tmp_path: Path) -> None:
    settings = {"hidden": (4,), "batch_size": 4}
    run = made(tmp_path / "run", "bc", "point-random", settings, data_size=100)
    run.start()
    assert run.env_steps is None
    assert EnvSteps.saved(run.folder.config()) is None
    assert not (tmp_path / "run/tensorboard/env_steps").exists()
    for name in ("metrics", "timing"):
        assert "env_steps" not in (tmp_path / f"run/{name}.jsonl").read_text()


def test_steps_of_a_damaged_config_are_refused(tmp_path: Path) -> None:
    config = made(tmp_path / "run", "ppo", HERE, PPO).description()
    assert is_whole(config)
    assert not is_whole(config | {"env_steps": {"first": "x", "each": 1}})
    assert is_whole({name: x for name, x in config.items() if name != "env_steps"}), "older runs"


@pytest.mark.parametrize(
    ("done", "steps", "speed"),
    [
        (20, None, "5 updates/s"),
        (1, None, "0.25 updates/s"),
        (4_000, None, "1,000 updates/s"),
        (20, EnvSteps(7, 16), "82 steps/s"),
    ],
)
def test_the_speed_is_in_steps_where_there_are_some(
    monkeypatch: pytest.MonkeyPatch, done: int, steps: EnvSteps | None, speed: str
) -> None:
    now = 100.0
    monkeypatch.setattr("rlbench.benchmarks.training.progress.time.monotonic", lambda: now)
    out = StringIO()
    line = ProgressLine(Console(file=out, width=100), "x", 8_000, "updates", env_steps=steps)
    line.done, now = done, 104.0
    assert line.speed() == speed
    line.report("said")
    left = duration((8_000 - done) / (done / 4))
    assert out.getvalue().strip() == f"said, {speed}, {left} left"


def test_a_resumed_run_shows_the_speed_since_it_was_resumed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    monkeypatch.setattr("rlbench.benchmarks.training.progress.time.monotonic", lambda: now)
    line = ProgressLine(QUIET, "x", 100, "updates", 40, EnvSteps(7, 16))
    line.done, now = 50, 101.0
    assert line.speed() == "160 steps/s"


class TestTheOption:
    """`rlbench run --steps`."""

    SMALL = ("--eval-episodes", "1", "--hidden", "4", "--compile", "off")

    def run(self, out: Path, *words: str) -> dict[str, Any]:
        assert main(["run", *words, *self.SMALL, "--out", str(out)]) == 0
        return RunFolder(out).config()

    def test_rounds_up_and_says_both_lengths(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        words = ["ppo", "--env", HERE, "--envs", "3", "--rollout-steps", "5", "--batch-size", "15"]
        config = self.run(tmp_path / "run", *words, "--steps", "31")
        assert config["run"]["updates"] == 3
        assert "steps" not in config["run"]
        told = capsys.readouterr().out.splitlines()
        assert told[:3] == [
            "31 environment steps are rounded up to whole updates of 15",
            f"ppo on {HERE}, seed 0",
            "3 updates, 45 environment steps",
        ]
        self.run(tmp_path / "exact", *words, "--steps", "30")
        assert capsys.readouterr().out.splitlines()[1] == "2 updates, 30 environment steps"

    def test_sets_presets_for_the_updates(self, tmp_path: Path) -> None:
        words = ["sb3-dqn", "--env", HERE, "--random-steps", "20", "--batch-size", "4"]
        config = self.run(tmp_path / "run", *words, "--steps", "220")
        assert config["run"]["updates"] == 50  # (220 - 20) / 4
        assert config["learner"]["settings"]["exploration_updates"] == 5, "a tenth of them"

    @pytest.mark.parametrize(
        ("words", "error"),
        [
            ("bc --env point-random --steps 5", "bc on point-random does not gather"),
            ("classifier --env digits --steps 5", "classifier on digits does not gather"),
            ("ppo --env CartPole-v1 --steps 5 --updates 5", "--updates is 5 and --steps is 5; give only one"),
            ("ppo --env CartPole-v1 --steps=0", "steps is 0; give 1 or more"),
            ("sac --env Pendulum-v1 --steps 5000", "sac takes 5,000 random steps before its first update; give more"),
        ],
    )  # fmt: skip
    def test_is_refused_in_a_sentence(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: str, error: str
    ) -> None:
        assert main(["run", *words.split(), "--out", str(tmp_path / "run")]) == 2
        assert error in capsys.readouterr().err
        assert not (tmp_path / "run").exists()


class TestASweep:
    """`rlbench sweep` with steps."""

    TOML = f"""
seeds = 1
tasks = ["{HERE}"]
[run]
steps = 62
eval_episodes = 1
compile = "off"
[[method]]
agent = "ppo"
settings = {{ envs = 3, rollout_steps = 5, hidden = [4], batch_size = 15 }}
[[method]]
agent = "sb3-dqn"
settings = {{ random_steps = 10, hidden = [4], batch_size = 4 }}
"""

    def make(self, folder: Path, text: str) -> None:
        (folder / "sweep.toml").write_text(text)
        how = Execution(jobs=1)
        sweep.make(
            SweepConfig(folder / "sweep.toml", out=folder / "out", format="json", execution=how)
        )

    def test_compares_at_equal_steps(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.make(tmp_path, self.TOML)
        (section,) = json.loads(capsys.readouterr().out)
        assert section["title"] == "Return after 62 environment steps, mean ± std of 1 seed"
        ends = "The methods ended at different numbers of environment steps: ppo 75; sb3-dqn 62."
        assert section["notes"] == [ends]
        updates = {
            path.name.split("-Counted")[0].split("-tests")[0]: RunFolder(path).config()["run"]["updates"]
            for path in (tmp_path / "out").iterdir() if path.is_dir()
        }  # fmt: skip
        assert updates == {"ppo": 5, "sb3-dqn": 13}
        monkeypatch.setattr(executors, "run_all", lambda *_: pytest.fail("trains again"))
        self.make(tmp_path, self.TOML)

    def test_says_where_agents_of_equal_updates_ended(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.make(tmp_path, self.TOML.replace("steps = 62", "updates = 4"))
        (section,) = json.loads(capsys.readouterr().out)
        assert section["title"].startswith("Return after 4 updates")
        assert section["notes"] == [
            "The methods ended at different numbers of environment steps: ppo 60; sb3-dqn 26."
        ]

    def test_has_the_flag(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        seen = {}

        def remember(jobs: Sequence[Job], *_: Any) -> None:
            seen.update({job.learner: job.config.updates for job in jobs})

        monkeypatch.setattr(executors, "run_all", remember)
        words = ["sweep", "--agents", "ppo", "sac", "--tasks", "Pendulum-v1", "--steps", "20_000"]
        assert main([*words, "--out", str(tmp_path)]) == 0
        assert seen == {"ppo": 10, "sac": 15_000}

    @pytest.mark.parametrize(
        ("old", "new", "words"),
        [
            (
                "steps = 62",
                "steps = 62\nupdates = 3",
                "updates is 3 and steps is 62; give only one",
            ),
            ("steps = 62", "steps = 9", "takes 10 random steps before its first update"),
            ("steps = 62", 'steps = "x"', "steps is 'x'; give a whole number"),
            ('"sb3-dqn"', '"bc"', "bc on .* does not gather its own experience"),
        ],
    )
    def test_refuses_what_does_not_fit_before_anything_runs(
        self, tmp_path: Path, old: str, new: str, words: str
    ) -> None:
        text = self.TOML.replace(old, new)
        text = text.replace("random_steps = 10, ", "") if '"bc"' in new else text
        with pytest.raises(UserError, match=words):
            self.make(tmp_path, text)
        assert not (tmp_path / "out").exists()


def test_equal_runs_have_no_note(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = TestASweep.TOML.replace('agent = "sb3-dqn"', 'agent = "ppo"\nname = "other"')
    text = text.replace(
        "random_steps = 10, hidden = [4], batch_size = 4", "envs = 3, rollout_steps = 5"
    )
    TestASweep().make(tmp_path, text)
    (section,) = json.loads(capsys.readouterr().out)
    assert section["notes"] == []
