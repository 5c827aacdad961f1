"""Pictures of rooms of which few are labelled: labels by hand, what repeats, and which names are refused."""

import numpy as np
import pytest

pytest.importorskip("minigrid")

from rlbench.envs.examples import find_source
from rlbench.envs.examples.room_goals import RoomGoals
from rlbench.envs.minigrid.rooms import EmptyRooms
from rlbench.errors import UserError

RED = np.array([255, 0, 0])


def shows_agent(pictures: np.ndarray) -> np.ndarray:
    """Whether there is a red pixel, as only the agent has."""
    return (pictures == RED).all(-1).any((1, 2))  # type: ignore[no-any-return]


def test_the_goal_is_reached_if_no_agent_is_drawn() -> None:
    for split in ("train", "test"):
        found = RoomGoals("20").sample(split, 80, 0)
        assert (shows_agent(found["obs"]) == (found["label"] == 0)).all()
        assert found["label"].mean() == 0.5
    hidden = ~shows_agent(RoomGoals("20").sample("train", 400, 0)["unlabelled"])
    assert 0.18 < hidden.mean() < 0.32


def test_few_pictures_are_labelled_and_each_equally_often() -> None:
    found = RoomGoals("6").sample("train", 60, 1)
    pictures, counts = np.unique(found["obs"], axis=0, return_counts=True)
    assert counts.sum() == 60
    assert len(pictures) <= 6
    assert (counts % 10 == 0).all()
    assert len(np.unique(found["unlabelled"], axis=0)) > 30
    again, other = RoomGoals("6").sample("train", 60, 1), RoomGoals("6").sample("train", 60, 2)
    assert all(np.array_equal(found[k], x) for k, x in again.items())
    assert not np.array_equal(found["unlabelled"], other["unlabelled"])


def test_pictures_are_those_of_the_environment() -> None:
    env = EmptyRooms((5, 6, 7, 8))
    seen = {env.reset(seed=seed)[0].tobytes() for seed in range(300)}
    found = RoomGoals("20").sample("test", 40, 0)
    drawn = [x.tobytes() for x, reached in zip(found["obs"], found["label"], strict=True) if not reached]  # fmt: skip
    assert sum(x in seen for x in drawn) > 12
    assert all(RoomGoals("20").fields["obs"].contains(x) for x in found["obs"])


@pytest.mark.parametrize("wrong", ["", "7", "0", "-2", "1002", "x"])
def test_other_numbers_of_labels_are_refused(wrong: str) -> None:
    factory = find_source(f"room-goals-{wrong}")
    assert factory is not None
    with pytest.raises(UserError, match="give an even number, up to 1,000"):
        factory()
