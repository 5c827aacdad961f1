"""Random numbers as a function of seed, step and purpose.

Each number is SplitMix64 (Steele, Lea and Flood, 2014) of a counter that starts at a place of the episode's own. There
is no state: an environment in a batch draws the same numbers as one alone, whatever the others do, and a resume needs
the seed and the number of steps only.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

PLACES, COLOURS, RESPAWN, STAG_MOVES, STRAYS, STRAY_ACTIONS, TIES, CHOICES, RESTLESS, MOVED = range(
    10
)
"""Purposes of random numbers; one more for each type of items after MOVED."""
POLICIES, SAMPLED = 14, 15
"""Purposes of trained policies, the last ones."""
_MOST = 256
"""Numbers for a purpose in a step."""
_PURPOSES = 16
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_SHIFTS = tuple(np.uint64(x) for x in (30, 27, 31, 11))
_FACTORS = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_COUNT = np.arange(_MOST, dtype=np.uint64)


def keys(seeds: Sequence[int]) -> Array:
    """The place at which the numbers of each episode start, uint64 [R]."""
    numbers = np.array([seed % 2**64 for seed in seeds], np.uint64)
    return _mixed(_mixed((numbers + np.uint64(1)) * _GOLDEN))


def following(key: Array) -> Array:
    """Keys of the episodes after those of `key`, for resets without a seed; uint64 [R]."""
    return _mixed(_mixed(key) + _GOLDEN)


def uniform(key: Array, step: Array, purpose: int, count: int) -> Array:
    """Numbers in [0, 1), float64 [R, count].

    Args:
        key: Of each episode, uint64 [R].
        step: Of each episode, int64 [R].
        purpose: What they are for.
        count: At most 256.
    """
    first = step.astype(np.uint64) * np.uint64(_MOST * _PURPOSES) + np.uint64(_MOST * purpose)
    place = (first[:, None] + _COUNT[:count]) * _GOLDEN
    place += key[:, None]
    numbers: Array = (_mixed(place) >> _SHIFTS[3]) * 2.0**-53
    return numbers


def _mixed(place: Array) -> Array:
    """The output function of SplitMix64, of uint64 in any shape."""
    x: Array = place ^ (place >> _SHIFTS[0])
    x *= _FACTORS[0]
    x ^= x >> _SHIFTS[1]
    x *= _FACTORS[1]
    x ^= x >> _SHIFTS[2]
    return x
