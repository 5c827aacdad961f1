"""Environments of EnvPool as Gymnasium environments.

EnvPool (https://github.com/sail-sg/envpool, measured with 1.2.5) steps a batch of environments in C++.
Its behaviour at the end of an episode, which the classes here hide:

- The step that ends an episode returns its true last observation, `terminated` and `truncated`. A time
  limit is `truncated` and not `terminated`.
- The next step of that environment is a reset: its action is ignored, its reward is 0.
- `reset(env_id)` begins new episodes in the given environments, at any time, and returns only their rows.

Seeds belong to a pool, one for each environment, and cannot be changed later: a new pool is made
whenever the seeds of all environments are given. `EnvPoolVector` is for families in which a reset draws
the same numbers whatever happened before it, so that an episode depends on the seed of its pool, the
number of resets before it and its actions. `EpisodePools` is for all others.
"""

from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from rlbench.errors import UserError

Array = NDArray[Any]
MakePool = Callable[[Sequence[int]], Any]
"""Makes a pool of as many environments as there are seeds, each below 2**31."""
Spaces = tuple[gym.Space[Any], gym.Space[Any]]
"""Space of one observation and space of one action."""


class EnvPoolVector(VectorEnv[Array, Array, Array]):
    """A pool of environments as a vector that leaves resets to the caller.

    A seed decides all episodes of an environment: `reset` with a mask continues its random stream,
    and `repeat` (see `rlbench.envs.episodes.Repeats`) returns to an earlier position in it.
    """

    def __init__(self, make_pool: MakePool, count: int, spaces: Spaces | None = None) -> None:
        """Makes the pool, or defers it to the first reset if the spaces are known.

        Args:
            make_pool: See `MakePool`.
            count: Number of environments, V.
            spaces: The spaces of the pool, if they are known.
        """
        self._make_pool = make_pool
        self._pool: Any = None
        if spaces is None:
            self._pool = made = make_pool(range(count))
            spaces = made.observation_space, made.action_space
        _describe(self, count, spaces)
        self._obs = _no_obs(self)
        self._over = np.zeros(count, dtype=bool)

    def reset(
        self,
        *,
        seed: int | Sequence[int] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Array, dict[str, Any]]:
        """Begins new episodes.

        Args:
            seed: One for each environment, or the first of V consecutive ones; ignored if there
                is a mask.
            options: `reset_mask`, bool [V], selects environments; all without it.

        Returns:
            Observations [V, ...], unchanged for running episodes, and `info` with only the rows
            that began; its `env_id` has their numbers.
        """
        mask = (options or {}).get("reset_mask")
        if mask is None:
            if seed is not None or self._pool is None:
                self._pool = self._make_pool(_seeds(seed, self.num_envs))
            mask = np.ones(self.num_envs, dtype=bool)
        begun = np.flatnonzero(mask).astype(np.int32)
        obs, info = self._pool.reset(begun)
        self._obs[begun] = obs
        self._over[begun] = False
        return self._obs.copy(), info

    def step(self, actions: Array) -> tuple[Array, Array, Array, Array, dict[str, Any]]:
        """One step in each environment.

        Args:
            actions: [V, ...].

        Returns:
            Observations [V, ...], the last ones of episodes that ended, rewards [V], terminated [V],
            truncated [V] and `info`, with the `level_seed` [V] of Procgen's games.
        """
        _refuse_ended(self._over)
        self._obs, reward, terminated, truncated, info = self._pool.step(np.asarray(actions))
        self._over = terminated | truncated
        return self._obs.copy(), reward, terminated, truncated, info

    def repeat(self, seeds: Sequence[int], episode: Array, actions: Sequence[Array]) -> Array:
        """Observations [V, ...] of episode number `episode` [V] of each environment, after its actions."""
        self.reset(seed=seeds)
        for number in range(episode.max()):
            self.reset(options={"reset_mask": episode > number})
        for v, taken in enumerate(actions):
            for action in taken:
                self._obs[[v]] = self._pool.step(action[None], np.array([v], np.int32))[0]
        return self._obs.copy()

    def close_extras(self) -> None:
        """Ends the pool's threads."""
        del self._pool


class EpisodePools(VectorEnv[Array, Array, Array]):
    """Environments that each have their own pool, a new one for every episode, which thus depends on its seed alone.

    A step sends actions to as many pools at a time as PyTorch may use threads, and then waits for them, so
    these pools are stepped in parallel.
    """

    def __init__(self, make_pool: MakePool, count: int, spaces: Spaces) -> None:
        """Defers making the pools to the first reset.

        Args:
            make_pool: See `MakePool`; it is given one seed at a time.
            count: Number of environments, V.
            spaces: The spaces of each pool.
        """
        self._make_pool = make_pool
        _describe(self, count, spaces)
        self._pools: list[Any] = [None] * count
        self._obs = _no_obs(self)
        self._over = np.zeros(count, dtype=bool)

    def reset(
        self,
        *,
        seed: int | Sequence[int] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Array, dict[str, Any]]:
        """Begins new episodes.

        Args:
            seed: One for each environment, or the first of V consecutive ones. Without it, the
                pools stay and their random streams continue.
            options: `reset_mask`, bool [V], selects environments; all without it.

        Returns:
            Observations [V, ...], unchanged for running episodes, and an empty `info`.
        """
        mask = (options or {}).get("reset_mask")
        begun = range(self.num_envs) if mask is None else np.flatnonzero(mask).tolist()
        seeds = _seeds(seed, self.num_envs)
        for v in begun:
            if seed is not None or self._pools[v] is None:
                self._pools[v] = None  # Frees the old pool before the new one is made.
                self._pools[v] = self._make_pool([seeds[v]])
            self._obs[v] = self._pools[v].reset(np.zeros(1, np.int32))[0][0]
            self._over[v] = False
        return self._obs.copy(), {}

    def step(self, actions: Array) -> tuple[Array, Array, Array, Array, dict[str, Any]]:
        """One step in each environment.

        Args:
            actions: [V, ...].

        Returns:
            Observations [V, ...], the last ones of episodes that ended, rewards [V], terminated [V],
            truncated [V] and an empty `info`.
        """
        _refuse_ended(self._over)
        rows, actions = range(self.num_envs), np.asarray(actions)
        reward = np.zeros(self.num_envs, np.float32)
        terminated, truncated = np.zeros((2, self.num_envs), dtype=bool)
        threads = torch.get_num_threads()
        for together in (rows[first : first + threads] for first in rows[::threads]):
            for v in together:
                self._pools[v].send(actions[v : v + 1])
            for v in together:
                seen = self._pools[v].recv()
                self._obs[v], reward[v], terminated[v], truncated[v] = (x[0] for x in seen[:4])
        self._over = terminated | truncated
        return self._obs.copy(), reward, terminated, truncated, {}

    def close_extras(self) -> None:
        """Ends the pools' threads."""
        self._pools.clear()


def _describe(vector: VectorEnv[Any, Any, Any], count: int, spaces: Spaces) -> None:
    """Sets the attributes of a vector environment with `count` environments."""
    vector.metadata = {"autoreset_mode": AutoresetMode.DISABLED}
    vector.num_envs = count
    vector.single_observation_space, vector.single_action_space = spaces
    vector.observation_space = batch_space(vector.single_observation_space, count)
    vector.action_space = batch_space(vector.single_action_space, count)


def _no_obs(vector: VectorEnv[Any, Any, Any]) -> Array:
    """Zeros in the shape of a vector environment's observations, [V, ...]."""
    space = vector.single_observation_space
    return np.zeros((vector.num_envs, *(space.shape or ())), space.dtype)


def _seeds(seed: int | Sequence[int] | None, count: int) -> Sequence[int]:
    """One seed for each environment, from 0 if none is given."""
    seed = 0 if seed is None else seed
    return range(seed, seed + count) if isinstance(seed, int) else seed


def _refuse_ended(over: Array) -> None:
    # The pool would begin a new episode instead of taking the action.
    if over.any():
        raise ValueError(
            f"the episodes of environments {np.flatnonzero(over).tolist()} are over; "
            "reset them before the next step"
        )


class EnvPoolEnv(gym.Env[Array, Any]):
    """A single environment: a pool of one, whose episodes are reproducible by their seeds."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 15}  # noqa: RUF012

    def __init__(
        self, make_pool: MakePool, max_steps: int | None = None, spaces: Spaces | None = None
    ) -> None:
        """Makes the pool, or defers it to the first reset if the spaces are known.

        Args:
            make_pool: See `MakePool`.
            max_steps: Number of steps after which the pool truncates an episode; None if unknown.
            spaces: The spaces of the pool, if they are known.
        """
        self._vector = EnvPoolVector(make_pool, 1, spaces)
        self.max_steps = max_steps
        self.observation_space = space = self._vector.single_observation_space
        self.action_space = self._vector.single_action_space
        self._obs: Array = np.zeros(space.shape or (), space.dtype)
        if self._obs.dtype == np.uint8 and self._obs.ndim == 3 and len(self._obs) == 3:
            self.render_mode = "rgb_array"

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """A new episode; with a seed, in a new pool."""
        (self._obs,), info = self._vector.reset(seed=seed)
        return self._obs, info

    def step(self, action: Any) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """One step."""
        (self._obs,), reward, terminated, truncated, info = self._vector.step(np.asarray([action]))
        return self._obs, float(reward[0]), bool(terminated[0]), bool(truncated[0]), info

    def render(self) -> Array | None:
        """The agent's observation, uint8 [H, W, 3]; None if it is not a picture."""
        return None if self.render_mode is None else self._obs.transpose(1, 2, 0)

    def close(self) -> None:
        """Ends the pool's thread."""
        self._vector.close()


def make_pool(env_id: str, options: dict[str, Any], seeds: Sequence[int], extra: str) -> Any:
    """A pool of EnvPool, with as many threads as PyTorch may use; their number does not affect results.

    Args:
        env_id: EnvPool's id.
        options: EnvPool's options.
        seeds: One for each environment.
        extra: The extra of this package to install if EnvPool is missing.

    Raises:
        UserError: EnvPool is missing.
    """
    threads = min(len(seeds), torch.get_num_threads())
    return package(env_id, extra).make_gymnasium(
        env_id, num_envs=len(seeds), env_seed=list(seeds), num_threads=threads, **options
    )


def package(env_id: str, extra: str) -> Any:
    """The package envpool.

    Raises:
        UserError: It is missing.
    """
    try:
        import envpool
    except ModuleNotFoundError as error:
        raise UserError(
            f"{env_id} needs the package {error.name}; install it with "
            f"pip install 'rlbench[{extra}]' (about 730 MB)"
        ) from None
    return envpool
