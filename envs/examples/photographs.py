"""Pieces of the photographs and textures that scikit-image ships: which of them does a piece come from?

    obs     bytes [64, 64, 3]
    label   the picture: astronaut, chelsea, coffee, brick, grass or gravel

The middle square of each picture is scaled to 256x256 pixels. Training pieces are from its left half, test pieces from its right half.
"""

from collections.abc import Mapping
from functools import cached_property

import numpy as np
from gymnasium import Space, spaces

from rlbench.envs.examples._base import Array, Source, Split
from rlbench.photographs import PHOTOGRAPHS, TEXTURES, photograph, scaled
from rlbench.seeding import derive

SIDE, WHOLE = 64, 256
"""Rows and columns of a piece, and of a picture."""
NAMES = (*PHOTOGRAPHS, *TEXTURES)


class Photographs(Source):
    """Pieces of pictures; see the module."""

    kind = "shipped"

    @property
    def fields(self) -> Mapping[str, Space[object]]:
        """See `Source`."""
        return {
            "obs": spaces.Box(0, 255, (SIDE, SIDE, 3), np.uint8),
            "label": spaces.Discrete(len(NAMES)),
        }

    @property
    def classes(self) -> Mapping[str, tuple[str, ...]]:
        """See `Source`."""
        return {"label": NAMES}

    @property
    def sizes(self) -> Mapping[Split, int]:
        """See `Source`."""
        return {"train": 5_000, "test": 1_000}

    def sample(self, split: Split, size: int, seed: int) -> Mapping[str, Array]:
        """See `Source`."""
        rng = np.random.default_rng(derive(seed, "photographs", split))
        label = rng.integers(len(NAMES), size=size)
        row = rng.integers(WHOLE - SIDE + 1, size=size)
        column = rng.integers(WHOLE // 2 - SIDE + 1, size=size) + (split == "test") * WHOLE // 2
        within = np.arange(SIDE)
        rows, columns = row[:, None, None] + within[:, None], column[:, None, None] + within
        return {"obs": self._pictures[label[:, None, None], rows, columns], "label": label}

    @cached_property
    def _pictures(self) -> Array:
        """All pictures, uint8 [6, WHOLE, WHOLE, 3]."""
        return np.stack([scaled(photograph(name), WHOLE) for name in NAMES])
