"""Atari's games through EnvPool.

The emulator draws its sticky actions from one random stream, once per frame, and a reset leaves the stream
where it is. In a shared pool, an episode would depend on the number of frames before it, so each episode has its own.
"""

from functools import cache, partial

import numpy as np

from rlbench.envs.atari import names
from rlbench.envs.pool import Array, EnvPoolEnv, EpisodePools, MakePool, Spaces, make_pool, package

EXTRA = "atari"


class AtariEnv(EnvPoolEnv):
    """One environment of a game, with raw rewards or clipped ones.

    Observations are uint8 [4, 84, 84], the oldest picture first; there are 18 actions, or 9 in a
    few games.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 60 // names.FRAME_SKIP}  # noqa: RUF012

    def __init__(self, game: str, *, clipped: bool) -> None:
        """Defers making the pool to the first reset.

        Raises:
            UserError: EnvPool is missing.
        """
        super().__init__(_pools(game, clipped), names.MAX_STEPS, spaces(game))
        self.render_mode = "rgb_array"

    def render(self) -> Array:
        """The latest picture of the observation, uint8 [84, 84, 3]."""
        return np.repeat(self._obs[-1][..., None], 3, axis=-1)


def make_vector(game: str, count: int, *, clipped: bool) -> EpisodePools:
    """`count` environments of a game, stepped in parallel.

    Raises:
        UserError: EnvPool is missing.
    """
    return EpisodePools(_pools(game, clipped), count, spaces(game))


def _pools(game: str, clipped: bool) -> MakePool:
    """Makes the pools of a game."""
    return partial(make_pool, names.env_id(game), names.options(clipped=clipped), extra=EXTRA)


@cache
def spaces(game: str) -> Spaces:
    """The spaces of a game; EnvPool loads the game to find them, which takes a tenth of a second.

    Raises:
        UserError: EnvPool is missing.
    """
    env_id = names.env_id(game)
    spec = package(env_id, EXTRA).make_spec(env_id, **names.options(clipped=False))
    return spec.observation_space, spec.action_space
