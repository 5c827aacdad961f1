"""The handwritten digits pixel by pixel: sequences of 64 numbers, in reading order or in a fixed random order.

The permuted order is the same for all images and seeds. It makes the task harder for a memory, because neighbouring pixels
end up far apart.

After Le et al., 2015, https://arxiv.org/abs/1504.00941, section 4.2, with images of 28x28 pixels.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import Space, spaces

from rlbench.envs.examples._base import Array, Source, Split
from rlbench.envs.examples.digits import Digits

PIXELS = 64


class DigitsPixels(Source):
    """Sequences [64, 1] of numbers from 0 to 1, and classes 0 to 9."""

    kind = "shipped"
    seeded = False

    def __init__(self, *, permuted: bool = False) -> None:
        """In reading order, or in one random order."""
        self._digits = Digits()
        order = np.arange(PIXELS)
        self._order = np.random.default_rng(0).permutation(order) if permuted else order

    @property
    def fields(self) -> Mapping[str, Space[Any]]:
        """See `Source`."""
        return {
            "obs": spaces.Box(0.0, 1.0, (PIXELS, 1), np.float32),
            "label": spaces.Discrete(10),
        }

    @property
    def sizes(self) -> Mapping[Split, int]:
        """See `Source`."""
        return self._digits.sizes

    def sample(self, split: Split, size: int, seed: int) -> Mapping[str, Array]:
        """See `Source`; the same for every seed."""
        found = self._digits.sample(split, size, seed)
        pixels = found["obs"].reshape(-1, PIXELS, 1)[:, self._order]
        return {"obs": pixels.astype(np.float32) / 255, "label": found["label"]}


def permuted() -> DigitsPixels:
    """In the random order."""
    return DigitsPixels(permuted=True)
