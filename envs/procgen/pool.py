"""Procgen's games, and other environments of EnvPool, as Gymnasium environments.

EnvPool (https://github.com/sail-sg/envpool, measured with 1.2.5) steps a batch of environments in C++.
Its behaviour at the end of an episode, which `EnvPoolVector` hides:

- The step that ends an episode returns its true last observation, `terminated` and `truncated`. A time
  limit (Procgen: 500 to 6,000 steps, by game) is `truncated` and not `terminated`.
- The next step of that environment is a reset: its action is ignored, its reward is 0.
- `reset(env_id)` begins new episodes in the given environments, at any time, and returns only their rows.

Seeds belong to a pool, one for each environment, and cannot be changed later: a new pool is made
whenever the seeds of all environments are given. An environment draws one level per reset, whatever
happened in between, and the level's number seeds everything else (`Game::reset` of openai/procgen). So
the seed of its pool, the number of resets before it and its actions determine an episode.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from rlbench.envs.procgen.names import ProcgenName
from rlbench.errors import UserError

Array = NDArray[Any]
MakePool = Callable[[Sequence[int]], Any]
"""Makes a pool of as many environments as there are seeds, each below 2**31."""


class EnvPoolVector(VectorEnv[Array, Array, Array]):
    """A pool of environments as a vector that leaves resets to the caller.

    A seed decides all episodes of an environment: `reset` with a mask continues its random stream,
    and `repeat` (see `rlbench.envs.episodes.Repeats`) returns to an earlier position in it.
    """

    def __init__(self, make_pool: MakePool, count: int) -> None:
        """Makes the pool.

        Args:
            make_pool: See `MakePool`.
            count: Number of environments, V.
        """
        self.metadata = {"autoreset_mode": AutoresetMode.DISABLED}
        self.num_envs = count
        self._make_pool = make_pool
        self._pool = make_pool(range(count))
        self.single_observation_space = self._pool.observation_space
        self.single_action_space = self._pool.action_space
        self.observation_space = batch_space(self.single_observation_space, count)
        self.action_space = batch_space(self.single_action_space, count)
        space = self.single_observation_space
        self._obs: Array = np.zeros((count, *(space.shape or ())), space.dtype)
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
            if seed is not None:
                seeds = range(seed, seed + self.num_envs) if isinstance(seed, int) else seed
                self._pool = self._make_pool(seeds)
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
        if self._over.any():
            # The pool would begin a new episode instead of taking the action.
            raise ValueError(
                f"the episodes of environments {np.flatnonzero(self._over).tolist()} are over; "
                "reset them before the next step"
            )
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


class EnvPoolEnv(gym.Env[Array, Any]):
    """A single environment: a pool of one, whose episodes are repeated by their seeds."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 15}  # noqa: RUF012

    def __init__(self, make_pool: MakePool, max_steps: int | None = None) -> None:
        """Makes the pool, in which episodes are cut after `max_steps` steps; None if unknown."""
        self._vector = EnvPoolVector(make_pool, 1)
        self.max_steps = max_steps
        self.observation_space = space = self._vector.single_observation_space
        self.action_space = self._vector.single_action_space
        self._obs: Array = np.zeros(space.shape or (), space.dtype)
        if self._obs.dtype == np.uint8 and self._obs.ndim == 3 and len(self._obs) == 3:
            self.render_mode = "rgb_array"

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """A new episode; with a seed, in a new pool, which takes a millisecond."""
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


MAX_STEPS = {"leaper": 500, "maze": 500, "bossfight": 4_000, "plunder": 4_000, "bigfish": 6_000}
"""Time limits of the games in steps (openai/procgen, src/games); all others have 1,000."""


def make_env(name: ProcgenName) -> EnvPoolEnv:
    """One environment of a game; observations are uint8 [3, 64, 64], there are 15 actions."""
    return EnvPoolEnv(
        partial(make_pool, name.env_id, name.options), MAX_STEPS.get(name.game, 1_000)
    )


def make_vector(name: ProcgenName, count: int) -> EnvPoolVector:
    """`count` environments of a game in one pool."""
    return EnvPoolVector(partial(make_pool, name.env_id, name.options), count)


def make_pool(env_id: str, options: dict[str, Any], seeds: Sequence[int]) -> Any:
    """A pool of EnvPool, with as many threads as PyTorch may use; their number changes no result.

    Raises:
        UserError: EnvPool or a library of the system that it needs is missing.
    """
    try:
        import envpool
    except ModuleNotFoundError as error:
        raise UserError(
            f"{env_id} needs the package {error.name}; install it with "
            "pip install 'rlbench[procgen]' (about 730 MB)"
        ) from None
    threads = min(len(seeds), torch.get_num_threads())
    try:
        return envpool.make_gymnasium(
            env_id, num_envs=len(seeds), env_seed=list(seeds), num_threads=threads, **options
        )
    except ImportError as error:
        raise UserError(
            f"{env_id} needs system libraries that are missing ({error.__cause__ or error}); "
            "on Debian and Ubuntu install them with "
            "apt-get install --no-install-recommends libqt5gui5 libqt5core5a"
        ) from None
