"""Visits to rooms of MultiRoom: by hand, what the splits share, and which rooms are new."""

import numpy as np
from numpy.typing import NDArray

from rlbench.envs.examples.room_visits import LEVELS, RoomVisits, visits
from rlbench.envs.multiroom.levels import AGENT, CLOSED, DOOR, EMPTY, GOAL, OPEN, RED, WALL


def rooms() -> NDArray[np.uint8]:
    """A row of cells with walls around it: a cell, a door, two cells, a door, and a cell with the goal and another one."""
    cells = np.zeros((9, 3, 3), np.uint8)
    cells[..., 0] = WALL
    kinds = [EMPTY, DOOR, EMPTY, EMPTY, DOOR, GOAL, EMPTY]
    cells[1:8, 1, 0] = kinds
    cells[[2, 5], 1, 2] = CLOSED
    return cells


def test_rooms_by_hand() -> None:
    first, others = visits(rooms(), (1, 1))
    # One cell, four directions, with the door closed and open; then two cells, and two cells.
    assert len(first) == 8
    assert len(others) == 8 + 8
    at = [tuple(np.argwhere(x[..., 0] == AGENT)[0]) for x in (*first, *others)]
    assert at[:8] == [(1, 1)] * 8
    assert {x for x, _ in at[8:16]} == {3, 4}
    assert {x for x, _ in at[16:]} == {6, 7}
    doors = [(int(x[2, 1, 2]), int(x[5, 1, 2])) for x in (*first, *others)]
    assert doors[:4] == [(CLOSED, CLOSED)] * 4
    assert doors[4:16] == [(OPEN, CLOSED)] * 12
    assert doors[16:] == [(OPEN, OPEN)] * 8
    assert [x[1, 1].tolist() for x in first[:4]] == [[AGENT, RED, d] for d in range(4)]


def test_splits_and_seeds_share_nothing() -> None:
    source = RoomVisits()
    drawn = [source.sample(split, 80, seed) for split in ("train", "test") for seed in (0, 1)]
    for columns in drawn:
        assert all(source.fields["obs"].contains(x) for x in columns["obs"])
    seen = [{x.tobytes() for x in columns["obs"]} for columns in drawn]
    assert not any(a & b for i, a in enumerate(seen) for b in seen[:i])
    assert len(seen[2]) == len(seen[3]) == 80
    assert drawn[0]["novel"].sum() == 0
    assert drawn[2]["novel"].tolist() == [0, 1] * 40
    again = RoomVisits().sample("test", 80, 0)
    assert all(np.array_equal(again[k], x) for k, x in drawn[2].items())


def test_levels_have_two_rooms_or_more() -> None:
    obs = RoomVisits().sample("train", 400, 3)["obs"]
    without = obs.copy()
    without[obs[..., 0] == AGENT] = (EMPTY, 0, 0)
    without[..., 2] = 0
    layouts = {x.tobytes() for x in without}
    assert len(layouts) == LEVELS
    assert all((x[..., 0] == DOOR).any() for x in obs)
