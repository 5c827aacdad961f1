"""Whole episodes on several environments side by side, each with a seed of its own."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class Act(Protocol):
    """Chooses actions for all environments at once."""

    def __call__(self, obs: Array, episode: Array, step: Array) -> Array:
        """Actions [V, A] for observations [V, D].

        `episode` [V] says which of the seeds each environment is playing (-1: none, the action is
        not taken) and `step` [V] how many steps it has taken.
        """


class Record(Protocol):
    """Takes every step that is played, row v belonging to `episode[v]` (-1: ignore)."""

    def __call__(
        self, episode: Array, step: Array, obs: Array, action: Array, reward: Array,
        terminated: Array, truncated: Array, next_obs: Array,
    ) -> None:  # fmt: skip
        """All arguments start with [V]; `next_obs` is never an observation after a reset."""


@runtime_checkable
class Repeats(Protocol):
    """A vector whose environments draw all their episodes from the seed of their first one."""

    def repeat(self, seeds: Sequence[int], episode: Array, actions: Sequence[Array]) -> Array:
        """Leads every environment to where it was once before.

        Args:
            seeds: With which `reset` began, [V].
            episode: Episodes that each environment has completed since, [V].
            actions: What each did in the one that followed, V times [K, ...].

        Returns:
            The observations there, [V, ...].
        """


def make_envs(make: Callable[[], gym.Env[Any, Any]], count: int) -> list[gym.Env[Any, Any]]:
    """`count` environments in this process that wait for `play` to reset them."""
    return [make() for _ in range(count)]


def play(
    envs: Sequence[gym.Env[Any, Any]],
    seeds: Sequence[int],
    act: Act,
    record: Record | None = None,
    max_steps: int | None = None,
) -> Array:
    """Plays one episode per seed.

    An environment takes the next seed as soon as it is free, so results depend on the seeds and on
    the number of environments, not on time.

    Args:
        envs: From `make_envs`.
        seeds: Seed of each episode's reset, [E].
        act: The policy.
        record: Called after every step.
        max_steps: Cuts longer episodes; for environments without a time limit.

    Returns:
        Undiscounted return of each episode, float64 [E].
    """
    count, space = len(envs), envs[0].observation_space
    returns = np.zeros(len(seeds))
    episode = np.full(count, -1)
    upcoming = 0
    step = np.zeros(count, dtype=np.int64)
    obs = np.zeros((count, *(space.shape or ())), space.dtype)
    over = np.ones(count, dtype=bool)
    while True:
        for v in np.flatnonzero(over).tolist():
            episode[v] = upcoming if upcoming < len(seeds) else -1
            upcoming += 1
            step[v] = 0
            if episode[v] >= 0:
                obs[v], _ = envs[v].reset(seed=int(seeds[episode[v]]))
        playing = np.flatnonzero(episode >= 0)
        if not len(playing):
            return returns
        action = act(obs, episode, step)
        next_obs, reward = obs.copy(), np.zeros(count)
        terminated, truncated = np.zeros(count, dtype=bool), np.zeros(count, dtype=bool)
        # Gymnasium's vectors also step those that have nothing left to play, which may be most.
        for v in playing.tolist():
            next_obs[v], reward[v], terminated[v], truncated[v], _ = envs[v].step(action[v])
        if max_steps is not None:
            truncated |= step + 1 >= max_steps
        if record is not None:
            record(episode, step, obs, action, reward, terminated, truncated, next_obs)
        returns[episode[playing]] += reward[playing]
        step[playing] += 1
        obs, over = next_obs, terminated | truncated
