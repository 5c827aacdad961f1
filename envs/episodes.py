"""Whole episodes on vectorised environments, each with a seed of its own."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from numpy.typing import NDArray

Array = NDArray[Any]


class Act(Protocol):
    """Chooses actions for all environments at once."""

    def __call__(self, obs: Array, episode: Array, step: Array) -> Array:
        """Actions [V, A] for observations [V, D].

        `episode` [V] says which of the seeds each environment is playing (-1: none, the result is
        thrown away) and `step` [V] how many steps it has taken.
        """


class Record(Protocol):
    """Takes every step that is played, row v belonging to `episode[v]` (-1: ignore)."""

    def __call__(
        self, episode: Array, step: Array, obs: Array, action: Array, reward: Array,
        terminated: Array, truncated: Array, next_obs: Array,
    ) -> None:  # fmt: skip
        """All arguments start with [V]; `next_obs` is never an observation after a reset."""


def make_vector(make: Callable[[], gym.Env[Any, Any]], count: int) -> VectorEnv[Any, Any, Any]:
    """`count` environments in this process that wait for `play` to reset them."""
    return SyncVectorEnv([make] * count, autoreset_mode=AutoresetMode.DISABLED)


def play(
    env: VectorEnv[Any, Any, Any],
    seeds: Sequence[int],
    act: Act,
    record: Record | None = None,
    max_steps: int | None = None,
) -> Array:
    """Plays one episode per seed.

    An environment takes the next seed as soon as it is free, so results depend on the seeds and on
    the number of environments, not on time.

    Args:
        env: From `make_vector`.
        seeds: Seed of each episode's reset, [E].
        act: The policy.
        record: Called after every step.
        max_steps: Cuts longer episodes; for environments without a time limit.

    Returns:
        Undiscounted return of each episode, float64 [E].
    """
    count = env.num_envs
    returns = np.zeros(len(seeds))
    episode = np.arange(count)
    episode[episode >= len(seeds)] = -1
    upcoming = count
    step = np.zeros(count, dtype=np.int64)
    obs, _ = env.reset(seed=_seeds_of(episode, seeds))
    while (episode >= 0).any():
        action = act(obs, episode, step)
        next_obs, reward, terminated, truncated, _ = env.step(action)
        if max_steps is not None:
            truncated = truncated | (step + 1 >= max_steps)
        if record is not None:
            record(episode, step, obs, action, reward, terminated, truncated, next_obs)
        playing = episode >= 0
        np.add.at(returns, episode[playing], reward[playing])
        obs = next_obs
        step += 1
        over = terminated | truncated
        if over.any():
            for v in np.flatnonzero(over):
                episode[v] = upcoming if upcoming < len(seeds) else -1
                upcoming += 1
                step[v] = 0
            obs, _ = env.reset(seed=_seeds_of(episode, seeds), options={"reset_mask": over})
    return returns


def _seeds_of(episode: Array, seeds: Sequence[int]) -> Any:  # Gymnasium's types know one int only
    """Seed for the reset of each environment; any will do where no episode is left."""
    return [int(seeds[int(e)]) if e >= 0 else 0 for e in episode]
