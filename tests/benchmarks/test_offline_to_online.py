"""`--pretrained` without encoders: an agent that learned from data continues in the environment; `--data-share` keeps its data."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rlbench.agents import load_agent
from rlbench.benchmarks.training.config import RunConfig
from rlbench.benchmarks.training.drivers import ReplayDriver, joined
from rlbench.benchmarks.training.loading import load_run
from rlbench.benchmarks.training.pretrained import load_pretrained
from rlbench.benchmarks.training.runner import Run
from rlbench.benchmarks.training.seed_batch import SeedBatchRun
from rlbench.envs.tasks import find_task
from rlbench.errors import UserError
from rlbench.experience import Transitions
from rlbench.interface import Spec
from tests.benchmarks.test_steps import QUIET
from tests.kill_and_resume import killed_equals_unkilled
from tests.networks import equal, same, tensors
from tests.probe_envs import UNIT, random_batch

SMALL: dict[str, Any] = {"hidden": (8,), "batch_size": 6}
NAMES = ["awac", "cql", "iql", "sac", "td3", "td3-bc"]


def offline(out: Path, name: str, **settings: Any) -> Path:
    config = RunConfig(
        env="point-mixed", data_size=200, updates=5, eval_episodes=1, compile="off", out=out
    )
    Run(name, load_agent(name).Config(**SMALL, **settings), config, QUIET).start()
    return out


def online(
    source: Path | None, name: str, settings: dict[str, Any] | None = None, **options: Any
) -> Run:
    given = {
        "env": "point-mixed",
        "data": "none",
        "updates": 6,
        "eval_episodes": 1,
        "compile": "off",
        "data_size": 200,
    }
    config = RunConfig(**{**given, "pretrained": source and str(source), **options})
    small = {**SMALL, "random_steps": 7, "replay_size": 50, **(settings or {})}
    return Run(name, load_agent(name).Config(**small), config, QUIET)


def networks(learner: Any) -> dict[str, Tensor]:
    return tensors(
        {k: dict(x.state_dict()) for k, x in vars(learner).items() if isinstance(x, nn.Module)}
    )


@pytest.mark.parametrize("name", NAMES)
def test_it_begins_with_the_weights_of_the_offline_run_and_resumes_exactly(
    name: str, tmp_path: Path
) -> None:
    source = offline(tmp_path / "offline", name)
    run = online(source, name, out=tmp_path / "whole")
    trained, _ = load_run(source)
    mine, theirs = networks(run.learner), networks(trained)
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(x, theirs[key]) for key, x in mine.items())
    if name == "iql":
        assert run.learner.reward_scale == trained.reward_scale != 1.0
    if name == "td3-bc":
        assert run.learner.normaliser.mean.any()
    assert run.learner.policy_optimizer.steps == 0
    assert run.data is None
    run.start()
    assert run.folder.config()["pretrained"]["learner"]["name"] == name
    cut = online(source, name, out=tmp_path / "cut", checkpoint_every=3)
    stop_after(cut, 4)
    resumed = Run.resume(tmp_path / "cut", QUIET)
    assert resumed.finish() == 3
    assert equal(run.learner, resumed.learner)


def stop_after(run: Run, updates: int) -> None:
    """Runs an agent that dies after some updates."""
    learn, left = run.learner.learn, iter(range(updates))

    def dying(experience: Any) -> Any:
        if next(left, None) is None:
            raise KeyboardInterrupt
        return learn(experience)

    run.learner.learn = dying
    with pytest.raises(KeyboardInterrupt):
        run.start()


def first_steps(run: Run) -> tuple[Tensor, Tensor]:
    """The first actions, and those of its policy for the same observations."""
    driver = run.make_driver()
    assert isinstance(driver, ReplayDriver)
    with run.folder.locked():
        driver.update()
    steps = driver._replay.take(torch.arange(7), torch.device("cpu"))
    return steps.action, run.learner.act(steps.obs).action


def test_a_trained_agent_takes_the_first_steps_itself(tmp_path: Path) -> None:
    source = offline(tmp_path / "offline", "td3-bc")
    quiet = {"exploration_noise": 0.0, "learning_rate": 0.0}
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    torch.testing.assert_close(*first_steps(online(source, "td3-bc", quiet, out=tmp_path / "a")))
    taken, own = first_steps(online(None, "td3-bc", quiet, out=tmp_path / "b"))
    assert not torch.allclose(taken, own)


def test_a_share_of_each_batch_comes_from_the_data_and_the_run_resumes_exactly(
    tmp_path: Path,
) -> None:
    options: dict[str, Any] = {"data": "auto", "data_share": 0.5}
    run = online(None, "iql", out=tmp_path / "whole", **options)
    seen: list[Transitions] = []
    learn = run.learner.learn
    run.learner.learn = lambda batch: seen.append(batch) or learn(batch)  # type: ignore[func-returns-value]
    run.start()
    del run.learner.learn
    assert run.data is not None
    known = {tuple(row) for row in run.data.rows[:, :4].tolist()}
    for batch in seen:
        rows = torch.cat([batch.obs, batch.action], dim=1).tolist()
        assert [tuple(row) in known for row in rows] == [False] * 3 + [True] * 3
    assert run.learner.reward_scale != 1.0
    assert run.folder.config()["data"]["kind"] == "generated"
    assert run.folder.config()["env_steps"] == {"first": 7, "each": 1}
    stop_after(online(None, "iql", out=tmp_path / "cut", checkpoint_every=3, **options), 4)
    resumed = Run.resume(tmp_path / "cut", QUIET)
    assert resumed.finish() == 3
    assert equal(run.learner, resumed.learner)


def test_rows_are_joined_in_order() -> None:
    one, other = random_batch(UNIT, rows=2, seed=0), random_batch(UNIT, rows=3, seed=1)
    got = joined(one, other)
    assert torch.equal(got.reward, torch.cat([one.reward, other.reward]))
    assert torch.equal(got.next_obs[2:], other.next_obs)
    assert got.discount is None


def test_runs_that_do_not_fit_are_one_sentence(tmp_path: Path) -> None:
    source = offline(tmp_path / "offline", "iql")
    out = tmp_path / "run"
    with pytest.raises(UserError, match=r"its IQL does not fit the TD3BC of this run \(it has"):
        online(source, "td3-bc", out=out).start()
    with pytest.raises(UserError, match=r"its IQL does not fit the IQL .*size mismatch"):
        online(source, "iql", {"hidden": (9,)}, out=out).start()
    with pytest.raises(
        UserError, match=r"its observation space is .*give a task with the same spaces"
    ):
        online(source, "iql", env="Pendulum-v1", out=out).start()
    with pytest.raises(UserError, match=r"its action space is .*but that of this run is"):
        Run("iql", online(source, "iql").settings, RunConfig(env="tests.benchmarks.test_offline_to_online:half_as_strong", pretrained=str(source), out=out), QUIET).start()  # fmt: skip
    assert not out.exists()


def test_a_share_of_data_needs_data_and_a_replay_buffer(tmp_path: Path) -> None:
    for name, data in (("iql", "none"), ("bc", "auto"), ("ppo", "auto")):
        settings = load_agent(name).Config()
        config = RunConfig(
            env="point-mixed", data_share=0.5, data=data, data_size=200, out=tmp_path / "x"
        )
        with pytest.raises(
            UserError, match="a share of a data set needs an agent with a replay buffer"
        ):
            Run(name, settings, config, QUIET).start()
    two = dataclasses.replace(
        online(None, "iql", data="auto", data_share=0.5).config, seeds=2, out=tmp_path / "y"
    )
    with pytest.raises(UserError, match="cannot learn several seeds as one program"):
        SeedBatchRun.begin("iql", online(None, "iql").settings, two, QUIET)
    with pytest.raises(UserError, match=r"data_share is 1\.0; give 0 or more and below 1"):
        RunConfig(env="point-mixed", data_share=1.0)


def finished(name: str, out: Path, env: str, **settings: Any) -> Path:
    """A short run with two environments."""
    small = {"hidden": (8,), "envs": 2, "rollout_steps": 4, "batch_size": 4, "epochs": 1}
    config = RunConfig(env=env, updates=2, eval_every=0, eval_episodes=1, compile="off", out=out)
    Run(name, load_agent(name).Config(**small | settings), config, QUIET).start()
    return out


@pytest.mark.parametrize("name", ["ppo", "novelty-ppo", "recurrent-ppo"])
def test_settings_and_running_episodes_of_the_other_run_are_not_taken(
    name: str, tmp_path: Path
) -> None:
    source = finished(name, tmp_path / "a", "recall-1-0", decay_updates=2, normalise_reward=True)
    small: dict[str, Any] = {"hidden": (8,), "envs": 3, "clip_range": 0.3, "normalise_reward": True}
    spec = Spec.of(find_task("recall-1-0").make())
    learner: Any = load_agent(name)(load_agent(name).Config(**small), spec)
    load_pretrained(learner, str(source))
    trained, _ = load_run(source)
    assert float(trained.clip_range) == pytest.approx(0.1)
    assert float(learner.clip_range) == pytest.approx(0.3)
    assert len(learner.scaler.returns) == 3
    assert not learner.scaler.returns.any()
    assert same(learner.scaler.moments.state_dict(), trained.scaler.moments.state_dict())
    assert same(learner.network.state_dict(), trained.network.state_dict())


def test_a_prioritised_agent_continues_one_that_was_not(tmp_path: Path) -> None:
    spec = Spec.of(find_task("recall-1-0").make())
    config = RunConfig(env="recall-1-0", data="none", updates=2, eval_every=0, eval_episodes=1, compile="off", out=tmp_path / "a")  # fmt: skip
    DQN = load_agent("dqn")
    small: dict[str, Any] = {"hidden": (8,), "random_steps": 8}
    Run("dqn", DQN.Config(**small, batch_size=4), config, QUIET).start()
    for size in (4, 6):
        agent: Any = DQN(DQN.Config(**small, batch_size=size, prioritised=True), spec)
        load_pretrained(agent, str(tmp_path / "a"))
        assert agent.priority.tolist() == [1.0] * size


@pytest.mark.slow
def test_a_run_killed_twice_ends_as_one_never_killed(tmp_path: Path) -> None:
    source = offline(tmp_path / "offline", "iql")
    words = (
        f"iql --env point-mixed --pretrained {source} --data-share 0.5 --data-size 200 --hidden 8 --batch-size 6 "
        "--random-steps 50 --updates 300 --eval-every 100 --eval-episodes 2 --checkpoint-every 50"
    )
    killed_equals_unkilled(words.split(), tmp_path, kills=2, seed=1)


def half_as_strong() -> Any:
    """Point navigation with half the actions."""
    from gymnasium.spaces import Box

    from rlbench.envs.point_navigation import PointNavigation

    env = PointNavigation()
    env.action_space = Box(-0.5, 0.5, (2,))
    return env
