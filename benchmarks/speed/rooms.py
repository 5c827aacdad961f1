"""`python -m rlbench.benchmarks.speed.rooms`: steps of MultiRoom and other MiniGrids per CPU-second.

Compares our batched engine with the package minigrid in Gymnasium's SyncVectorEnv, and the package with
our view with the unchanged package: random actions, resets included. Segments of all subjects
alternate, so that other load on the machine affects all of them equally.
"""

import statistics
import time
from collections.abc import Callable
from functools import partial
from itertools import cycle, islice
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

from rlbench.envs.multiroom.engine import MultiRoomVector
from rlbench.envs.multiroom.names import FLOORS, Floor
from rlbench.envs.tasks import find_task

COUNTS = (16, 256)
IDS = ("MiniGrid-MultiRoom-N2-S4-v0", "MiniGrid-DoorKey-8x8-v0", "BabyAI-GoToRedBall-v0")
SEGMENTS, SECONDS = 9, 0.5


class Subject:
    """Environments that are stepped in repeated segments."""

    def __init__(self, env: VectorEnv[Any, Any, Any]) -> None:
        """Begins an episode in each."""
        self._env, self._seed = env, 0
        self.rates: list[float] = []
        """Steps per CPU-second of each segment."""
        self._actions = cycle(np.random.default_rng(0).integers(0, 7, (1000, env.num_envs)))
        self._reset(np.ones(env.num_envs, bool))

    def measure(self, seconds: float) -> None:
        """One segment."""
        begin, steps = time.process_time(), 0
        while time.process_time() - begin < seconds:
            for action in islice(self._actions, 10):
                _, _, terminated, truncated, _ = self._env.step(action)
                over = terminated | truncated
                if over.any():
                    self._reset(over)
            steps += 10 * self._env.num_envs
        self.rates.append(steps / (time.process_time() - begin))

    def _reset(self, over: Any) -> None:
        seeds: Any = list(range(self._seed, self._seed + self._env.num_envs))
        self._seed += self._env.num_envs
        self._env.reset(seed=seeds, options={"reset_mask": over})


def main() -> None:
    """Measures and prints a table."""
    subjects = {
        (name, engine, count): Subject(make(count))
        for name in ("multiroom-n2", "multiroom-n3r")
        for engine, make in (
            ("rlbench", partial(MultiRoomVector, FLOORS[name])),
            ("minigrid", partial(_in_turn, partial(_rooms, FLOORS[name]))),
        )
        for count in COUNTS
    }
    subjects |= {
        (name, engine, COUNTS[0]): Subject(_in_turn(make, COUNTS[0]))
        for name in IDS
        for engine, make in (
            ("minigrid, our view", find_task(name).make),
            ("minigrid", partial(_as_it_is, name)),
        )
    }
    for _ in range(SEGMENTS):
        for subject in subjects.values():
            subject.measure(SECONDS)
    print("| task | engine | environments | steps per CPU-second, median (min to max) |")
    print("|---|---|---|---|")
    for (name, engine, count), subject in subjects.items():
        low, middle, high = min(subject.rates), statistics.median(subject.rates), max(subject.rates)
        print(f"| {name} | {engine} | {count} | {middle:,.0f} ({low:,.0f} to {high:,.0f}) |")


def _in_turn(make: Callable[[], gym.Env[Any, Any]], count: int) -> VectorEnv[Any, Any, Any]:
    return SyncVectorEnv([make] * count, autoreset_mode=AutoresetMode.DISABLED)


def _rooms(floor: Floor) -> gym.Env[Any, Any]:
    """The minigrid environment that our engine reproduces; every reset makes a new level."""
    from minigrid.envs.multiroom import MultiRoomEnv
    from minigrid.wrappers import FullyObsWrapper, ImgObsWrapper

    env = MultiRoomEnv(
        minNumRooms=1, maxNumRooms=floor.most_rooms, maxRoomSize=floor.largest,
        width=floor.side, height=floor.side,
    )  # fmt: skip
    return ImgObsWrapper(FullyObsWrapper(env))


def _as_it_is(env_id: str) -> gym.Env[Any, Any]:
    from minigrid.wrappers import ImgObsWrapper

    return ImgObsWrapper(gym.make(env_id, disable_env_checker=True))


if __name__ == "__main__":
    main()
