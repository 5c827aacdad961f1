"""Random numbers as a function of seed, step and purpose.

Each number is SplitMix64 (Steele, Lea and Flood, 2014) of a counter that starts at a different value in each episode. There
is no state: an environment draws the same numbers alone and in a batch, whatever the others do, and a resume needs only
the seed and the number of steps.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

PLACES, COLOURS, RESPAWN, STAG_MOVES, STRAYS, STRAY_ACTIONS, TIES, CHOICES, RESTLESS, MOVED = range(
    10
)
"""Purposes of random numbers; MOVED + i is for the item with number i."""
POLICIES, SAMPLED = 14, 15
"""Purposes for trained policies; these are the last ones."""
_MOST = 256
"""Largest number of random numbers for one purpose in one step."""
_PURPOSES = 16
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_SHIFTS = tuple(np.uint64(x) for x in (30, 27, 31, 11))
_FACTORS = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_COUNT = np.arange(_MOST, dtype=np.uint64)


def keys(seeds: Sequence[int]) -> Array:
    """Start of the counter of each episode, uint64 [R], from R seeds."""
    numbers = np.array([seed % 2**64 for seed in seeds], np.uint64)
    return _mixed(_mixed((numbers + np.uint64(1)) * _GOLDEN))


def following(key: Array) -> Array:
    """Keys of the next episodes after `key`, for resets without a seed; uint64 [R]."""
    return _mixed(_mixed(key) + _GOLDEN)


def uniform(key: Array, step: Array, purpose: int, count: int) -> Array:
    """Numbers in [0, 1), float64 [R, count].

    Args:
        key: Key of each episode, uint64 [R].
        step: Step of each episode, int64 [R].
        purpose: Purpose of the numbers.
        count: Number of random numbers per episode, at most 256.
    """
    first = step.astype(np.uint64) * np.uint64(_MOST * _PURPOSES) + np.uint64(_MOST * purpose)
    place = (first[:, None] + _COUNT[:count]) * _GOLDEN
    place += key[:, None]
    numbers: Array = (_mixed(place) >> _SHIFTS[3]) * 2.0**-53
    return numbers


def _mixed(place: Array) -> Array:
    """The output function of SplitMix64 for uint64 of any shape."""
    x: Array = place ^ (place >> _SHIFTS[0])
    x *= _FACTORS[0]
    x ^= x >> _SHIFTS[1]
    x *= _FACTORS[1]
    x ^= x >> _SHIFTS[2]
    return x
