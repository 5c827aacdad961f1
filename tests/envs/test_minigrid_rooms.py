"""Empty rooms of several sizes, as padded pictures."""

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from rlbench.envs.minigrid import names
from rlbench.envs.tasks import find_task
from rlbench.errors import UserError

pytest.importorskip("minigrid")

from rlbench.envs.minigrid.rooms import EmptyRooms

LEFT, RIGHT, FORWARD = range(3)


def test_pictures_match_the_package_and_are_padded_with_zeros() -> None:
    env, sizes = EmptyRooms((5, 7, 16)), set()
    rng = np.random.default_rng(0)
    for episode in range(12):
        obs, _ = env.reset(seed=episode)
        for _ in range(8):
            theirs = env._room.get_frame(highlight=False, tile_size=8)
            side = len(theirs)
            sizes.add(side // 8)
            np.testing.assert_array_equal(obs[:side, :side], theirs)
            assert not obs[side:].any()
            assert not obs[:, side:].any()
            obs, _, terminated, *_ = env.step(int(rng.integers(3)))
            if terminated:
                break
    assert sizes == {5, 7, 16}


def test_the_seed_decides_the_size_and_the_start() -> None:
    one, other = EmptyRooms((5, 6, 8)), EmptyRooms((5, 6, 8))
    other.reset(seed=7)
    for seed in range(5):
        np.testing.assert_array_equal(one.reset(seed=seed)[0], other.reset(seed=seed)[0])
    starts = {one.reset(seed=seed)[0].tobytes() for seed in range(40)}
    assert len(starts) > 20


def test_reaching_the_goal_gives_the_reward_of_the_package() -> None:
    env = EmptyRooms((5,))
    env.reset(seed=0)
    room = env._room
    room.agent_pos, room.agent_dir = (2, 3), 0  # Left of the goal, facing it.
    room.step_count = 9
    _, reward, terminated, truncated, _ = env.step(FORWARD)
    assert terminated
    assert not truncated
    assert reward == pytest.approx(1 - 0.9 * 10 / 100)


def test_gymnasium_accepts_the_environment() -> None:
    check_env(EmptyRooms((5, 6)), skip_render_check=True)


@pytest.mark.parametrize("name", ["4", "17", "5-5", "5-", "", "five", "05", "5-06"])
def test_names_with_other_sizes_are_refused(name: str) -> None:
    assert names.parse(names.PREFIX + name) is None
    with pytest.raises(UserError, match="5 to 16"):
        find_task(names.PREFIX + name)
