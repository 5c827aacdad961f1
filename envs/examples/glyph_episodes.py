"""Episodes of one-shot learning: five glyphs that were never seen before, ten drawings of each, in random order.

    obs     50 drawings of 8x8 pixels
    label   the class of each, 0 to 4; the glyphs are numbered anew in each episode

A glyph is a random field of 3x3 normal numbers, scaled up to 8x8 pixels by bicubic interpolation: 1 where it is positive, else 0.
A drawing of it is moved by up to one pixel in each direction and has noise N(0, 0.15). Glyphs of test episodes do not occur in
training episodes.

After the episodes of Santoro et al., 2016, https://arxiv.org/abs/1605.06065, section 3, which have characters of Omniglot.
"""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from gymnasium import Space, spaces

from rlbench.envs.examples._base import Array, Source, Split
from rlbench.seeding import derive

CLASSES, DRAWINGS = 5, 10
"""Glyphs of an episode, and drawings of each."""
STEPS = CLASSES * DRAWINGS
SIDE, COARSE = 8, 3
"""Pixels along a side, and random numbers along a side."""
NOISE = 0.15
GLYPHS: Mapping[Split, int] = {"train": 2_000, "test": 400}


class GlyphEpisodes(Source):
    """Drawings [50, 64] and their classes [50]."""

    kind = "generated"

    @property
    def fields(self) -> Mapping[str, Space[Any]]:
        """See `Source`."""
        obs = spaces.Box(-np.inf, np.inf, (STEPS, SIDE * SIDE), np.float32)
        return {"obs": obs, "label": spaces.MultiDiscrete([CLASSES] * STEPS)}

    @property
    def sizes(self) -> Mapping[Split, int]:
        """See `Source`."""
        return {"train": 10_000, "test": 500}

    def sample(self, split: Split, size: int, seed: int) -> Mapping[str, Array]:
        """See `Source`."""
        glyphs = Alphabet(seed).glyphs[split]
        rng = np.random.default_rng(derive(seed, "glyph-episodes", split))
        obs = np.zeros((size, STEPS, SIDE * SIDE), np.float32)
        label = np.zeros((size, STEPS), np.int64)
        for i in range(size):
            chosen = glyphs[rng.choice(len(glyphs), CLASSES, replace=False)]
            label[i] = rng.permutation(np.arange(STEPS) % CLASSES)
            obs[i] = drawings(chosen[label[i]], rng).reshape(STEPS, -1)
        return {"obs": obs, "label": label}


class Alphabet:
    """The glyphs of a seed."""

    def __init__(self, seed: int) -> None:
        """Draws nothing yet."""
        self._seed = seed

    @cached_property
    def glyphs(self) -> Mapping[Split, Array]:
        """Glyphs of each split, 0 or 1, float32 [N, 8, 8]; all of them differ."""
        rng = np.random.default_rng(derive(self._seed, "glyph-episodes", "glyphs"))
        count = sum(GLYPHS.values())
        drawn = fields(rng, 2 * count) > 0
        _, first = np.unique(drawn.reshape(len(drawn), -1), axis=0, return_index=True)
        different = drawn[np.sort(first)[:count]].astype(np.float32)
        return {"train": different[: GLYPHS["train"]], "test": different[GLYPHS["train"] :]}


def fields(rng: np.random.Generator, count: int) -> Array:
    """Smooth random fields, float32 [N, 8, 8]."""
    coarse = torch.from_numpy(rng.standard_normal((count, 1, COARSE, COARSE)).astype(np.float32))
    fine = F.interpolate(coarse, (SIDE, SIDE), mode="bicubic", align_corners=True)
    found: Array = fine[:, 0].numpy()
    return found


def drawings(glyphs: Array, rng: np.random.Generator) -> Array:
    """One drawing of each glyph, [N, 8, 8]: moved, padded with 0, and with noise."""
    padded = np.pad(glyphs, ((0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (SIDE, SIDE), axis=(1, 2))
    row, column = rng.integers(3, size=(2, len(glyphs)))
    moved = windows[np.arange(len(glyphs)), row, column]
    found: Array = moved + NOISE * rng.standard_normal(moved.shape, dtype=np.float32)
    return found
