"""Stretches of a data set: rows in order, ends of episodes, and the runs that learn from them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rlbench.benchmarks.tables.jobs import Job, execute
from rlbench.benchmarks.training.config import RunConfig
from rlbench.benchmarks.training.runner import Run
from rlbench.cli import main
from rlbench.envs.tasks import find_task
from rlbench.errors import UserError
from rlbench.offline_data import DataSet, open_data


@pytest.fixture(scope="module")
def data() -> DataSet:
    return open_data(
        find_task("point-mixed"), "generated", size=250,
        notify=lambda line: None, progress=lambda done, total: None,
    )  # fmt: skip


def test_stretches_are_rows_in_order(data: DataSet) -> None:
    got = data.stretches(data.starts(64, 5, torch.Generator().manual_seed(0)), 5)
    assert got.obs.shape == (5, 64, 2)
    assert got.reward.shape == (5, 64)
    first = torch.randint(246, (64,), generator=torch.Generator().manual_seed(0))
    for t in range(5):
        row = data.take(first + t)
        assert torch.equal(got.obs[t], row.obs)
        assert torch.equal(got.action[t], row.action)
        assert torch.equal(got.final_obs[t], row.next_obs)
        assert torch.equal(got.terminated[t], row.terminated)
    inside = (got.truncated[:-1] == 0) & (got.terminated[:-1] == 0)
    assert torch.equal(got.obs[1:][inside], got.final_obs[:-1][inside])
    assert not torch.equal(got.obs[1:], got.final_obs[:-1])


def test_every_row_is_reached(data: DataSet) -> None:
    got = data.stretches(data.starts(5_000, 30, torch.Generator().manual_seed(0)), 30)
    whole = data.take(torch.arange(250)).obs
    assert len(torch.unique(got.obs.flatten(0, 1), dim=0)) == len(torch.unique(whole, dim=0))


def test_an_episode_whose_last_row_is_lost_counts_as_cut(data: DataSet) -> None:
    rows = data.rows.clone()
    widths = np.cumsum(data.layout.widths)
    rows[:, widths[3] : widths[4]] = 0.0  # no row says that it was cut
    lost = DataSet.__new__(DataSet)
    lost.rows, lost.layout, lost.episode_bounds = rows, data.layout, data.episode_bounds
    lost.frames = None
    for seed in range(3):
        mine, other = (
            x.stretches(x.starts(64, 40, torch.Generator().manual_seed(seed)), 40)
            for x in (data, lost)
        )
        assert mine.truncated.sum() > 0
        assert torch.equal(mine.truncated, other.truncated)


def test_times_and_returns_to_go_by_hand(data: DataSet) -> None:
    few = DataSet.__new__(DataSet)
    few.rows, few.layout, few.frames = data.rows[:7].clone(), data.layout, None
    few.episode_bounds = np.array([0, 3, 5, 7])  # The last one was cut when the recording ended.
    reward, terminated, truncated = np.cumsum(few.layout.widths)[1:4]
    few.rows[:, terminated : truncated + 1] = 0.0
    few.rows[:, reward] = torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0])
    few.rows[2, truncated] = few.rows[4, terminated] = 1.0
    got = few.stretches(torch.tensor([0, 1, 2, 3]), 4)
    assert got.time is not None
    assert got.return_to_go is not None
    assert got.time.T.tolist() == [[0, 1, 2, 0], [1, 2, 0, 1], [2, 0, 1, 0], [0, 1, 0, 1]]
    assert got.return_to_go[:, 0].tolist() == [7.0, 6.0, 4.0, 24.0]  # Also up to a time limit.
    assert got.return_to_go[:, 3].tolist() == [24.0, 16.0, 96.0, 64.0]


def test_the_first_return_to_go_of_an_episode_is_its_return(data: DataSet) -> None:
    first = torch.from_numpy(data.episode_bounds[: len(data.episode_returns)])
    to_go = data.stretches(first, 1).return_to_go
    assert to_go is not None
    np.testing.assert_allclose(to_go[0].numpy(), data.episode_returns, rtol=1e-5)


def test_a_length_beyond_the_data_is_reported(data: DataSet) -> None:
    with pytest.raises(UserError, match="sequence_length is 251, but the data set has 250"):
        data.starts(1, 251, torch.Generator())


def test_the_range_of_returns_reaches_the_agent(data: DataSet, tmp_path: Path) -> None:
    low, high = data.episode_returns.min(), data.episode_returns.max()
    assert data.return_range == (low, high)
    config = RunConfig(env="point-mixed", data_size=250, updates=5, out=tmp_path / "run")
    from rlbench.agents import IQLConfig

    agent: Any = Run("iql", IQLConfig(), config).learner
    assert agent.reward_scale == pytest.approx(1000 / (high - low))


@pytest.mark.parametrize(
    ("name", "size"),
    [("awr", {"hidden": (8,)}), ("recurrent-crr", {"hidden": (8,)}), ("decision-transformer", {"embedding_size": 8, "warmup_updates": 2})],
)  # fmt: skip
def test_agents_of_trajectories_learn_from_data_and_resume(
    name: str, size: dict[str, Any], tmp_path: Path
) -> None:
    settings = {**size, "batch_size": 3, "sequence_length": 6}
    ends = {}
    for kind, checkpoint in (("whole", 6), ("cut", 3)):
        config = RunConfig(
            env="point-mixed", data_size=250, updates=6, checkpoint_every=checkpoint,
            eval_every=0, eval_episodes=2, out=tmp_path / kind,
        )  # fmt: skip
        if kind == "cut":
            run = _interrupted(name, settings, config)
            assert run.finish() == 3
        else:
            assert execute(Job(name, settings, config)).error == ""
        ends[kind] = Run.resume(tmp_path / kind)
        state = ends[kind].folder.load_checkpoint(torch.device("cpu"))
        assert state is not None
        ends[kind].learner.load_state_dict(state["learner"])
    whole, cut = (dict(_tensors(run.learner.state_dict())) for run in ends.values())
    assert whole.keys() == cut.keys()
    assert all(torch.equal(whole[key], cut[key]) for key in whole)


def _interrupted(name: str, settings: dict[str, Any], config: RunConfig) -> Run:
    """A run that died after its third update."""
    from rlbench.agents import load_agent

    run = Run(name, load_agent(name).Config(**settings), config)
    learn, count = run.learner.learn, iter(range(3))

    def dying(experience: Any) -> Any:
        if next(count, None) is None:
            raise KeyboardInterrupt
        return learn(experience)

    run.learner.learn = dying
    with pytest.raises(KeyboardInterrupt):
        run.start()
    del run.learner.learn
    assert config.out is not None
    return Run.resume(config.out)


def _tensors(state: Any, path: str = "") -> list[tuple[str, torch.Tensor]]:
    if isinstance(state, dict):
        return [pair for key in state for pair in _tensors(state[key], f"{path}/{key}")]
    return [(path, torch.as_tensor(state))]


def test_an_agent_that_explores_may_leave_the_data_of_its_task_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = ["--env", "point-mixed", "--updates", "3", "--eval-episodes", "2", "--data", "none"]
    small = ["--random-steps", "5", "--hidden", "8", "--batch-size", "4"]
    assert main(["run", "td3", *base, *small, "--out", str(tmp_path / "online")]) == 0
    assert '"data": null' in (tmp_path / "online" / "config.json").read_text()
    capsys.readouterr()
    assert main(["run", "bc", *base, "--out", str(tmp_path / "bc")]) == 2
    assert "--data is none, but bc learns from data alone" in capsys.readouterr().err
