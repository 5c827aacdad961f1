"""Procgen's games through EnvPool.

An environment draws one level per reset, whatever happened in between, and the level's number seeds
everything else (`Game::reset` of openai/procgen). So the seed of its pool, the number of resets before
it and its actions determine an episode. The time limits, 500 to 6,000 steps by game, truncate.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

from rlbench.envs import pool
from rlbench.envs.pool import EnvPoolEnv, EnvPoolVector
from rlbench.envs.procgen.names import ProcgenName
from rlbench.errors import UserError

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
    """A pool of EnvPool.

    Raises:
        UserError: EnvPool or a library of the system that it needs is missing.
    """
    try:
        return pool.make_pool(env_id, options, seeds, extra="procgen")
    except ImportError as error:
        raise UserError(
            f"{env_id} needs system libraries that are missing ({error.__cause__ or error}); "
            "on Debian and Ubuntu install them with "
            "apt-get install --no-install-recommends libqt5gui5 libqt5core5a"
        ) from None
