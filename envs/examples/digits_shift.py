"""Handwritten digits at random places of a noisy canvas: harder than the digits, and trained on within seconds.

    obs = (canvas + noise) / 1.5 * 255        digit, from 0 to 1, at a uniformly random place of 12x12 pixels; noise U(0, 0.5)

Every image of `digits` gives two examples, one after the other, with places and noise of their own. Training and
test images are divided as in `digits`, so no image is in both splits.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import Space, spaces

from rlbench.envs.examples._base import Array, Source, Split
from rlbench.envs.examples.digits import Digits
from rlbench.seeding import derive

CANVAS, DIGIT = 12, 8
"""Rows and columns of an example, and of a digit."""
COPIES = 2
NOISE = 0.5
"""Largest noise; the brightest pixel of a digit is 1."""


class DigitsShift(Source):
    """Images [12, 12, 1] of bytes, 0 to 255, and classes 0 to 9."""

    kind = "generated"

    def __init__(self) -> None:
        """Prepares the digits."""
        self._digits = Digits()

    @property
    def fields(self) -> Mapping[str, Space[Any]]:
        """See `Source`."""
        shape = (CANVAS, CANVAS, 1)
        return {"obs": spaces.Box(0, 255, shape, np.uint8), "label": spaces.Discrete(10)}

    @property
    def sizes(self) -> Mapping[Split, int]:
        """See `Source`."""
        return {split: COPIES * size for split, size in self._digits.sizes.items()}

    def sample(self, split: Split, size: int, seed: int) -> Mapping[str, Array]:
        """See `Source`."""
        # All are drawn, so that the first ones do not depend on the size.
        count = self.sizes[split]
        rng = np.random.default_rng(derive(seed, "digits-shift", split))
        rows, columns = rng.integers(CANVAS - DIGIT + 1, size=(2, count))
        canvas = rng.uniform(0.0, NOISE, (count, CANVAS, CANVAS, 1))
        digits = self._digits.sample(split, count // COPIES, seed)
        images, labels = (digits[name].repeat(COPIES, axis=0) for name in ("obs", "label"))
        for one, image, row, column in zip(canvas, images / 255, rows, columns, strict=True):
            one[row : row + DIGIT, column : column + DIGIT] += image
        obs = np.rint(canvas * (255 / (1 + NOISE))).astype(np.uint8)
        return {"obs": obs[:size], "label": labels[:size]}
