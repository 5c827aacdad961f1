"""Photographs and textures that scikit-image ships, without a download.

Each has its licence in https://github.com/scikit-image/scikit-image/blob/main/src/skimage/data/README.txt; all may be copied and changed.
"""

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlbench.errors import UserError

PHOTOGRAPHS = ("astronaut", "chelsea", "coffee")
"""In colour: a portrait, a cat and a cup."""
TEXTURES = ("brick", "grass", "gravel")
"""In grey."""


@cache
def photograph(name: str) -> NDArray[np.uint8]:
    """The middle square of a picture, [S, S, 3]; grey values are repeated.

    Args:
        name: One of `PHOTOGRAPHS` or `TEXTURES`.

    Raises:
        UserError: There is no such picture, or scikit-image is not installed.
    """
    if name not in (*PHOTOGRAPHS, *TEXTURES):
        raise UserError(
            f"there is no picture {name!r}; give one of {', '.join((*PHOTOGRAPHS, *TEXTURES))}"
        )
    try:
        from skimage import data
    except ModuleNotFoundError:
        raise UserError(
            f"the picture {name} needs the package scikit-image; install it with pip install 'rlbench[photographs]'"
        ) from None
    found: NDArray[Any] = getattr(data, name)()
    if found.ndim == 2:
        found = np.stack([found] * 3, axis=2)
    side = min(found.shape[:2])
    row, column = ((length - side) // 2 for length in found.shape[:2])
    middle: NDArray[np.uint8] = found[row : row + side, column : column + side]
    middle.setflags(write=False)
    return middle


def scaled(picture: NDArray[Any], side: int) -> NDArray[np.uint8]:
    """A square picture [S, S, C] with `side` rows and columns: each pixel is the mean of the area that it covers.

    >>> scaled(np.arange(16, dtype=np.uint8).reshape(4, 4, 1), 2)[..., 0].tolist()
    [[2, 4], [10, 12]]
    """
    weights = _shares(len(picture), side)
    mean = np.einsum("ij,jkc,lk->ilc", weights, picture.astype(np.float64), weights, optimize=True)
    small: NDArray[np.uint8] = np.rint(mean).astype(np.uint8)
    return small


def _shares(before: int, after: int) -> NDArray[np.float64]:
    """Share of each of `before` pixels in each of `after` pixels of the same length in all, [after, before]."""
    edges = np.arange(after + 1) * (before / after)
    low, high = edges[:-1, None], edges[1:, None]
    pixel = np.arange(before)
    overlap = np.minimum(high, pixel + 1) - np.maximum(low, pixel)
    shares: NDArray[np.float64] = np.maximum(overlap, 0) * (after / before)
    return shares
