"""A pool that does at the end of episodes what EnvPool does, in a few lines of Python."""

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np

CUT = 4


class FakePool:
    """The observation is the seed, the number of the episode and its step; the reward the action.

    Episodes take 2, 3 or 4 steps: (seed + number) % 3 decides. Those of 4 are cut.
    """

    observation_space = gym.spaces.Box(0, 2**31, (3,), np.int64)
    action_space = gym.spaces.Discrete(4)

    def __init__(self, seeds: Sequence[int]) -> None:
        self.seeds = np.array(seeds)
        self.episode = np.full(len(seeds), -1)
        self.at = np.zeros(len(seeds), dtype=np.int64)
        self.over = np.zeros(len(seeds), dtype=bool)

    def reset(self, env_id: Any) -> tuple[Any, dict[str, Any]]:
        self.episode[env_id] += 1
        self.at[env_id] = 0
        self.over[env_id] = False
        return self._obs()[env_id], {"env_id": env_id}

    def step(self, actions: Any, env_id: Any = None) -> tuple[Any, ...]:
        env_id = np.arange(len(self.seeds)) if env_id is None else env_id
        again = self.over.copy()
        self.at[env_id] += 1
        ends = 2 + (self.seeds + self.episode) % 3
        self.over[env_id] = (self.at == ends)[env_id]
        reward = np.where(again[env_id], 0.0, actions)
        stale = env_id[again[env_id]]
        self.reset(stale)
        truncated = self.over & (self.at == CUT)
        terminated = self.over & ~truncated
        return self._obs()[env_id], reward, terminated[env_id], truncated[env_id], {}

    def send(self, actions: Any) -> None:
        self.sent = actions

    def recv(self) -> tuple[Any, ...]:
        return self.step(self.sent)

    def _obs(self) -> Any:
        return np.stack([self.seeds, self.episode, self.at], -1)
