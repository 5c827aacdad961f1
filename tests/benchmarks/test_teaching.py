"""Examples of a trained agent: what it saw and did, episode by episode."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import gymnasium as gym
import h5py
import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from rlbench.benchmarks.commands import data as data_commands
from rlbench.benchmarks.training import teaching
from rlbench.benchmarks.training.teaching import recorded, write_clients, write_examples
from rlbench.cli import main
from rlbench.envs.architectures.children import image_shape
from rlbench.envs.examples._base import SPLITS
from rlbench.envs.examples.files import read
from rlbench.envs.tasks import Task
from rlbench.errors import UserError
from rlbench.experience import Trajectories
from rlbench.interface import Action, Agent, Spec


class Pictures(gym.Env[Any, Any]):
    """A picture shows the seed of the episode and the number of the step; episodes have 2 to 4 steps."""

    def __init__(self) -> None:
        self.observation_space = spaces.Box(0, 255, (5, 5, 1), np.uint8)
        self.action_space = spaces.Discrete(3, start=1)
        self.max_steps = 4

    def picture(self) -> Any:
        out = np.zeros((5, 5, 1), np.uint8)
        out[0, :2, 0] = divmod(self.number, 256)
        out[1, 0] = self.now
        return out

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        assert seed is not None
        self.number, self.now = seed % 65_521, 0
        return self.picture(), {}

    def step(self, action: Any) -> Any:
        self.now += 1
        return self.picture(), 0.0, self.now >= 2 + self.number % 3, False, {}


@dataclass(frozen=True)
class Nothing:
    """No settings."""


class Counter(Agent):
    """Its action is the number of the step modulo 3, counted from 1."""

    Config: ClassVar[type] = Nothing
    consumes = Trajectories

    def decide(self, obs: Tensor, noise: Tensor | None = None) -> Tensor:
        return obs[:, 1, 0, 0].long() % 3 + 1

    def learn(self, experience: Any) -> Mapping[str, Tensor]:
        raise NotImplementedError


TASK = Task("pictures", Pictures)


def agent() -> Counter:
    return Counter(Nothing(), Spec.of(Pictures()))


def numbers(obs: Any) -> Any:
    return obs[:, 0, 0, 0].astype(int) * 256 + obs[:, 0, 1, 0]


def test_steps_follow_each_other_episode_by_episode() -> None:
    progress: list[int] = []
    obs, action = recorded(agent(), TASK, 60, 0, progress.append)
    assert obs.shape == (60, 5, 5, 1)
    assert obs.dtype == np.uint8
    assert action.shape == (60,)
    step = obs[:, 1, 0, 0].astype(int)
    np.testing.assert_array_equal(action, step % 3)
    episode = numbers(obs)
    begins = np.flatnonzero(step == 0)
    assert begins[0] == 0
    for first, after in pairwise(begins):
        assert step[first:after].tolist() == list(range(2 + episode[first] % 3))
        assert len(set(episode[first:after])) == 1
    assert len(begins) > 12, "more than one round of ten"
    assert len(set(episode[begins])) == len(begins)
    assert progress[0] == 0
    assert progress == sorted(progress)
    assert progress[-1] == 60


@pytest.fixture
def _trained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teaching, "load_agent_run", lambda run, trust: (agent(), TASK))
    folder = SimpleNamespace(config=lambda: {"run": {"seed": 3}})
    monkeypatch.setattr(teaching, "RunFolder", lambda run: folder)


@pytest.mark.usefixtures("_trained")
def test_a_file_of_examples_is_a_source_of_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "teacher.npz"
    assert main(["data", "examples", "run", "--size", "40", "--out", str(out)]) == 0
    assert f"rlbench run nas --env archsearch-{out}" in capsys.readouterr().out
    source = read(out)
    assert source.sizes == {"train": 40, "test": 10}
    assert image_shape(source, "teacher") == (1, 5, 5)
    train, test = (source.sample(split, 40, 0) for split in SPLITS)
    assert not set(numbers(train["obs"])) & set(numbers(test["obs"]))
    np.testing.assert_array_equal(train["label"], train["obs"][:, 1, 0, 0] % 3)


class Scorer(Counter):
    """It chooses by scores, which show the number of the step."""

    def scores(self, obs: Tensor, state: Any = None) -> Tensor:
        assert obs.is_floating_point()
        return obs[:, 1, 0] * torch.tensor([1.0, 10.0, 100.0])


class Remembering(Scorer):
    """It has a memory."""

    def act(self, obs: Tensor, *, explore: bool = False, state: Any = None) -> Action:
        return Action(self.decide(obs), state={"memory": torch.zeros(len(obs), 1)})


@pytest.mark.usefixtures("_trained")
@pytest.mark.parametrize(
    ("kind", "expected"), [(Scorer, True), (Counter, False), (Remembering, False)]
)
def test_examples_have_the_scores_of_agents_that_choose_by_them_and_by_nothing_else(
    kind: type[Counter], expected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = kind(Nothing(), Spec.of(Pictures()))
    monkeypatch.setattr(teaching, "load_agent_run", lambda run, trust: (made, TASK))
    monkeypatch.setattr(teaching, "BATCH", 7)
    write_examples(tmp_path, 40, tmp_path / "teacher.npz", print)
    for split in SPLITS:
        found = read(tmp_path / "teacher.npz").sample(split, 40, 0)
        assert ("scores" in found) == expected
        if expected:
            step = found["obs"][:, 1, 0, 0].astype(np.float32)
            np.testing.assert_array_equal(found["scores"], step[:, None] * np.array([1, 10, 100]))
            assert found["scores"].dtype == np.float32


def recording(file: Path, lengths: tuple[int, ...] = (30, 20, 25)) -> Path:
    """Episodes of `Pictures`, with the number of the episode as the seed and the action (step modulo 3) + 1."""
    columns: dict[str, list[Any]] = {name: [] for name in ("observations", "actions", "rewards", "terminals", "timeouts")}  # fmt: skip
    env = Pictures()
    for episode, length in enumerate(lengths):
        env.number = episode
        for step in range(length):
            env.now = step
            ends = step == length - 1
            row = (env.picture(), step % 3 + 1, 0.0, False, ends)
            for column, value in zip(columns.values(), row, strict=True):
                column.append(value)
    with h5py.File(file, "w") as out:
        for name, values in columns.items():
            out[name] = np.array(values)
    return file


def test_offline_data_give_examples_from_different_episodes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_commands, "find_task", lambda name: TASK)
    file, out = recording(tmp_path / "rows.hdf5"), tmp_path / "seen.npz"
    words = ["data", "examples", str(file), "--env", "pictures", "--out", str(out), "--size"]
    # Whether the row after an episode's last one is known decides how many rows an episode has.
    assert main([*words, "40"]) == 0
    train, test = (read(out).sample(split, 40, 0) for split in SPLITS)
    assert (len(train["label"]), len(test["label"])) == (40, 10)
    for split in (train, test):
        np.testing.assert_array_equal(split["label"], split["obs"][:, 1, 0, 0] % 3)
    assert set(numbers(train["obs"])) == {0, 1}
    assert set(numbers(test["obs"])) == {2}
    assert main([*words, "64"]) == 2
    assert "64 training and 16 test examples from different episodes need more" in capsys.readouterr().err  # fmt: skip
    boxes = Task("boxes", lambda: SimpleNamespace(action_space=spaces.Box(-1, 1), close=lambda: None))  # type: ignore[arg-type,return-value]  # fmt: skip
    monkeypatch.setattr(data_commands, "find_task", lambda name: boxes)
    assert main([*words, "40"]) == 2
    assert "the actions of boxes are Box" in capsys.readouterr().err


@pytest.mark.usefixtures("_trained")
def test_what_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "teacher.npz"
    with pytest.raises(UserError, match="size is 3; give 4 or more"):
        write_examples(tmp_path, 3, out, print)
    with pytest.raises(UserError, match=r"a file that ends in \.npz"):
        write_examples(tmp_path, 4, tmp_path / "teacher.h5", print)
    boxes = agent()
    boxes.spec = Spec(boxes.spec.observation_space, spaces.Box(-1, 1, (2,)))
    monkeypatch.setattr(teaching, "load_agent_run", lambda run, trust: (boxes, TASK))
    with pytest.raises(
        UserError, match=r"the actions of .* give the run of an agent with discrete"
    ):
        write_examples(tmp_path, 4, out, print)
    assert not out.exists()


@pytest.mark.usefixtures("_trained")
def test_clients_know_consecutive_steps_of_one_agent(tmp_path: Path) -> None:
    one, out = tmp_path / "teacher.npz", tmp_path / "clients.npz"
    write_examples(tmp_path, 40, one, print)
    write_clients([tmp_path, tmp_path], 80, 8, out, print)
    with np.load(one) as alone, np.load(out) as saved:
        assert saved["train/obs"].shape == (8, 10, 5, 5, 1)
        assert saved["train/label"].shape == (8, 10)
        assert saved["test/obs"].shape == (2, 10, 5, 5, 1)
        # Both runs are the same here, so both have the same steps.
        for half in (slice(4), slice(4, 8)):
            assert np.array_equal(saved["train/obs"][half].reshape(40, 5, 5, 1), alone["train/obs"])
            assert np.array_equal(saved["train/label"][half].ravel(), alone["train/label"])
    source = read(out)
    label = source.fields["label"]
    assert isinstance(label, spaces.Box)
    assert (label.shape, label.low.min(), label.high.max()) == ((10,), 0, 2)


@pytest.mark.usefixtures("_trained")
def test_numbers_of_clients_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    out = tmp_path / "clients.npz"
    for size, clients in ((80, 7), (80, 22), (8, 4)):
        with pytest.raises(
            UserError, match="give a multiple of 2 clients, and at least 4 examples"
        ):
            write_clients([tmp_path, tmp_path], size, clients, out, print)
    assert main(["data", "clients", "--out", str(out)]) == 2
    assert not out.exists()
