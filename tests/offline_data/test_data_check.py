"""What `rlbench data check` and the readers find in files whose faults are not obvious."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.wrappers import TimeLimit

from rlbench.envs.tasks import Task
from rlbench.errors import UserError
from rlbench.offline_data import check_data
from rlbench.offline_data.formats import hdf5
from rlbench.offline_data.formats._reader import World
from tests.data_files import WORLD, Array, Toy, columns_of, read, recording, write

EPISODES = [(3, "terminal"), (5, "timeout"), (5, "timeout"), (2, "terminal"), (4, "cut")]
ENDS = [2, 7, 12, 14]


def limited() -> gym.Env[Array, Array]:
    """Not registered, so only the wrapper knows the limit."""
    return gym.wrappers.ClipReward(TimeLimit(Toy(), 5), -1.0, 1.0)


LIMITED = Task("limited", limited)


def said(path: Path, columns: dict[str, Any], task: Task | None = LIMITED) -> str:
    """All findings on a file of these columns."""
    return " | ".join(x.text for x in check_data(str(write(path / "f.hdf5", columns)), task))


def test_the_limit_of_a_wrapper_is_seen(tmp_path: Path) -> None:
    assert World.of(LIMITED).max_episode_steps == 5
    columns = recording([(5, "timeout"), (5, "timeout"), (2, "cut")])
    bare = columns | {"timeouts": None, "next_observations": None}
    assert "2 episodes reach the step limit without a flag" in said(tmp_path, bare)
    told = said(tmp_path, bare, None)
    assert "the step limit is unknown; give --env" in told
    assert "reach the limit" not in told


def test_a_probable_limit_that_is_not_named_gives_a_warning(tmp_path: Path) -> None:
    columns = recording([(5, "terminal")] * 4 + [(2, "terminal")]) | {"timeouts": None}
    expected = "4 episodes end with a terminal after exactly 5 steps and none is longer"
    assert expected in said(tmp_path, columns, None)
    assert expected not in said(tmp_path, columns)
    unlimited = replace(WORLD, max_episode_steps=None)
    with pytest.warns(UserWarning, match=expected):
        read(tmp_path / "f.hdf5", tmp_path / "d", unlimited)


@pytest.mark.parametrize("block", [1000, 4])
def test_next_observations_of_the_next_episode_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(hdf5, "BLOCK", block)
    columns = recording(EPISODES)
    assert "next observation" not in said(tmp_path, columns)
    for row in ENDS[:3]:
        columns["next_observations"][row] = columns["observations"][row + 1]
    expected = (
        "the last next observation of 3 episodes is the first observation of the next episode"
    )
    assert expected in said(tmp_path, columns)
    with pytest.warns(
        UserWarning, match="of 3 of 4 episodes is all zeros or the first observation"
    ):
        read(tmp_path / "f.hdf5", tmp_path / "d")


@pytest.mark.parametrize("block", [1000, 4])
def test_next_observations_of_zeros_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(hdf5, "BLOCK", block)
    columns = recording(EPISODES)
    columns["next_observations"][[2, 14]] = 0
    assert "last next observation of 2 episodes is all zeros" in said(tmp_path, columns)


@pytest.mark.parametrize("block", [1000, 4])
def test_next_observations_that_repeat_something_at_ends_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(hdf5, "BLOCK", block)
    columns = recording(EPISODES)
    columns["next_observations"][ENDS] = -1
    assert f"the same in all {len(ENDS)} episodes" in said(tmp_path, columns)
    columns["next_observations"][ENDS] = columns["observations"][ENDS]
    found = said(tmp_path, columns)
    assert f"of {len(ENDS)} episodes is the observation itself, unlike inside" in found
    columns["next_observations"] = columns["observations"].copy()
    found = said(tmp_path, columns)
    assert f"in {len(columns['rewards'])} rows the next observation is the observation" in found
    assert "may be missing" not in found


def test_a_limit_that_the_recorder_exceeded_is_not_used(tmp_path: Path) -> None:
    columns = recording([(7, "timeout"), (7, "timeout"), (3, "terminal")])
    found = said(tmp_path, columns)
    assert (
        "2 episodes are marked as timed out after more steps than the environment allows" in found
    )
    assert "3 complete episodes" in found


@pytest.mark.parametrize("block", [1000, 4])
def test_rows_that_do_not_follow_each_other_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(hdf5, "BLOCK", block)
    columns = recording(EPISODES)
    columns["next_observations"][[3, 5, 7]] += (
        1  # 7 is the end of an episode, so anything may follow
    )
    assert "in 2 rows inside episodes the next observation differs" in said(tmp_path, columns)


@pytest.mark.parametrize("constant", [0.0, 0.1])
def test_constant_observations_do_not_make_next_observations_look_wrong(
    tmp_path: Path, constant: float
) -> None:
    columns = recording(EPISODES)
    for name in ("observations", "next_observations"):
        columns[name][:] = constant
    told = said(tmp_path, columns)
    assert "next observation" not in told
    assert "3 of 3 components of the observations never vary" in told


CHOICES = replace(WORLD, action_space=spaces.Discrete(3, start=1))


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        (
            0,
            r"the action 0 in row 7, but the actions of the task toy are the whole numbers from 1 to 3",
        ),
        (4, "the action 4 in row 7"),
        (-1, "the action -1 in row 7"),
        (1.5, "the action 1.5 in row 7"),
        (np.nan, "NaN or infinity, first in row 7 of its actions"),
        (np.inf, "NaN or infinity, first in row 7 of its actions"),
    ],
)
def test_a_discrete_action_outside_the_space_is_refused(
    tmp_path: Path, choice: float, words: str
) -> None:
    columns = recording(EPISODES)
    columns["actions"] = 1.0 + np.arange(19) % 3
    columns["actions"][7] = choice
    with pytest.raises(UserError, match=words):
        read(write(tmp_path / "f.hdf5", columns), tmp_path / "d", CHOICES)


@pytest.mark.parametrize("kind", ["i8", "u1", "f4", "f8", "?"])
def test_discrete_actions_of_any_number_type_are_read(tmp_path: Path, kind: str) -> None:
    columns = recording(EPISODES)
    columns["actions"] = (np.arange(19) % 2).astype(kind)
    world = replace(WORLD, action_space=spaces.Discrete(2))
    got = columns_of(read(write(tmp_path / "f.hdf5", columns), tmp_path / "d", world))
    assert got["action"].tolist() == [row % 2 for row in range(19)]


@pytest.mark.parametrize(
    "change",
    [
        {"action_space": spaces.MultiDiscrete([3, 2])},
        {"action_space": spaces.MultiBinary(2)},
        {"action_space": spaces.Dict(a=spaces.Discrete(2))},
        {"observation_space": spaces.MultiBinary(3)},
        {"observation_space": spaces.Discrete(3)},
        {"observation_space": spaces.Tuple([spaces.Discrete(3)])},
    ],
)
def test_spaces_that_data_sets_cannot_hold_are_refused(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    file = write(tmp_path / "f.hdf5", recording(EPISODES))
    with pytest.raises(UserError, match=r"toy has the spaces .*; data sets hold") as error:
        read(file, tmp_path / "d", replace(WORLD, **change))
    assert "\n" not in str(error.value)
