"""Atari's games through EnvPool.

The emulator draws its sticky actions from one random stream, once per frame, and a reset leaves the stream
where it is. An episode would depend on the number of frames before it, so each episode has a new pool.
"""

from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np

from rlbench.envs.atari import names
from rlbench.envs.pool import Array, EnvPoolEnv, EpisodePools, MakePool, Spaces, make_pool, package

EXTRA = "atari"


class AtariEnv(EnvPoolEnv):
    """One environment of a game, with raw rewards or clipped ones.

    Observations are uint8 [4, 84, 84], the oldest picture first; there are 18 actions.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 60 // names.FRAME_SKIP}  # noqa: RUF012

    def __init__(self, game: str, *, clipped: bool) -> None:
        """Leaves the pool to the first reset.

        Raises:
            UserError: EnvPool is missing.
        """
        super().__init__(_pools(game, clipped), names.MAX_STEPS, _spaces())
        self.render_mode = "rgb_array"

    def render(self) -> Array:
        """The latest picture of the observation, uint8 [84, 84, 3]."""
        return np.repeat(self._obs[-1][..., None], 3, axis=-1)


def make_vector(game: str, count: int, *, clipped: bool) -> EpisodePools:
    """`count` environments of a game, stepped in parallel.

    Raises:
        UserError: EnvPool is missing.
    """
    return EpisodePools(_pools(game, clipped), count, _spaces())


def _pools(game: str, clipped: bool) -> MakePool:
    """Makes the pools of a game."""
    env_id = names.env_id(game)
    package(env_id, EXTRA)
    return partial(make_pool, env_id, names.options(clipped=clipped), extra=EXTRA)


def _spaces() -> Spaces:
    """The spaces of all games, which EnvPool would load a game to find."""
    pictures: gym.Space[Any] = gym.spaces.Box(
        0, 255, (names.STACK, names.SIDE, names.SIDE), np.uint8
    )
    return pictures, gym.spaces.Discrete(names.ACTIONS)
