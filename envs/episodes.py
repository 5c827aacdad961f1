"""Whole episodes in several environments in parallel, each with its own seed."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from rlbench.envs.contract import Checked, as_obs
from rlbench.errors import UserError

Array = NDArray[Any]


class Act(Protocol):
    """Chooses actions for all environments at once."""

    def __call__(self, obs: Array, episode: Array, step: Array) -> Array:
        """Actions [V, A] for observations [V, D].

        `episode` [V] is the index of the seed that each environment is playing (-1: none, the action
        is ignored) and `step` [V] the number of steps it has taken.
        """


class Record(Protocol):
    """Receives every step that is played; row v belongs to `episode[v]` (-1: ignore)."""

    def __call__(
        self, episode: Array, step: Array, obs: Array, action: Array, reward: Array,
        terminated: Array, truncated: Array, next_obs: Array,
    ) -> None:  # fmt: skip
        """All arguments start with [V]; `next_obs` is never an observation after a reset."""


@runtime_checkable
class Repeats(Protocol):
    """A vector whose environments draw all their episodes from the seed of the first one."""

    def repeat(self, seeds: Sequence[int], episode: Array, actions: Sequence[Array]) -> Array:
        """Returns every environment to an earlier position.

        Args:
            seeds: Seeds of the first `reset`, [V].
            episode: Number of episodes that each environment has completed since then, [V].
            actions: Actions of each environment in the next episode, V times [K, ...].

        Returns:
            The observations at that position, [V, ...].
        """


class Environments(Protocol):
    """Environments in parallel, each in its own episode."""

    observation_space: gym.Space[Any]
    action_space: gym.Space[Any]

    def reset(self, v: int, seed: int) -> Array:
        """Begins an episode in environment number v; its first observation, [D]."""

    def step(self, playing: Array, action: Array) -> tuple[Array, Array, Array, Array]:
        """One step in the environments `playing` [P], with actions [P, A].

        Returns:
            Observations [P, D], rewards [P], terminated [P], truncated [P].
        """

    def close(self) -> None:
        """Closes the environments."""

    def __len__(self) -> int:
        """Number of environments."""


class Separate:
    """Environments of any kind, one after the other."""

    def __init__(self, envs: Sequence[gym.Env[Any, Any]], name: str | None = None) -> None:
        """Wraps the environments without resetting them.

        Args:
            envs: They are checked at every step; see `Checked`.
            name: Name in errors; their class if None.

        Raises:
            UserError: Their shapes or actions differ.
        """
        self.envs = [Checked(env, name) for env in envs]
        first = self.envs[0]
        self.observation_space, self.action_space = first.observation_space, first.action_space
        for env in self.envs:
            shape, action_space = env.observation_space.shape, env.action_space
            if (shape, action_space) != (first.observation_space.shape, first.action_space):
                raise UserError(
                    f"{env.name} has the spaces {env.observation_space} and {action_space}, but had "
                    f"{first.observation_space} and {first.action_space} when it was made the first time; "
                    "make the factory return environments with the same spaces every time"
                )
        self.step_limit = step_limit(envs[0])
        """See `step_limit`."""

    def __len__(self) -> int:
        """See `Environments`."""
        return len(self.envs)

    def reset(self, v: int, seed: int) -> Array:
        """See `Environments`."""
        return self.envs[v].reset(seed)

    def step(self, playing: Array, action: Array) -> tuple[Array, Array, Array, Array]:
        """See `Environments`."""
        steps = [self.envs[v].step(a) for v, a in zip(playing.tolist(), action, strict=True)]
        obs, reward, terminated, truncated = zip(*steps, strict=True)
        return np.array(obs), np.array(reward), np.array(terminated), np.array(truncated)

    def close(self) -> None:
        """See `Environments`."""
        for env in self.envs:
            env.close()


def step_limit(env: gym.Env[Any, Any]) -> int | None:
    """Steps after which an environment itself ends an episode; None if unknown.

    This is the smallest limit named by the environment or one of its wrappers. Registration alone does
    not count: it adds a `TimeLimit`, which `unwrapped` removes, and an environment with a `TimeLimit`
    need not be registered.
    """
    found: list[Any] = []
    layer: Any = env
    while isinstance(layer, gym.Env):
        # Looked up without running properties, also in the class.
        found += [inspect.getattr_static(layer, name, None) for name in _LIMIT_NAMES]
        layer = getattr(layer, "env", None)
    limits = [
        int(x)
        for x in found
        if isinstance(x, int | np.integer) and not isinstance(x, bool) and x > 0
    ]
    return min(limits, default=None)


_LIMIT_NAMES = ("_max_episode_steps", "max_episode_steps", "max_steps")
"""Names of the limit in Gymnasium's TimeLimit and environments, in MiniGrid and in this suite."""


def make_envs(
    make: Callable[[], gym.Env[Any, Any]], count: int, name: str | None = None
) -> Environments:
    """`count` environments in this process that wait for `play` to reset them.

    Args:
        make: Makes one environment.
        count: Number of environments.
        name: Name in errors; their class if None.
    """
    envs = [make() for _ in range(count)]
    if type(envs[0].unwrapped).__module__.startswith("gymnasium.envs.mujoco."):
        from rlbench.envs.d4rl import vector_locomotion as locomotion

        if locomotion.are_walkers(envs):
            return locomotion.walkers(envs)
    return Separate(envs, name)


def play(
    envs: Environments,
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
    count = len(envs)
    returns = np.zeros(len(seeds))
    episode = np.full(count, -1)
    upcoming = 0
    step = np.zeros(count, dtype=np.int64)
    obs: Array | None = None
    over = np.ones(count, dtype=bool)
    while True:
        for v in np.flatnonzero(over).tolist():
            episode[v] = upcoming if upcoming < len(seeds) else -1
            upcoming += 1
            step[v] = 0
            if episode[v] >= 0:
                first = as_obs(envs.reset(v, int(seeds[episode[v]])), envs.observation_space)
                if obs is None:
                    obs = np.zeros((count, *first.shape), first.dtype)
                obs[v] = first
        playing = np.flatnonzero(episode >= 0)
        if obs is None or not len(playing):
            return returns
        action = act(obs, episode, step)
        next_obs, reward = obs.copy(), np.zeros(count)
        terminated, truncated = np.zeros(count, dtype=bool), np.zeros(count, dtype=bool)
        # Gymnasium's vectors also step environments that have nothing left to play, which may be most.
        next_obs[playing], reward[playing], terminated[playing], truncated[playing] = envs.step(
            playing, action[playing]
        )
        if max_steps is not None:
            truncated |= step + 1 >= max_steps
        if record is not None:
            record(episode, step, obs, action, reward, terminated, truncated, next_obs)
        returns[episode[playing]] += reward[playing]
        # Copies, because the recorder may keep these arrays.
        obs, step, episode = next_obs.copy(), step.copy(), episode.copy()
        step[playing] += 1
        over = terminated | truncated
