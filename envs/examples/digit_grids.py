"""Pairs of images that have a known amount of information in common: grids of digits, each followed by the next one.

    obs        N handwritten digits in a grid, drawn independently
    next_obs   in each cell another image of the next digit (0 after 9)
    factors    the digits of `obs`, row by row, int64 [N]

The mutual information of both images is N ln 10 nats. Cells that are left over in the last row are black. Training and test images are
divided as in `digits`; pairs are drawn by the seed.

After Ozair et al., 2019, https://arxiv.org/abs/1903.11780, section 6.1 (SpatialMultiOmniglot), with digits in place of characters.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import Space, spaces

from rlbench.envs.examples._base import Array, Source, Split
from rlbench.envs.examples.digits import Digits
from rlbench.errors import UserError
from rlbench.seeding import derive

SIDE, CLASSES, MOST = 8, 10, 100


class DigitGrids(Source):
    """Pairs of images [8 rows, 8 columns, 1] of bytes; see the module."""

    kind = "generated"

    def __init__(self, cells: str) -> None:
        """Prepares the digits.

        Raises:
            UserError: `cells` is not a number from 1 to 100.
        """
        if not (cells.isascii() and cells.isdecimal() and 1 <= int(cells) <= MOST):
            raise UserError(
                f"digit-grids-{cells}: the number of digits is {cells!r}; give a number from 1 to {MOST}"
            )
        self._cells, self._digits = int(cells), Digits()
        self._columns = math.ceil(math.sqrt(self._cells))
        self._rows = math.ceil(self._cells / self._columns)

    @property
    def fields(self) -> Mapping[str, Space[Any]]:
        """See `Source`."""
        image = spaces.Box(0, 255, (SIDE * self._rows, SIDE * self._columns, 1), np.uint8)
        factors = spaces.Box(0, CLASSES - 1, (self._cells,), np.int64)
        return {"obs": image, "next_obs": image, "factors": factors}

    @property
    def sizes(self) -> Mapping[Split, int]:
        """See `Source`."""
        return {"train": 20_000, "test": 2_000}

    def sample(self, split: Split, size: int, seed: int) -> Mapping[str, Array]:
        """See `Source`."""
        digits = self._digits.sample(split, self._digits.sizes[split], seed)
        images = [digits["obs"][digits["label"] == c] for c in range(CLASSES)]
        rng = np.random.default_rng(derive(seed, "digit-grids", self._cells, split))
        factors = rng.integers(CLASSES, size=(size, self._cells))
        return {
            "obs": self._drawn(factors, images, rng),
            "next_obs": self._drawn((factors + 1) % CLASSES, images, rng),
            "factors": factors,
        }

    def _drawn(self, factors: Array, images: list[Array], rng: np.random.Generator) -> Array:
        """Grids [size, H, W, 1] with a random image of each digit [size, N]."""
        cells = np.zeros((len(factors), self._rows * self._columns, SIDE, SIDE), np.uint8)
        for c, own in enumerate(images):
            places = np.nonzero(factors == c)
            cells[places] = own[rng.integers(len(own), size=len(places[0])), :, :, 0]
        grid = cells.reshape(-1, self._rows, self._columns, SIDE, SIDE).transpose(0, 1, 3, 2, 4)
        return grid.reshape(len(factors), SIDE * self._rows, SIDE * self._columns, 1)
