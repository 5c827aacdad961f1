"""Pictures of an object with three features: its shape, its colour and its texture.

    trifeature                     the features are independent
    trifeature-shape-colour-90     in training, the second feature has the same class number as the first with a probability of 90 %, and is uniform otherwise

    obs                      the object at a random place on grey, uint8 [32, 32, 3]; shape and texture are rotated by up to 45 degrees each
    shape, colour, texture   classes, 5 each

In tests the features are always independent. Training and test pictures are drawn from different generators.

Hermann and Lampinen, 2020, https://arxiv.org/abs/2006.12433, section 3 and appendix B. Differences: 5 in place of 10 classes, and pictures of 32 in place
of 224 pixels, so that each feature can be learned in seconds.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from gymnasium import Space, spaces

from rlbench.envs.examples._base import Array, Source, Split
from rlbench.errors import UserError
from rlbench.seeding import derive

SIDE, FINER = 32, 2
"""Pixels of a side, and how many times as many are drawn before averaging."""
RADIUS, PERIOD = 10.0, 5.0
"""Half the size of an object, and the period of its texture, in pixels."""
GREY = np.uint8(128)
AT_ONCE = 256
"""Pictures that are drawn at once, which bounds the memory."""
CLASSES = 5
Inside = Callable[[Array, Array], Array]
"""Whether points at x and y, in pixels from the centre, belong to a shape, or have the colour in a texture."""


def _scaled(inside: Inside) -> Inside:
    """A shape from one in a circle of radius 1; it is symmetric, so x is positive."""
    return lambda x, y: inside(np.abs(x) / RADIUS, y / RADIUS)


def _repeated(inside: Inside) -> Inside:
    """A texture from one tile of 1 by 1."""
    return lambda x, y: inside(x / PERIOD % 1, y / PERIOD % 1)


SHAPES: Mapping[str, Inside] = {
    "triangle": _scaled(lambda u, v: (v < 0.5) & (u * np.sqrt(3) < v + 1)),
    "square": _scaled(lambda u, v: (u < 0.7) & (np.abs(v) < 0.7)),
    "plus": _scaled(
        lambda u, v: ((u < 0.3) & (np.abs(v) < 0.95)) | ((u < 0.95) & (np.abs(v) < 0.3))
    ),
    "circle": _scaled(lambda u, v: u**2 + v**2 < 0.85**2),
    "tee": _scaled(
        lambda u, v: ((u < 0.8) & (v > -0.75) & (v < -0.2)) | ((u < 0.3) & (v >= -0.2) & (v < 0.9))
    ),
}
COLOURS = {
    "red": (230, 30, 30), "green": (30, 170, 40), "blue": (40, 60, 230), "yellow": (235, 220, 40), "pink": (250, 120, 200),
}  # fmt: skip
TEXTURES: Mapping[str, Inside] = {
    "solid": lambda x, y: np.ones(x.shape, bool),
    "stripes": _repeated(lambda u, v: u < 0.5),
    "grid": _repeated(lambda u, v: (u < 0.3) | (v < 0.3)),
    "dots": _repeated(lambda u, v: (u - 0.5) ** 2 + (v - 0.5) ** 2 < 0.36**2),
    "checks": _repeated(lambda u, v: (u < 0.5) == (v < 0.5)),
}
FEATURES: Mapping[str, tuple[str, ...]] = {
    "shape": tuple(SHAPES), "colour": tuple(COLOURS), "texture": tuple(TEXTURES),
}  # fmt: skip


class Trifeature(Source):
    """Pictures of objects; see the module."""

    kind = "generated"

    def __init__(self, first: str = "", second: str = "", percent: int = 0) -> None:
        """The features that agree in training, if any, and how often."""
        self._first, self._second, self._agreement = first, second, percent / 100

    @property
    def fields(self) -> Mapping[str, Space[Any]]:
        """See `Source`."""
        picture = spaces.Box(0, 255, (SIDE, SIDE, 3), np.uint8)
        return {"obs": picture, **{name: spaces.Discrete(CLASSES) for name in FEATURES}}

    @property
    def classes(self) -> Mapping[str, tuple[str, ...]]:
        """See `Source`."""
        return FEATURES

    @property
    def sizes(self) -> Mapping[Split, int]:
        """See `Source`."""
        return {"train": 20_000, "test": 4_000}

    def sample(self, split: Split, size: int, seed: int) -> Mapping[str, Array]:
        """See `Source`."""
        rng = np.random.default_rng(derive(seed, "trifeature", split))
        # A row for each picture, so that the first ones do not depend on the size.
        chosen = rng.integers(CLASSES, size=(size, len(FEATURES)))
        columns = dict(zip(FEATURES, chosen.T, strict=True))
        placed = np.random.default_rng(derive(seed, "trifeature", split, "places")).random(
            (size, 5)
        )
        if split == "train" and self._agreement:
            agrees = placed[:, 4] < self._agreement
            columns[self._second] = np.where(agrees, columns[self._first], columns[self._second])
        parts = [
            _drawn(
                {name: x[i : i + AT_ONCE] for name, x in columns.items()}, placed[i : i + AT_ONCE]
            )
            for i in range(0, size, AT_ONCE)
        ]
        return {"obs": np.concatenate(parts), **columns}


def correlated(rest: str) -> Trifeature:
    """The source of the rest of a name, such as `shape-colour-90`.

    Raises:
        UserError: It does not name two features and a percentage.
    """
    names = "|".join(FEATURES)
    found = re.fullmatch(rf"({names})-({names})-([1-9]\d?|100)", rest)
    if found is None or found[1] == found[2]:
        raise UserError(
            f"trifeature-{rest} does not name two features and a percentage; give two of {', '.join(FEATURES)} and a number from 1 to "
            "100, as in trifeature-shape-colour-90"
        )
    return Trifeature(found[1], found[2], int(found[3]))


def _drawn(columns: Mapping[str, Array], placed: Array) -> Array:
    """Pictures, uint8 [N, 32, 32, 3].

    Args:
        columns: The classes of each feature, [N].
        placed: Numbers from 0 to 1 for the place (2) and both rotations (2), [N, 4 or more].
    """
    side = int(2 * RADIUS * FINER)
    y, x = np.meshgrid(
        *[(np.arange(side, dtype=np.float32) + 0.5) / FINER - RADIUS] * 2, indexing="ij"
    )
    inside = _by_class(SHAPES, columns["shape"], *_rotated(x, y, placed[:, 2]))
    lit = _by_class(TEXTURES, columns["texture"], *_rotated(x, y, placed[:, 3]))
    colour = np.array([*COLOURS.values()], np.uint8)[columns["colour"]]
    # The gaps of a texture are black, whatever the colour.
    shown = np.where(lit[..., None], colour[:, None, None], np.uint8(0))
    patches = np.where(inside[..., None], shown, GREY)
    picture = np.full((len(placed), SIDE * FINER, SIDE * FINER, 3), GREY)
    corners = (placed[:, :2] * (SIDE * FINER - side + 1)).astype(np.int64)
    for one, patch, (row, column) in zip(picture, patches, corners, strict=True):
        one[row : row + side, column : column + side] = patch
    blocks = picture.reshape(len(picture), SIDE, FINER, SIDE, FINER, 3)
    return np.asarray(blocks.mean((2, 4), dtype=np.float32).round(), np.uint8)


def _rotated(x: Array, y: Array, share: Array) -> tuple[Array, Array]:
    """Coordinates in a system that is rotated by -45 (share 0) to 45 degrees (share 1), [N, H, W] each."""
    angle = ((2 * share - 1) * np.pi / 4)[:, None, None].astype(np.float32)
    return x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)


def _by_class(kinds: Mapping[str, Inside], chosen: Array, x: Array, y: Array) -> Array:
    """Whether a point belongs to the shape or the texture of its picture, bool [N, H, W]."""
    found = np.zeros(x.shape, bool)
    for number, kind in enumerate(kinds.values()):
        rows = chosen == number
        found[rows] = kind(x[rows], y[rows])
    return found
