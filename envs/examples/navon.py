"""Pictures of a large letter that consists of small letters: global and local shape, independent of each other.

    obs            [42, 42, 1] bytes, at a random place
    large, small   the letters, 5 classes each

Training and test pictures are drawn from different generators.

Navon, 1977, https://doi.org/10.1016/0010-0285(77)90012-3; as a data set: Hermann and Lampinen, 2020,
https://arxiv.org/abs/2006.12433, section 3. Difference: letters are not rotated, because at this size they would not be legible.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import Space, spaces

from rlbench.envs.examples._base import Array, Source, Split
from rlbench.seeding import derive

SHAPES: Mapping[str, tuple[str, ...]] = {
    "E": ("#####", "#....", "####.", "#....", "#####"),
    "H": ("#...#", "#...#", "#####", "#...#", "#...#"),
    "S": ("#####", "#....", "#####", "....#", "#####"),
    "T": ("#####", "..#..", "..#..", "..#..", "..#.."),
    "X": ("#...#", ".#.#.", "..#..", ".#.#.", "#...#"),
}
LETTERS = tuple(SHAPES)
CELLS, CELL, SIDE = 5, 6, 42
"""Cells of a side of a large letter, pixels of a side of a cell, and of the picture."""


class Navon(Source):
    """Pictures of letters; see the module."""

    kind = "generated"

    @property
    def fields(self) -> Mapping[str, Space[Any]]:
        """See `Source`."""
        letter = spaces.Discrete(len(LETTERS))
        picture = spaces.Box(0, 255, (SIDE, SIDE, 1), np.uint8)
        return {"obs": picture, "large": letter, "small": letter}

    @property
    def classes(self) -> Mapping[str, tuple[str, ...]]:
        """See `Source`."""
        return {"large": LETTERS, "small": LETTERS}

    @property
    def sizes(self) -> Mapping[Split, int]:
        """See `Source`."""
        return {"train": 20_000, "test": 4_000}

    def sample(self, split: Split, size: int, seed: int) -> Mapping[str, Array]:
        """See `Source`."""
        rng = np.random.default_rng(derive(seed, "navon", split))
        free = SIDE - CELLS * CELL + 1
        drawn = rng.integers([len(LETTERS), len(LETTERS), free, free], size=(size, 4))
        masks = np.array([[[x == "#" for x in row] for row in rows] for rows in SHAPES.values()])
        # A cell has a gap of one pixel on the right and below.
        cell = np.pad(masks, ((0, 0), (0, CELL - CELLS), (0, CELL - CELLS)))
        letters = np.kron(masks[drawn[:, 0]], np.ones((1, CELL, CELL), bool))
        letters &= np.tile(cell[drawn[:, 1]], (1, CELLS, CELLS))
        obs = np.zeros((size, SIDE, SIDE, 1), np.uint8)
        for picture, letter, (y, x) in zip(obs, letters, drawn[:, 2:], strict=True):
            picture[y : y + CELLS * CELL, x : x + CELLS * CELL, 0] = 255 * letter
        return {"obs": obs, "large": drawn[:, 0], "small": drawn[:, 1]}
