"""Runs from beginning to end: exact resume, interruption, drivers, what a run folder holds."""

import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from torch import Tensor

from rlbench.agents import BC, SAC, BCConfig, SACConfig
from rlbench.benchmarks.training.config import RunConfig
from rlbench.benchmarks.training.drivers import ReplayDriver
from rlbench.benchmarks.training.evaluation import EpisodesEvaluator
from rlbench.benchmarks.training.loading import load_run
from rlbench.benchmarks.training.replay import ReplayFile
from rlbench.benchmarks.training.run_folder import RunFolder
from rlbench.benchmarks.training.runner import Run
from rlbench.envs.tasks import Task, find_task
from rlbench.errors import UserError
from rlbench.experience import Transitions
from rlbench.interface import Action, Agent, Spec
from rlbench.storage import Layout
from tests.kill_and_resume import RLBENCH, assert_equal, killed_equals_unkilled
from tests.odd import Line, good, in_place, limited
from tests.run_files import edit

COMMON = ["--hidden", "16", "--batch-size", "16", "--eval-episodes", "2", "--seed", "3"]
OFFLINE = ["--data-size", "2000", "--updates", "2000", "--eval-every", "500"]
EVERY = ["--log-every", "40", "--checkpoint-every", "40"]
ONLINE = [
    "--updates",
    "600",
    "--random-steps",
    "100",
    "--eval-every",
    "200",
    "--replay-size",
    "300",
]


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ["bear", "--env", "halfcheetah-random", *OFFLINE, "--vae-hidden", "16"],
        ["sac", "--env", "Pendulum-v1", *ONLINE],
    ],
    ids=["bear", "sac"],
)
def test_a_run_killed_three_times_ends_as_one_never_killed(
    arguments: list[str], tmp_path: Path
) -> None:
    told = killed_equals_unkilled([*arguments, *COMMON, *EVERY], tmp_path, kills=3, seed=0)
    assert "killed 3 times" in told


def test_ctrl_c_saves_and_says_how_to_resume(tmp_path: Path) -> None:
    arguments = ["sac", "--env", "Pendulum-v1", *ONLINE, *COMMON, "--checkpoint-every", "150"]
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    subprocess.run([*RLBENCH, "run", *arguments, "--out", str(whole)], check=True)
    with subprocess.Popen(
        [*RLBENCH, "run", *arguments, "--out", str(stopped)], stderr=subprocess.PIPE, text=True
    ) as run:
        while not (stopped / "metrics.jsonl").exists() and not (stopped / "checkpoint").exists():
            assert run.poll() is None
            time.sleep(0.01)
        run.send_signal(signal.SIGINT)
        _, told = run.communicate()
    assert run.returncode == 130
    assert told.startswith("rlbench: stopped and saved at update ")
    assert told.endswith(f"resume with `rlbench run --resume {stopped}`\n")
    subprocess.run([*RLBENCH, "run", "--resume", str(stopped)], check=True)
    assert_equal(whole, stopped)


def small_run(folder: Path, **options: Any) -> Run:
    chosen: dict[str, Any] = {
        "env": "point-mixed", "data_size": 1000, "updates": 6, "eval_every": 3,
        "eval_episodes": 2, "log_every": 2, "checkpoint_every": 4, "out": folder / "run",
    }  # fmt: skip
    return Run("bc", BCConfig(hidden=(8,)), RunConfig(**chosen | options))


def test_a_run_folder_holds_everything(tmp_path: Path) -> None:
    run = small_run(tmp_path, snapshot_every=3)
    run.start()
    folder = RunFolder(tmp_path / "run")
    config = folder.config()
    assert config["learner"]["settings"]["hidden"] == [8]
    assert config["run"]["seed"] == 0
    assert config["data"]["kind"] == "generated"
    assert len(config["data"]["sha256"]) == 64
    assert set(config["versions"]) >= {"torch", "numpy", "gymnasium", "mujoco", "git_commit"}
    if (Path(__file__).parents[2] / ".git").exists():
        assert len(config["versions"]["git_commit"]) == 40
    lines = [json.loads(x) for x in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [line["update"] for line in lines] == [2, 4, 6]
    returns = folder.evaluations()
    assert returns["update"].tolist() == [3, 6]
    assert returns["return"].shape == returns["seed"].shape == (2, 2)
    assert len(set(returns["seed"].ravel().tolist())) == 4, "every episode has its own seed"
    assert [path.name for path in sorted((tmp_path / "run/checkpoint").iterdir())] == [
        "update-000000006.json",
        "update-000000006.safetensors",
    ]
    assert len(list((tmp_path / "run/snapshots").iterdir())) == 4
    tags = {
        (event.step, value.tag)
        for file in (tmp_path / "run/tensorboard").iterdir()
        for event in EventFileLoader(str(file)).Load()
        for value in event.summary.value
    }
    assert {(2, "train/policy_loss"), (3, "eval/return"), (6, "eval/score")} <= tags
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".pkl", ".pt", ".part")]


def test_the_trained_agent_can_be_loaded_and_acts_the_same(tmp_path: Path) -> None:
    run = small_run(tmp_path)
    run.start()
    agent, task = load_run(tmp_path / "run")
    obs = torch.randn(5, *run.learner.spec.observation_space.shape)
    assert torch.equal(agent.act(obs).action, run.learner.act(obs).action)
    assert task.name == "point-mixed"


def test_an_agent_trained_on_a_gpu_acts_on_a_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = small_run(tmp_path)
    run.start()
    on_cpu = RunFolder.load_checkpoint

    def on_gpu(folder: RunFolder, device: torch.device) -> Any:
        state = on_cpu(folder, device)
        assert state is not None
        # A generator's state there: seed and offset.
        both = dict.fromkeys(("generator", "act_generator"), torch.zeros(16, dtype=torch.uint8))
        return {**state, "learner": {**state["learner"], **both}}

    monkeypatch.setattr(RunFolder, "load_checkpoint", on_gpu)
    agent, _ = load_run(tmp_path / "run")
    obs = torch.randn(5, *run.learner.spec.observation_space.shape)
    assert torch.equal(agent.act(obs).action, run.learner.act(obs).action)


def test_the_seed_decides_the_weights(tmp_path: Path) -> None:
    weights = []
    for i, seed in enumerate([1, 1, 2]):
        run = small_run(tmp_path / str(i), seed=seed)
        run.start()
        assert isinstance(run.learner, BC)
        weights.append(next(run.learner.policy.parameters()))
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_how_often_is_evaluated_does_not_change_what_is_learned(tmp_path: Path) -> None:
    states = []
    for i, every in enumerate([1, 6]):
        config = RunConfig(
            env="Pendulum-v1", updates=6, eval_every=every, eval_episodes=1, out=tmp_path / str(i)
        )
        run = Run("sac", SACConfig(hidden=(8,), random_steps=5, batch_size=4), config)
        run.start()
        states.append(run.learner.state_dict())
    assert torch.equal(states[0]["act_generator"], states[1]["act_generator"])
    assert torch.equal(states[0]["policy"]["net.0.weight"], states[1]["policy"]["net.0.weight"])


def test_a_resume_with_other_data_is_refused(tmp_path: Path) -> None:
    small_run(tmp_path).start()
    edit(tmp_path / "run", lambda config: config["run"].update(data_size=999))
    with pytest.raises(UserError, match="differ from those with which"):
        Run.resume(tmp_path / "run")


def test_a_damaged_returns_file_is_one_sentence(tmp_path: Path) -> None:
    small_run(tmp_path).start()
    file = tmp_path / "run/measures.npz"
    file.write_bytes(file.read_bytes()[:40])
    with pytest.raises(UserError, match="is damaged"):
        RunFolder(tmp_path / "run").evaluations()


class Counter(gym.Env[Any, Any]):
    """The observation is the step of the episode and its seed; it is cut after `length` steps."""

    observation_space: gym.Space[Any] = gym.spaces.Box(-1e9, 1e9, (2,))
    action_space: gym.Space[Any] = gym.spaces.Box(-1, 1, (1,))
    length = 4
    deterministic = True

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, Any]:
        self.at, self.tag = 0, float((seed or 0) % 1000)
        return self._obs(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.at += 1
        return self._obs(), float(action[0]), False, self.at == self.length, {}

    def _obs(self) -> Any:
        noise = 0.0 if self.deterministic else np.random.rand()  # noqa: NPY002
        return np.array([self.at + noise, self.tag], np.float32)


class Remembers(Agent):
    """Keeps the batches that it was given; its action counts its calls."""

    Config = SACConfig
    consumes = Transitions
    explores = True
    calls = 0

    def act(self, obs: Tensor, *, explore: bool = False, state: Any = None) -> Action:
        self.calls += 1
        return Action(torch.full((len(obs), 1), self.calls / 1000))

    def learn(self, experience: Transitions) -> Mapping[str, Tensor]:
        self.batch = experience
        return {}


def replay_driver(folder: Path, **settings: Any) -> tuple[ReplayDriver, Remembers]:
    config = SACConfig(batch_size=64, random_steps=3, **settings)
    agent = Remembers(config, Spec.of(Counter()))
    task = Task("counter", Counter)
    return ReplayDriver(agent, task, seed=0, folder=folder, updates=40, slack=5), agent


def test_replayed_transitions_are_those_that_happened(tmp_path: Path) -> None:
    driver, agent = replay_driver(tmp_path)
    for _ in range(20):
        driver.update()
    batch = agent.batch
    assert torch.equal(batch.next_obs[:, 0], batch.obs[:, 0] + 1), "never the next episode's"
    assert torch.equal(batch.next_obs[:, 1], batch.obs[:, 1])
    assert torch.equal(batch.truncated, (batch.next_obs[:, 0] == 4).float())
    assert not batch.terminated.any()
    assert len(set(batch.obs[:, 1].tolist())) > 3, "every episode has its own seed"
    policy_actions = batch.action[(batch.action[:, 0] * 1000).frac() == 0]
    torch.testing.assert_close(batch.reward, batch.action[:, 0])
    assert len(policy_actions)


def test_old_transitions_leave_the_buffer(tmp_path: Path) -> None:
    layout = Layout((1,), (1,))
    replay = ReplayFile(tmp_path / "replay.bin", layout, capacity=4, slack=3)
    for i in range(20):
        replay.write(i, [i], [0], 0.0, False, False, [i + 1])
        batch = replay.take(replay.draw(200, i + 1, torch.Generator()), torch.device("cpu"))
        assert set(batch.obs[:, 0].tolist()) == set(range(max(0, i - 3), i + 1))


def test_an_environment_that_does_not_repeat_itself_cannot_be_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Counter, "deterministic", False)
    driver, _ = replay_driver(tmp_path)
    for _ in range(3):
        driver.update()
    again, _ = replay_driver(tmp_path)
    with pytest.raises(UserError, match="did not repeat its steps"):
        again.load_state_dict(driver.state_dict())


def test_an_episode_longer_than_the_replay_buffer_cannot_be_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Counter, "length", 10**6)
    driver, _ = replay_driver(tmp_path, replay_size=4)
    for _ in range(10):
        driver.update()
    again, _ = replay_driver(tmp_path, replay_size=4)
    words = "in an episode of 13 steps, but the replay buffer holds only the last 9"
    with pytest.raises(UserError, match=words):
        again.load_state_dict(driver.state_dict())


def replayed(env: Any, seen: list[Any] | None = None) -> Transitions:
    """What an agent that acts by 0.5 learns from."""

    class Leans(Remembers):
        def act(self, obs: Tensor, **_: Any) -> Action:
            if seen is not None:
                seen.append(obs.clone())
            obs.fill_(99)
            return Action(torch.full((len(obs), 1), 0.5))

    agent = Leans(SACConfig(batch_size=64, random_steps=1), Spec.of(env()))
    with tempfile.TemporaryDirectory() as folder:
        driver = ReplayDriver(agent, Task("line", env), 0, Path(folder), updates=20, slack=5)
        for _ in range(20):
            driver.update()
    EpisodesEvaluator(Task("line", env), 1).returns(agent, 0)
    return agent.batch


def test_an_environment_and_an_agent_that_reuse_their_arrays_change_nothing() -> None:
    plain, odd = replayed(good), replayed(in_place)
    for name in ("obs", "action", "reward", "next_obs", "truncated"):
        assert torch.equal(getattr(plain, name), getattr(odd, name)), name
    assert torch.equal(odd.next_obs[:, 1], odd.obs[:, 1] + 1), "no s = s'"
    assert (odd.action != 77).all(), "what the environment wrote there"


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.float64])
def test_training_and_evaluation_see_the_same_numbers(dtype: Any) -> None:
    space = gym.spaces.Box(0, 99, (2,), dtype)
    seen: list[Tensor] = []
    batch = replayed(lambda: limited(Line(obs=lambda x: x / 8, obs_space=space)), seen)
    steps = torch.tensor([0, 0.125, 0.25, 0.375, 0.5])
    assert torch.equal(batch.obs[:, 1].unique(), steps)
    training, evaluating = torch.cat(seen[:-5])[:, 1], torch.cat(seen[-5:])[:, 1]
    assert torch.equal(training.unique(), steps)
    assert torch.equal(evaluating, steps)
    assert (training.dtype, evaluating.dtype) == (torch.float32, torch.float32)


def test_a_missing_replay_buffer_is_one_sentence(tmp_path: Path) -> None:
    driver, _ = replay_driver(tmp_path)
    driver.update()
    (tmp_path / "other").mkdir()
    again, _ = replay_driver(tmp_path / "other")
    with pytest.raises(UserError, match=r"replay\.bin is missing"):
        again.load_state_dict(driver.state_dict())


def test_an_evaluation_repeats_itself_and_leaves_the_agent_as_it_was() -> None:
    task = find_task("Pendulum-v1")
    agent = SAC(SACConfig(hidden=(8,)), Spec.of(task.make()))
    before = agent.act_generator.get_state()
    evaluator = EpisodesEvaluator(task, episodes=3)
    seeds, one = evaluator.returns(agent, seed=5, explore=True)
    _, two = evaluator.returns(agent, seed=5, explore=True)
    _, other = evaluator.returns(agent, seed=6, explore=True)
    assert len(set(seeds)) == 3
    assert np.array_equal(one, two)
    assert not np.array_equal(one, other)
    assert torch.equal(agent.act_generator.get_state(), before)


def test_python_runs_the_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "rlbench", "--version"], check=True, capture_output=True
    )
    assert done.stdout
