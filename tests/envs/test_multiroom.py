"""MultiRoom: what each action does, what is paid, and that environments keep apart."""

from typing import Any

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from numpy.typing import NDArray

from rlbench.envs.multiroom import engine as multiroom
from rlbench.envs.multiroom.engine import MultiRoom, MultiRoomVector
from rlbench.envs.multiroom.levels import level, level_set
from rlbench.envs.multiroom.names import FLOORS, Floor
from tests.rooms import DONE, DROP, FORWARD, LEFT, PICK_UP, RIGHT, TOGGLE, drawn

Array = NDArray[Any]

TWO_ROOMS = """
#######
#>.D.G#
#..#..#
#######
#######
#######
#######
"""
BESIDE_THE_GOAL = """
#######
#...^##
#...G##
#######
#######
#######
#######
"""


@pytest.fixture(autouse=True)
def _drawn_levels(monkeypatch: pytest.MonkeyPatch) -> None:
    """A floor of side 7 has the two levels drawn here; T is 40."""
    hand = drawn(TWO_ROOMS, BESIDE_THE_GOAL)
    monkeypatch.setattr(
        multiroom,
        "level_set",
        lambda floor, held: hand if floor == HAND else level_set(floor, held),
    )


HAND = Floor(most_rooms=2, largest=4, side=7, levels=2)


def begun(seed: int = 0) -> tuple[MultiRoom, Array]:
    env = MultiRoom(HAND)
    return env, env.reset(seed=seed)[0]


def test_the_observation_is_the_grid_column_by_column_with_the_agent_in_it() -> None:
    _, obs = begun()
    assert obs.shape == (7, 7, 3)
    assert obs.dtype == np.uint8
    assert obs[1, 1].tolist() == [10, 0, 0], "agent, red, looks right"
    assert obs[3, 1].tolist() == [4, 2, 1], "door, blue, closed"
    assert obs[5, 1].tolist() == [8, 1, 0], "goal, green"
    assert obs[3, 2].tolist() == [2, 5, 0], "wall, grey"
    assert obs[2, 2].tolist() == [1, 0, 0]


def test_turning_changes_the_direction_and_nothing_else() -> None:
    env, before = begun()
    for action, directions in ((LEFT, [3, 2, 1, 0]), (RIGHT, [1, 2, 3, 0])):
        for direction in directions:
            obs, reward, terminated, truncated, _ = env.step(action)
            assert obs[1, 1].tolist() == [10, 0, direction]
            assert (obs != before).any(axis=-1).sum() == (direction != 0)
            assert (reward, terminated, truncated) == (0, False, False)


@pytest.mark.parametrize("action", [PICK_UP, DROP, TOGGLE, DONE])
def test_an_action_that_has_nothing_to_act_on_changes_nothing(action: int) -> None:
    env, before = begun()
    assert np.array_equal(env.step(action)[0], before)


def test_walls_stop_the_agent_on_all_four_sides() -> None:
    env, before = begun()
    room = [(1, 1), (2, 1), (2, 2), (1, 2)]  # Around the room, each corner against its wall.
    obs = before
    for corner in [*room[1:], room[0]]:
        for _ in range(3):
            obs, *_ = env.step(FORWARD)
        assert obs[corner][0] == 10
        env.step(RIGHT)
    assert np.array_equal(env.step(DONE)[0], before)


def test_a_door_opens_lets_through_and_closes() -> None:
    env, _ = begun()
    env.step(FORWARD)
    obs, *_ = env.step(FORWARD)
    assert obs[2, 1].tolist() == [10, 0, 0], "a closed door stops"
    obs, *_ = env.step(TOGGLE)
    assert obs[3, 1].tolist() == [4, 2, 0]
    obs, *_ = env.step(FORWARD)
    assert obs[3, 1].tolist() == [10, 0, 0], "stands in the door"
    env.step(FORWARD)
    env.step(LEFT)
    obs, *_ = env.step(LEFT)
    assert obs[4, 1].tolist() == [10, 0, 2]
    assert obs[3, 1].tolist() == [4, 2, 0], "keeps its colour"
    obs, *_ = env.step(TOGGLE)
    assert obs[3, 1].tolist() == [4, 2, 1]
    obs, *_ = env.step(FORWARD)
    assert obs[4, 1].tolist() == [10, 0, 2]


def test_the_goal_ends_the_episode_and_pays_by_time() -> None:
    env, _ = begun()
    for action in (FORWARD, TOGGLE, FORWARD, FORWARD):
        assert env.step(action)[1:4] == (0.0, False, False)
    obs, reward, terminated, truncated, _ = env.step(FORWARD)
    assert reward == 1 - 0.9 * (5 / 40)
    assert (terminated, truncated) == (True, False)
    assert obs[5, 1].tolist() == [10, 0, 0]


@pytest.mark.parametrize("waits", [0, 37])
def test_turning_away_and_back_costs_time_up_to_the_last_step(waits: int) -> None:
    env, _ = begun(seed=1)
    for action in (RIGHT, RIGHT, *[DONE] * waits):
        env.step(action)
    _, reward, terminated, truncated, _ = env.step(FORWARD)
    assert reward == 1 - 0.9 * ((waits + 3) / 40)
    assert (terminated, truncated) == (True, waits == 37)


def test_an_episode_is_cut_after_forty_steps() -> None:
    env, _ = begun()
    ends = [env.step(DONE)[1:4] for _ in range(40)]
    assert ends[:39] == [(0.0, False, False)] * 39
    assert ends[39] == (0.0, False, True)


def test_the_seed_alone_decides_the_level() -> None:
    env = MultiRoomVector(FLOORS["multiroom-n2"], 4)
    obs, _ = env.reset(seed=[7, 107, 8, 7])
    assert np.array_equal(obs[0], obs[1]), "100 levels: seed 107 is seed 7"
    assert np.array_equal(obs[0], obs[3])
    assert not np.array_equal(obs[0], obs[2])
    env.step(np.full(4, TOGGLE))
    again, _ = env.reset(seed=[8, 8, 7, 8])
    assert np.array_equal(again[[2, 0]], obs[[0, 2]])
    assert np.array_equal(env.reset(seed=5)[0], env.reset(seed=[5, 6, 7, 8])[0])


def test_a_fresh_level_is_that_of_its_seed() -> None:
    floor = FLOORS["multiroom-n3r"]
    obs, _ = MultiRoomVector(floor, 2).reset(seed=[123456789, 3])
    for row, seed in enumerate((123456789, 3)):
        cells, at, direction = level(floor, seed)
        cells[at] = (10, 0, direction)
        assert np.array_equal(obs[row], cells)


def test_resets_without_a_seed_follow_from_the_last_seed() -> None:
    env = MultiRoom(FLOORS["multiroom-n2"])
    found = []
    for _ in range(2):
        env.reset(seed=3)
        found.append([env.reset()[0] for _ in range(5)])
    assert np.array_equal(found[0], found[1])
    assert len({obs.tobytes() for obs in found[0]}) > 1
    vector = MultiRoomVector(FLOORS["multiroom-n2"], 20)
    assert len({obs.tobytes() for obs in vector.reset()[0]}) > 1


def test_a_mask_resets_its_environments_only() -> None:
    env = MultiRoomVector(HAND, 3)
    env.reset(seed=[0, 0, 0])
    for action in (FORWARD, TOGGLE, FORWARD):
        before, *_ = env.step(np.full(3, action))
    after, _ = env.reset(seed=[0, 1, 0], options={"reset_mask": np.array([False, True, False])})
    assert np.array_equal(after[[0, 2]], before[[0, 2]])
    assert np.array_equal(after[1], begun(seed=1)[1])
    for _ in range(37):
        *_, truncated, _ = env.step(np.full(3, DONE))
    assert truncated.tolist() == [True, False, True], "the second began three steps later"


@pytest.mark.parametrize("name", ["multiroom-n2", "multiroom-n3r"])
def test_an_empty_mask_resets_nothing(name: str) -> None:
    env = MultiRoomVector(FLOORS[name], 3)
    before, _ = env.reset(seed=0)
    after, _ = env.reset(seed=5, options={"reset_mask": np.zeros(3, bool)})
    assert np.array_equal(after, before)


def test_doors_that_were_opened_are_closed_in_the_next_episode() -> None:
    env, before = begun()
    env.step(FORWARD)
    env.step(TOGGLE)
    assert np.array_equal(env.reset(seed=0)[0], before)
    assert np.array_equal(begun()[1], before)


def test_an_observation_stays_what_it_was() -> None:
    env, first = begun()
    copy = first.copy()
    second, *_ = env.step(FORWARD)
    env.step(TOGGLE)
    env.reset(seed=1)
    assert np.array_equal(first, copy)
    assert second[2, 1].tolist() == [10, 0, 0]
    second[:] = 0
    assert env.reset(seed=0)[0].any()


@pytest.mark.parametrize("name", FLOORS)
def test_many_environments_are_as_many_single_ones(name: str) -> None:
    floor, rng = FLOORS[name], np.random.default_rng(0)
    ours = MultiRoomVector(floor, 7)
    theirs = SyncVectorEnv([lambda: MultiRoom(floor)] * 7, autoreset_mode=AutoresetMode.DISABLED)
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    assert ours.metadata == theirs.metadata
    seeds, mask, ended = [*range(7)], np.ones(7, bool), 0
    for step in range(300):
        if mask.any():
            ended += mask.sum()
            seeds = rng.integers(2**31, size=7).tolist()
            one, _ = ours.reset(seed=seeds, options={"reset_mask": mask})
            other, _ = theirs.reset(seed=seeds, options={"reset_mask": mask})
            assert np.array_equal(one, other)
        action = rng.choice(7, size=7, p=(0.15, 0.15, 0.4, 0.05, 0.05, 0.15, 0.05))
        *all_mine, info = ours.step(action)
        *all_his, other_info = theirs.step(action)
        assert info == other_info == {}
        for mine, his in zip(all_mine, all_his, strict=True):
            assert np.array_equal(mine, his), step
            assert mine.dtype == his.dtype
        mask = theirs._terminations | theirs._truncations
    assert ended > 20


@pytest.mark.parametrize("held_out", [False, True])
def test_gymnasiums_own_check_finds_nothing(held_out: bool) -> None:
    check_env(MultiRoom(FLOORS["multiroom-n1"], held_out=held_out), skip_render_check=True)


@pytest.mark.parametrize(
    ("seed", "mask", "words"),
    [
        ([1, 2], np.ones(3, bool), "2 seeds for 3"),
        ([1, 2, 3], np.ones(2, bool), r"bool \[2\], expected bool \[3\]"),
        ([1, 2, 3], np.ones(3), r"float64 \[3\], expected bool \[3\]"),
    ],
)
def test_a_reset_that_does_not_fit_is_reported(seed: list[int], mask: Array, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        MultiRoomVector(HAND, 3).reset(seed=seed, options={"reset_mask": mask})


def test_an_action_that_does_not_exist_is_refused() -> None:
    with pytest.raises(IndexError):
        begun()[0].step(7)


def test_the_picture_shows_what_is_where() -> None:
    env, _ = begun()
    picture = env.render()
    assert picture.shape == (7 * 16, 7 * 16, 3)
    assert picture.dtype == np.uint8

    def pixel(x: float, y: float) -> list[int]:
        found: list[int] = picture[int(16 * y), int(16 * x)].tolist()
        return found

    red, floor = [200, 50, 50], [245, 245, 245]
    assert pixel(3.5, 1.5) == [40, 90, 200], "a closed door is filled"
    assert pixel(5.5, 1.5) == [60, 170, 90]
    assert pixel(0, 0) == [110, 110, 110]
    assert [pixel(1.25, 1.25), pixel(1.5, 1.5), pixel(1.75, 1.25)] == [red, red, floor], "right"
    env.step(FORWARD)
    env.step(TOGGLE)
    picture = env.render()
    assert pixel(3.5, 1.5) == floor
    assert pixel(3.1, 1.5) == [40, 90, 200], "an open one is hollow"
    env.step(RIGHT)
    picture = env.render()
    assert [pixel(2.25, 1.25), pixel(2.75, 1.25), pixel(2.25, 1.75)] == [red, red, floor], "down"


def test_a_vector_draws_each_environment() -> None:
    env = MultiRoomVector(HAND, 2)
    env.reset(seed=0)
    pictures = env.render()
    assert np.array_equal(pictures[0], begun(0)[0].render())
    assert np.array_equal(pictures[1], begun(1)[0].render())
