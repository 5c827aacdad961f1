"""The package minigrid: our rooms equal its own, and its ids are tasks."""

import builtins
import pickle
import sys
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from rlbench.envs.multiroom.engine import MultiRoomVector
from rlbench.envs.multiroom.names import FLOORS, Floor
from rlbench.envs.tasks import find_task
from rlbench.errors import UserError
from tests.rooms import way

IDS = ("MiniGrid-DoorKey-5x5-v0", "MiniGrid-MultiRoom-N2-S4-v0", "BabyAI-GoToRedBall-v0")


def package(floor: Floor) -> gym.Env[Any, Any]:
    """The environment that ours repeats."""
    from minigrid.envs.multiroom import MultiRoomEnv
    from minigrid.wrappers import FullyObsWrapper

    return FullyObsWrapper(
        MultiRoomEnv(
            minNumRooms=1, maxNumRooms=floor.most_rooms, maxRoomSize=floor.largest,
            width=floor.side, height=floor.side,
        )
    )  # fmt: skip


def endless(floor: Floor) -> Floor:
    """The same with a fresh level for each seed, as the package has it."""
    return Floor(floor.most_rooms, floor.largest, floor.side, levels=None)


# Beside the tasks' sizes one of six rooms on a large grid.
SIZES = {**FLOORS, "six rooms": Floor(6, 10, 25, levels=None)}


@pytest.mark.parametrize("name", SIZES)
def test_levels_of_all_seeds_are_the_packages(name: str) -> None:
    pytest.importorskip("minigrid")
    floor = endless(SIZES[name])
    theirs, seeds = package(floor), [*range(100), 1_000_000, 2**31 - 1]
    ours, _ = MultiRoomVector(floor, len(seeds)).reset(seed=seeds)
    for row, seed in enumerate(seeds):
        assert np.array_equal(ours[row], theirs.reset(seed=seed)[0]["image"]), seed


@pytest.mark.parametrize("name", FLOORS)
def test_every_step_is_the_packages(name: str) -> None:
    """Half of the environments act at random, half go to the goal and wander on the way."""
    pytest.importorskip("minigrid")
    floor, count, rng = endless(FLOORS[name]), 6, np.random.default_rng(0)
    ours = MultiRoomVector(floor, count)
    theirs = SyncVectorEnv(
        [lambda: gym.wrappers.FilterObservation(package(floor), ["image"])] * count,
        autoreset_mode=AutoresetMode.DISABLED,
    )
    plans: list[list[int]] = [[] for _ in range(count)]
    mask: Any = np.ones(count, bool)
    seed, reached, cut = 0, 0, 0
    for _ in range(200):
        if mask.any():
            seeds: Any = list(range(seed, seed + count))
            seed += count
            obs, _ = ours.reset(seed=seeds, options={"reset_mask": mask})
            expected, _ = theirs.reset(seed=seeds, options={"reset_mask": mask})
            assert np.array_equal(obs, expected["image"])
            for row in np.flatnonzero(mask).tolist():
                # Turns all the way round, a wait and useless actions come before the way.
                wander = [[0] * 4, [1, 0, 6], [3, 4, 2, 5, 0]][row % 3]
                plans[row] = [*wander, 9] if row % 2 else []
        action = rng.integers(0, 7, count)
        for row, plan in enumerate(plans):
            if plan and plan[0] == 9:
                plan[:] = way(obs[row])
            if plan:
                action[row] = plan.pop(0)
        obs, reward, terminated, truncated, _ = ours.step(action)
        expected, *rest, _ = theirs.step(action)
        assert np.array_equal(obs, expected["image"])
        for mine, his in zip((reward, terminated, truncated), rest, strict=True):
            assert np.array_equal(mine, his)
            assert mine.dtype == his.dtype
        mask = terminated | truncated
        reached, cut = reached + int(terminated.sum()), cut + int(truncated.sum())
    assert reached > 10
    assert cut > 2


@pytest.mark.parametrize("name", IDS)
def test_its_ids_are_tasks_whose_observation_is_the_image(name: str) -> None:
    pytest.importorskip("minigrid")
    task = find_task(name)
    env = pickle.loads(pickle.dumps(task.make))()
    space = gym.spaces.Box(0, 255, (7, 7, 3), np.uint8)
    assert env.observation_space == space
    obs, _ = env.reset(seed=0)
    assert obs in space
    assert env.step(env.action_space.sample())[0] in space
    picture = env.render()
    assert picture.dtype == np.uint8
    assert picture.shape[2] == 3
    assert (task.make_vector, task.held_out, task.solved_above) == (None, None, 0.0)


# Doors and keys, objects to carry and boxes to open, lava, seeing through walls, moving balls.
VIEWED = (
    *IDS, "MiniGrid-Empty-5x5-v0", "MiniGrid-Dynamic-Obstacles-6x6-v0", "MiniGrid-LavaGapS5-v0",
    "MiniGrid-ObstructedMaze-2Dlhb-v1", "MiniGrid-MemoryS9-v0", "MiniGrid-FourRooms-v0",
    "BabyAI-PutNextS5N2Carrying-v0", "BabyAI-UnlockPickupDist-v0", "BabyAI-BossLevel-v0",
)  # fmt: skip


@pytest.mark.parametrize("name", VIEWED)
@pytest.mark.parametrize("size", [7, 3, 9])
def test_views_are_the_packages(name: str, size: int) -> None:
    pytest.importorskip("minigrid")
    ours: Any = find_task(name).make().unwrapped
    theirs: Any = gym.make(name, disable_env_checker=True).unwrapped
    assert "gen_obs" in vars(ours)
    ours.agent_view_size = theirs.agent_view_size = size
    rng, carried = np.random.default_rng(0), 0
    for step in range(200):
        if step % 100 == 0:
            mine, his = ours.reset(seed=step)[0], theirs.reset(seed=step)[0]
        else:
            action = rng.choice([0, 1, 2, 2, 2, 3, 4, 5, 5])
            (mine, *_), (his, *_) = ours.step(action), theirs.step(action)
        assert np.array_equal(mine["image"], his["image"])
        assert mine["image"].dtype == his["image"].dtype
        assert mine["image"].flags.writeable
        assert (mine["direction"], mine["mission"]) == (his["direction"], his["mission"])
        carried += theirs.carrying is not None
    assert carried or "Carrying" not in name


def test_an_environment_with_a_custom_view_keeps_it() -> None:
    pytest.importorskip("minigrid")
    from minigrid.envs.empty import EmptyEnv

    from rlbench.envs.minigrid.view import quicken

    class Blind(EmptyEnv):
        def gen_obs(self) -> dict[str, Any]:
            return {"direction": 0, "mission": "", "image": np.zeros((7, 7, 3), np.uint8)}

    env = Blind()
    quicken(env)
    assert not env.reset(seed=0)[0]["image"].any()


def test_a_mistyped_id_gets_close_names() -> None:
    pytest.importorskip("minigrid")
    with pytest.raises(UserError, match="did you mean MiniGrid-DoorKey-5x5-v0"):
        find_task("MiniGrid-DoorKey-5x5-v9")


@pytest.mark.parametrize("name", IDS)
def test_without_the_package_one_sentence_says_how_to_get_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "minigrid", None)
    with pytest.raises(UserError, match="pip install 'rlbench\\[minigrid\\]'") as error:
        find_task(name)
    assert "\n" not in str(error.value)


def test_rooms_need_no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refuse(name: str, *rest: Any) -> Any:
        assert not name.startswith("minigrid")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    for name in ("multiroom-n2", "multiroom-n3r"):
        find_task(name).make().reset(seed=0)
