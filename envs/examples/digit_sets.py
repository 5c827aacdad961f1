"""The handwritten digits of `digits` as one set for each class: 0 to 4 in training, 5 to 9 in tests.

    obs     170 images of 8x8 pixels
    label   their class

These are few classes, but real drawings: a check of what was found on glyphs. Every digit has a few more images, which are left
out.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import Space, spaces

from rlbench.envs.examples._base import Array, Source, Split
from rlbench.envs.examples.digits import Digits

IMAGES = 170
"""Images of a set; the digit 8 has 174, all others more."""
CLASSES: Mapping[Split, int] = {"train": 5, "test": 5}


class DigitSets(Source):
    """Sets of images [170, 8, 8, 1] of bytes and the digit of each set."""

    kind = "shipped"
    seeded = False

    @property
    def fields(self) -> Mapping[str, Space[Any]]:
        """See `Source`."""
        return {
            "obs": spaces.Box(0, 255, (IMAGES, 8, 8, 1), np.uint8),
            "label": spaces.Discrete(sum(CLASSES.values())),
        }

    @property
    def sizes(self) -> Mapping[Split, int]:
        """See `Source`."""
        return CLASSES

    def sample(self, split: Split, size: int, seed: int) -> Mapping[str, Array]:
        """See `Source`; the same for every seed."""
        digits = Digits()
        parts = [digits.sample(x, digits.sizes[x], seed) for x in ("train", "test")]
        images, digit = (
            np.concatenate([part[name] for part in parts]) for name in ("obs", "label")
        )
        label = np.arange(size) + (0 if split == "train" else CLASSES["train"])
        return {"obs": np.stack([images[digit == x][:IMAGES] for x in label]), "label": label}
