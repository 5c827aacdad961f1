"""Glyphs: characters of random strokes, drawn by an unsteady hand.

A class is `STROKES` quadratic curves with random control points in the unit square. A drawing of it moves
each control point a little, rotates, scales and shifts the whole, and renders it with a round pen. The seed
decides the classes; training and test drawings of a class are different drawings.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import Space, spaces

from rlbench.envs.examples._base import Array, Source, Split
from rlbench.seeding import derive

CLASSES = 20
SIDE = 28
"""Pixels of an image's side."""
STROKES = 3
POINTS = 16
"""Number of points with which a stroke is rendered."""
PEN = 0.045
"""Radius of the pen, as a share of the side; the soft edge has the same width."""
JITTER, TURN, SCALE, SHIFT = 0.03, 0.15, 0.1, 0.05
"""Deviations of control points, of the angle in radians, of the scale and of the position."""
AT_ONCE = 256
"""Drawings rendered at once, which bounds the memory."""


class Glyphs(Source):
    """Images [side, side, 1] of bytes, bright on dark, and classes 0 to 19."""

    kind = "generated"

    def __init__(self, side: int = SIDE) -> None:
        """Images of `side` pixels."""
        self._side = side

    @property
    def fields(self) -> Mapping[str, Space[Any]]:
        """See `Source`."""
        image = spaces.Box(0, 255, (self._side, self._side, 1), np.uint8)
        return {"obs": image, "label": spaces.Discrete(CLASSES)}

    @property
    def sizes(self) -> Mapping[Split, int]:
        """See `Source`."""
        return {"train": 10_000, "test": 2_000}

    def sample(self, split: Split, size: int, seed: int) -> Mapping[str, Array]:
        """See `Source`."""
        classes = alphabet(CLASSES, np.random.default_rng(derive(seed, "glyphs", "classes")))
        rng = np.random.default_rng(derive(seed, "glyphs", split))
        labels = rng.integers(CLASSES, size=size)
        images = [
            render(drawn(classes[labels[i : i + AT_ONCE]], rng), self._side)
            for i in range(0, size, AT_ONCE)
        ]
        return {"obs": np.concatenate(images)[..., None], "label": labels}


def small() -> Glyphs:
    """The same characters in 8x8 pixels, the size of the digits."""
    return Glyphs(side=8)


def alphabet(count: int, rng: np.random.Generator) -> Array:
    """Control points of random characters, [count, STROKES, 3, 2], in the unit square."""
    return rng.uniform(0.15, 0.85, (count, STROKES, 3, 2))


def drawn(characters: Array, rng: np.random.Generator, unsteadiness: float = 1.0) -> Array:
    """One drawing of each character, [N, STROKES, 3, 2], by an unsteady hand.

    Args:
        characters: Control points, [N, STROKES, 3, 2].
        rng: Draws the deviations.
        unsteadiness: Multiplies all deviations.
    """
    count = len(characters)
    jitter, turn_by, scale_by, shift_by = (unsteadiness * x for x in (JITTER, TURN, SCALE, SHIFT))
    points = characters - 0.5 + jitter * rng.standard_normal(characters.shape)
    angle, scale = turn_by * rng.standard_normal(count), 1 + scale_by * rng.standard_normal(count)
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    turn = np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], -2)
    shift = shift_by * rng.standard_normal((count, 1, 1, 2))
    moved: Array = np.einsum("nskx,nyx->nsky", points, turn) + 0.5 + shift
    return moved


def render(strokes: Array, side: int = SIDE) -> Array:
    """Images uint8 [N, side, side] of quadratic curves with control points [N, STROKES, 3, 2]."""
    t = np.linspace(0, 1, POINTS)
    basis = np.stack([(1 - t) ** 2, 2 * t * (1 - t), t**2])
    curve = np.einsum("nskx,kt->nstx", strokes, basis).reshape(len(strokes), -1, 1, 2)
    centres = (np.arange(side) + 0.5) / side
    # The squared distance of a pixel is a sum over the two axes.
    across = (curve[..., 0] - centres) ** 2
    down = (curve[..., 1] - centres) ** 2
    nearest = np.sqrt((down[..., :, None] + across[..., None, :]).min(axis=1))
    ink: Array = np.clip(2 - nearest / PEN, 0, 1)
    images: Array = np.rint(255 * ink).astype(np.uint8)
    return images
