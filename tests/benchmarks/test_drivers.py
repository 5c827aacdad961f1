"""Drivers of off-policy agents: which steps are taken, kept and drawn, and exact resumes."""

import copy
import errno
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import Tensor

from rlbench.benchmarks.training.drivers import DatasetDriver, ReplayDriver
from rlbench.benchmarks.training.replay import ReplayFile
from rlbench.envs.tasks import Task, find_task
from rlbench.errors import UserError
from rlbench.experience import Trajectories, Transitions
from rlbench.interface import Action, Agent, Spec, State
from rlbench.offline_data import DataSet, open_data
from rlbench.seeding import derive
from rlbench.storage import Layout, TransitionTable

CUT, END = 5, 3
"""Steps after which episodes of even and of odd tags are over."""
COLUMNS = ("obs", "action", "reward", "next_obs", "terminated", "truncated")


class Steps(gym.Env[Any, Any]):
    """The observation is the step of the episode and a tag of its seed; the reward is the action.

    It hands out one array again and again, as some environments do.
    """

    observation_space: gym.Space[Any] = gym.spaces.Box(-1e9, 1e9, (2,))
    action_space: gym.Space[Any] = gym.spaces.Box(
        np.array([1.0, -8.0], np.float32), np.array([3.0, -2.0], np.float32)
    )

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, Any]:
        assert seed is not None
        self.obs = np.array([0, seed % 1000], np.float32)
        return self.obs, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.obs[0] += 1
        odd = bool(self.obs[1] % 2)
        ended, cut = odd and self.obs[0] == END, self.obs[0] == CUT
        return self.obs, float(action[0]), bool(ended), bool(cut), {}


@dataclass(frozen=True, kw_only=True)
class Settings:
    batch_size: int = 32
    random_steps: int = 4
    replay_size: int = 1_000
    steps_per_update: int = 1
    sequence_length: int = 7
    discount: float = 0.9


class Keeps(Agent):
    """Keeps what it learns from; its first action counts the calls with exploration."""

    Config = Settings
    consumes: ClassVar[type[Transitions] | type[Trajectories]] = Transitions
    explores = True

    def __init__(self, config: Any, spec: Spec) -> None:
        super().__init__(config, spec)
        self.calls = 0
        self.batches: list[Any] = []

    def act(self, obs: Tensor, *, explore: bool = False, state: State | None = None) -> Action:
        self.calls += explore
        return Action(torch.tensor([[1 + self.calls / 1000, -3.0]]).expand(len(obs), 2))

    def learn(self, experience: Any) -> Mapping[str, Tensor]:
        self.batches.append(experience)
        return {}


class KeepsStretches(Keeps):
    consumes = Trajectories


def online(folder: Path, updates: int = 40, **settings: Any) -> tuple[ReplayDriver, Keeps]:
    agent = Keeps(Settings(**settings), Spec.of(Steps()))
    task = Task("steps", Steps)
    return ReplayDriver(agent, task, seed=0, folder=folder, updates=updates, slack=6), agent


class Clipped(Steps):
    def step(self, action: Any) -> Any:
        obs, reward, *rest = super().step(action)
        return obs, np.sign(reward), *rest


def test_training_takes_place_in_the_environments_for_training(tmp_path: Path) -> None:
    agent = Keeps(Settings(), Spec.of(Steps()))
    task = Task("steps", Steps, training=Task("steps", Clipped))
    driver = ReplayDriver(agent, task, seed=0, folder=tmp_path, updates=9, slack=6)
    driver.update()
    assert kept(driver, 5).reward.tolist() == [1.0] * 5
    assert (kept(driver, 5).action[:, 0] > 1).any()


def kept(driver: ReplayDriver, steps: int) -> Transitions:
    """The transitions of the first steps, in order."""
    rows = torch.from_numpy(driver._replay._rows[:steps])
    return driver._replay._layout.unpack(rows)


def test_the_first_update_follows_the_random_steps_and_its_own(tmp_path: Path) -> None:
    driver, agent = online(tmp_path, random_steps=9, steps_per_update=3)
    for update in (1, 2, 3):
        driver.update()
        assert driver.state_dict()["steps"] == 9 + 3 * update
        assert agent.calls == 3 * update
    action = kept(driver, 18).action[:, 0]
    assert (action[:9] * 1000).frac().ne(0).any()
    torch.testing.assert_close(action[9:], 1 + torch.arange(1, 10) / 1000)


def test_rows_are_what_happened_in_order(tmp_path: Path) -> None:
    """Also where the environment hands out one array for all of its observations."""
    driver, _ = online(tmp_path, random_steps=50)
    driver.update()
    rows = kept(driver, 51)
    (at, tag), (next_at, next_tag) = rows.obs.T, rows.next_obs.T
    assert torch.equal(next_at, at + 1)
    assert torch.equal(next_tag, tag)
    assert torch.equal(rows.terminated, ((tag % 2 == 1) & (next_at == END)).float())
    assert torch.equal(rows.truncated, (next_at == CUT).float())
    over = (rows.terminated + rows.truncated) > 0
    assert over.sum() > 5
    assert rows.terminated.any()
    assert rows.truncated.any()
    assert torch.equal(rows.obs[1:][~over[:-1]], rows.next_obs[:-1][~over[:-1]])
    starts = torch.cat([torch.tensor([True]), over[:-1]])
    assert (at[starts] == 0).all()
    wanted = [derive(0, "episode", e) % 1000 for e in range(int(starts.sum()))]
    assert tag[starts].tolist() == wanted, "every episode has a seed of its own"
    assert torch.equal(rows.reward, rows.action[:, 0])


def test_random_steps_fill_the_box_evenly(tmp_path: Path) -> None:
    driver, _ = online(tmp_path, random_steps=900)
    driver.update()
    action = kept(driver, 900).action
    low, high = torch.tensor([1.0, -8.0]), torch.tensor([3.0, -2.0])
    share = (action - low) / (high - low)
    assert share.min() < 0.01
    assert share.max() > 0.99
    torch.testing.assert_close(share.mean(0), torch.full((2,), 0.5), atol=0.04, rtol=0)
    assert share.min() >= 0
    assert share.max() <= 1


def test_the_buffer_holds_what_the_run_can_need(tmp_path: Path) -> None:
    """All its steps or `replay_size`, and as many more as lie between two checkpoints."""
    for size, steps_per_update, rows in (
        (1_000, 1, 4 + 40 + 6),
        (1_000, 2, 4 + 80 + 12),
        (7, 2, 19),
    ):
        folder = tmp_path / f"{size}-{steps_per_update}"
        folder.mkdir()
        online(folder, replay_size=size, steps_per_update=steps_per_update)
        assert (folder / "replay.bin").stat().st_size == 4 * 9 * rows


def test_a_buffer_that_the_system_cannot_hold_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(file: int, *_: int) -> None:
        os.write(file, b"some blocks")
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    monkeypatch.setattr(os, "posix_fallocate", fill)
    with pytest.raises(
        UserError, match=r"replay\.bin: your disk quota is used up; free some space"
    ):
        online(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("cut", range(1, 9))
def test_an_online_run_resumed_anywhere_learns_from_the_same_batches(
    tmp_path: Path, cut: int
) -> None:
    settings = {"replay_size": 12, "steps_per_update": 2, "batch_size": 200}
    (tmp_path / "whole").mkdir()
    driver, agent = online(tmp_path / "whole", **settings)
    states: list[dict[str, Any]] = []
    for update in range(14):
        driver.update()
        if update + 1 == cut:
            states = [copy.deepcopy(x.state_dict()) for x in (driver, agent)]
        if update + 1 == cut + 5:  # Killed just before its next checkpoint, five updates later.
            shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    resumed, other = online(tmp_path / "cut", **settings)
    other.load_state_dict(states[1])
    resumed.load_state_dict(states[0])
    again = resumed.state_dict()
    for name in ("steps", "episode", "episode_steps"):  # For a second resume in the same episode.
        assert again[name] == states[0][name]
    for wanted in agent.batches[cut:]:
        resumed.update()
        for name in COLUMNS:
            assert torch.equal(getattr(other.batches[-1], name), getattr(wanted, name)), name


def test_a_batch_holds_every_age_up_to_the_capacity_and_none_beyond(tmp_path: Path) -> None:
    replay = ReplayFile(tmp_path / "replay.bin", Layout((1,), (1,)), capacity=4, slack=3)
    for i in range(20):
        replay.write(i, [i], [10 * i], 0.5 * i, i % 3 == 0, i % 3 == 1, [i + 1])
        batch = replay.take(replay.draw(400, i + 1, torch.Generator()), torch.device("cpu"))
        at = batch.obs[:, 0]
        counts = torch.bincount((i - at).long())
        assert len(counts) == min(i + 1, 4)
        assert counts.min() > 0.7 * 400 / len(counts), "all alike"
        assert torch.equal(batch.action[:, 0], 10 * at)
        assert torch.equal(batch.reward, 0.5 * at)
        assert torch.equal(batch.terminated, (at % 3 == 0).float())
        assert torch.equal(batch.truncated, (at % 3 == 1).float())
        assert torch.equal(batch.next_obs[:, 0], at + 1)


def test_what_a_checkpoint_refers_to_is_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed = []
    monkeypatch.setattr(np.memmap, "flush", lambda self: flushed.append(self.filename))
    driver, _ = online(tmp_path)
    driver.update()
    driver.state_dict()
    assert [Path(str(name)).name for name in flushed] == ["replay.bin"]


@pytest.fixture(scope="module")
def data() -> DataSet:
    return open_data(
        find_task("point-random"), "generated", size=90,
        notify=lambda line: None, progress=lambda done, total: None,
    )  # fmt: skip


def offline(data: DataSet, kind: type[Keeps], seed: int = 0) -> tuple[DatasetDriver, Keeps]:
    agent = kind(Settings(), Spec.of(find_task("point-random").make()))
    return DatasetDriver(agent, data, seed), agent


@pytest.mark.parametrize("kind", [Keeps, KeepsStretches])
def test_batches_of_a_data_set_follow_from_the_seed_also_after_a_resume(
    data: DataSet, kind: type[Keeps]
) -> None:
    driver, agent = offline(data, kind)
    for update in range(6):
        if update == 3:
            state = copy.deepcopy(driver.state_dict())
        driver.update()
    resumed, other = offline(data, kind, seed=9)
    resumed.load_state_dict(state)
    for update in range(3, 6):
        resumed.update()
        assert torch.equal(other.batches[-1].obs, agent.batches[update].obs)
    drawn = [offline(data, kind, seed)[0].places().tolist() for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert drawn[0] != driver.places().tolist()


def test_every_row_of_a_table_is_drawn_alike() -> None:
    layout = Layout((1,), (1,))
    rows = torch.arange(5.0)[:, None].expand(5, layout.width)
    batch = TransitionTable(rows, layout).sample(5_000, torch.Generator().manual_seed(0))
    counts = batch.obs[:, 0].long().bincount()
    assert len(counts) == 5
    assert counts.min() > 900


def test_rows_are_packed_and_unpacked_by_hand() -> None:
    layout = Layout((2,), (1,))
    batch = Transitions(
        obs=torch.tensor([[1.0, 2.0]]),
        action=torch.tensor([[3.0]]),
        reward=torch.tensor([4.0]),
        next_obs=torch.tensor([[8.0, 9.0]]),
        terminated=torch.tensor([5.0]),
        truncated=torch.tensor([6.0]),
    )
    packed = layout.pack(batch)
    assert packed.tolist() == [[1, 2, 3, 4, 5, 6, 8, 9]]
    again = layout.unpack(packed)
    for name in COLUMNS:
        assert torch.equal(getattr(again, name), getattr(batch, name)), name
