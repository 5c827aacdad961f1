"""Levels of MultiRoom: sets that share nothing, and each with a way to its goal."""

import hashlib

import numpy as np
import pytest

from rlbench.envs.multiroom.engine import MultiRoom
from rlbench.envs.multiroom.levels import (
    DOOR,
    FIRST_HELD_OUT,
    GOAL,
    Draws,
    Levels,
    level,
    level_set,
)
from rlbench.envs.multiroom.names import FLOORS
from tests.rooms import way

WITH_SETS = [name for name, floor in FLOORS.items() if floor.levels is not None]


def rooms_of(levels: Levels) -> list[int]:
    """Rooms of each level: one more than doors."""
    found: list[int] = (1 + (levels.cells[..., 0] == DOOR).sum(axis=(1, 2))).tolist()
    return found


@pytest.mark.parametrize("name", WITH_SETS)
def test_held_out_levels_share_no_grid_with_those_of_training(name: str) -> None:
    seen, unseen = (level_set(FLOORS[name], held_out) for held_out in (False, True))
    grids, other_grids = ({x.tobytes() for x in levels.cells} for levels in (seen, unseen))
    assert not grids & other_grids
    for levels, expected in ((seen, 100), (unseen, 500)):
        starts = {
            (cells.tobytes(), *at, direction)
            for cells, at, direction in zip(
                levels.cells, levels.at.tolist(), levels.direction.tolist(), strict=True
            )
        }
        assert len(starts) == len(levels.cells) == expected, "no level is there twice"


@pytest.mark.parametrize("name", WITH_SETS)
def test_sets_hold_the_levels_of_their_first_seeds(name: str) -> None:
    floor = FLOORS[name]
    for held_out, first in ((False, 0), (True, FIRST_HELD_OUT)):
        found = {x.tobytes() for x in level_set(floor, held_out).cells}
        seeds = range(first, first + 30)
        known = [level(floor, seed)[0].tobytes() in found for seed in seeds]
        assert all(known) or (held_out and sum(known) > 20)


def test_sets_stay_what_they_are() -> None:
    """Another level would be another task under the same name."""
    digests = {}
    for name in WITH_SETS:
        digest = hashlib.sha256()
        for held_out in (False, True):
            for column in vars(level_set(FLOORS[name], held_out)).values():
                digest.update(column.astype("<i8").tobytes())
        digests[name] = digest.hexdigest()[:16]
    assert digests == {
        "multiroom-n1": "523e0efd32290ef0",
        "multiroom-n2": "3660cc34e4fd2f78",
        "multiroom-n3": "1fbf34be774eaef7",
    }


@pytest.mark.parametrize("name", FLOORS)
def test_levels_have_one_to_k_rooms_alike_often_and_one_goal(name: str) -> None:
    floor = FLOORS[name]
    cells, at, direction = zip(*(level(floor, seed) for seed in range(600)), strict=True)
    levels = Levels(np.stack(cells), np.array(at), np.array(direction))
    rooms = rooms_of(levels)
    assert set(rooms) == set(range(1, floor.most_rooms + 1))
    for count in set(rooms):  # Within four standard errors of 600 / K.
        share = 1 / floor.most_rooms
        assert abs(rooms.count(count) - 600 * share) <= 4 * (600 * share * (1 - share)) ** 0.5
    assert ((levels.cells[..., 0] == GOAL).sum(axis=(1, 2)) == 1).all()


@pytest.mark.parametrize("held_out", [False, True])
@pytest.mark.parametrize("name", WITH_SETS)
def test_every_level_can_be_solved_in_time(name: str, held_out: bool) -> None:
    floor = FLOORS[name]
    env = MultiRoom(floor, held_out=held_out)
    for seed in range(100):
        obs, _ = env.reset(seed=seed)
        actions = way(obs)
        assert len(actions) < floor.max_steps
        ends = [env.step(action)[1:4] for action in actions]
        assert ends[:-1] == [(0.0, False, False)] * (len(actions) - 1)
        assert ends[-1] == (1 - 0.9 * (len(actions) / floor.max_steps), True, False)


def test_draws_are_those_of_numpys_generator() -> None:
    # With the largest span a fourth of all words is thrown away.
    spans = [1, 2, 3, 7, 10, 1000, 3 * 2**30]
    for seed in (0, 1, 2**31 - 1, 2**64):
        draws, generator = Draws(seed), np.random.default_rng(seed)
        for low, span in zip(range(-300, 300), spans * 100, strict=False):
            assert draws.between(low, low + span) == generator.integers(low, low + span)
