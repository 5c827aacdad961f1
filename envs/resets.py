"""Interprets the arguments of `reset` for the vector environments of this package."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray

Array = NDArray[Any]


def episodes_to_begin(
    vector: VectorEnv[Any, Any, Any],
    seed: int | Sequence[int | None] | None,
    options: Mapping[str, Any] | None,
) -> tuple[Array, list[int]]:
    """Which environments begin an episode, and with which seeds.

    Args:
        vector: V environments.
        seed: One seed per environment, or the first of V consecutive seeds; None draws.
        options: `reset_mask`, bool [V]: only these begin a new episode. Without it, all do.

    Returns:
        The mask, bool [V], and the seeds of the environments in it, in their order.

    Raises:
        ValueError: The number of seeds or the mask does not fit.
    """
    count = vector.num_envs
    seeds = [None] * count if seed is None else seed
    if isinstance(seeds, int):
        seeds = range(seeds, seeds + count)
    if len(seeds) != count:
        raise ValueError(f"got {len(seeds)} seeds for {count} environments")
    mask = (options or {}).get("reset_mask")
    if mask is None:
        mask = np.ones(count, bool)
    elif mask.shape != (count,) or mask.dtype != bool:
        raise ValueError(f"reset_mask is {mask.dtype} {list(mask.shape)}, expected bool [{count}]")
    given = (seeds[row] for row in np.flatnonzero(mask).tolist())
    return mask, [int(vector.np_random.integers(2**31)) if x is None else int(x) for x in given]
