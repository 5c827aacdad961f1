"""D4RL's walkers side by side do what Gymnasium's own steps do, to the bit."""

from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.mujoco.hopper_v4 import HopperEnv
from numpy.typing import NDArray

from rlbench.envs.d4rl.vector_locomotion import Walkers, are_walkers
from rlbench.envs.episodes import Environments, Separate, make_envs, play
from rlbench.envs.making import make_gymnasium
from rlbench.envs.tasks import find_task

FOUR = ["HalfCheetah-v4", "Hopper-v4", "Walker2d-v4", "Ant-v4"]
MAKERS: list[Callable[[], gym.Env[Any, Any]]] = [
    *(partial(make_gymnasium, name) for name in FOUR),
    partial(make_gymnasium, "Ant-v4", use_contact_forces=True),
    partial(make_gymnasium, "Ant-v4", use_contact_forces=True, contact_force_range=(0.0, 0.0)),
    partial(make_gymnasium, "Hopper-v4", terminate_when_unhealthy=False, healthy_reward=0.3),
    partial(make_gymnasium, "Walker2d-v4", forward_reward_weight=0.7, ctrl_cost_weight=0.2),
    partial(make_gymnasium, "Hopper-v4", healthy_state_range=(-2.0, 50.0)),
    partial(make_gymnasium, "Hopper-v4", healthy_state_range=(-50.0, 1.5)),
    partial(make_gymnasium, "Ant-v4", use_contact_forces=True, healthy_z_range=(0.5, 0.8)),
    partial(make_gymnasium, "HalfCheetah-v4", max_episode_steps=7),
]


def played(envs: Environments, dtype: type, size: int) -> list[NDArray[Any]]:
    """Every number of some episodes, by random actions that begin small."""
    rows = []

    def act(obs: Any, episode: Any, step: Any) -> Any:
        seeds = zip(episode + 1, step, strict=True)
        draws = [np.random.default_rng(seed).uniform(-1, 1, size) for seed in seeds]
        return (np.minimum(1, step / 40)[:, None] * np.array(draws)).astype(dtype)

    def record(episode: Any, step: Any, *columns: Any, **named: Any) -> None:
        playing = episode >= 0
        flat = [column[playing].reshape(playing.sum(), -1) for column in columns]
        rows.append(np.concatenate(flat, axis=1))

    rows.append(play(envs, range(7), act, record, max_steps=120))
    return rows


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("make", MAKERS)
def test_every_number_is_that_of_gymnasium(
    make: Callable[[], gym.Env[Any, Any]], dtype: type
) -> None:
    size = (make().action_space.shape or ())[0]
    ours, theirs = make_envs(make, 3), Separate([make() for _ in range(3)])
    assert isinstance(ours, Walkers)
    for mine, wanted in zip(played(ours, dtype, size), played(theirs, dtype, size), strict=True):
        assert mine.dtype == wanted.dtype
        assert np.array_equal(mine, wanted)


def test_data_tasks_are_taken_and_others_are_left_alone() -> None:
    assert isinstance(make_envs(find_task("ant-medium").make, 2), Walkers)
    for make in (
        partial(make_gymnasium, "Hopper-v5"),
        partial(make_gymnasium, "Swimmer-v4"),
        lambda: gym.wrappers.ClipReward(make_gymnasium("Hopper-v4"), 0.0, 1.0),
        lambda: gym.wrappers.TimeLimit(gym.wrappers.ClipReward(hopper(), 0.0, 1.0), 9),
        lambda: gym.wrappers.TimeLimit(gym.wrappers.OrderEnforcing(Changed()), 9),
    ):
        assert isinstance(make_envs(make, 2), Separate)
    for other in ("Hopper-v5", "Walker2d-v4"):
        assert not are_walkers([make_gymnasium("Hopper-v4"), make_gymnasium(other)])
    light = make_gymnasium("Hopper-v4", ctrl_cost_weight=0.0)
    assert not are_walkers([make_gymnasium("Hopper-v4"), light])


def hopper() -> gym.Env[Any, Any]:
    return make_gymnasium("Hopper-v4").unwrapped


class Changed(HopperEnv):
    """A user's environment, which may have a step of its own."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
