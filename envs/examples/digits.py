"""The handwritten digits that scikit-learn ships: 1,797 images of 8x8 pixels with values from 0 to 16.

Alpaydin & Kaynak, 1998, "Optical Recognition of Handwritten Digits", UCI, https://doi.org/10.24432/C50P49
(CC BY 4.0). A fifth of the images, drawn once for all seeds, is the test set.
"""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
from gymnasium import Space, spaces

from rlbench.envs.examples._base import Array, Source, Split
from rlbench.errors import UserError

TEST = 360
"""Number of test images."""
IMAGES = 1797
BRIGHTEST = 16


class Digits(Source):
    """Images [8, 8, 1] of bytes, 0 to 255, and classes 0 to 9."""

    kind = "shipped"
    seeded = False

    @property
    def fields(self) -> Mapping[str, Space[Any]]:
        """See `Source`."""
        return {"obs": spaces.Box(0, 255, (8, 8, 1), np.uint8), "label": spaces.Discrete(10)}

    @property
    def sizes(self) -> Mapping[Split, int]:
        """See `Source`."""
        return {"train": IMAGES - TEST, "test": TEST}

    def sample(self, split: Split, size: int, seed: int) -> Mapping[str, Array]:
        """See `Source`; the same for every seed."""
        images, labels = self._shuffled
        first = 0 if split == "test" else TEST
        chosen = slice(first, first + size)
        return {"obs": images[chosen], "label": labels[chosen]}

    @cached_property
    def _shuffled(self) -> tuple[Array, Array]:
        """All images and classes; the file is sorted by writer."""
        try:
            from sklearn.datasets import load_digits
        except ModuleNotFoundError:
            raise UserError(
                "digits needs the package scikit-learn; install it with pip install 'rlbench[digits]'"
            ) from None
        images, labels = load_digits(return_X_y=True)
        order = np.random.default_rng(0).permutation(len(images))
        scaled = np.rint(images * (255 / BRIGHTEST)).astype(np.uint8).reshape(-1, 8, 8, 1)
        return scaled[order], labels.astype(np.int64)[order]
