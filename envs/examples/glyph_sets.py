"""Sets of drawings of one glyph each: for embeddings of classes that training never sees.

    obs     20 drawings of 20x20 pixels
    label   their class: 0 to 299 in training, 300 to 399 in tests

There is one set for each class, so the classes of a batch are distinct, and a batch of N sets is an episode with N classes. The
glyphs are characters of random strokes as in `glyphs`, but drawn by a less steady hand, so that the pixels of two drawings of a
class have less in common.

After the episodes of Snell et al., 2017, https://arxiv.org/abs/1703.05175, section 3.1, which use characters of Omniglot.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import Space, spaces

from rlbench.envs.examples._base import Array, Source, Split
from rlbench.envs.examples.glyphs import alphabet, drawn, render
from rlbench.seeding import derive

DRAWINGS, SIDE = 20, 20
"""Drawings of a set, and pixels along a side."""
GLYPHS: Mapping[Split, int] = {"train": 300, "test": 100}
UNSTEADINESS = 1.5
"""Deviations of the drawings, compared with those of `glyphs`."""


class GlyphSets(Source):
    """Sets of images [20, 20, 20, 1] of bytes, bright on dark, and the class of each set."""

    kind = "generated"

    @property
    def fields(self) -> Mapping[str, Space[Any]]:
        """See `Source`."""
        sets = spaces.Box(0, 255, (DRAWINGS, SIDE, SIDE, 1), np.uint8)
        return {"obs": sets, "label": spaces.Discrete(sum(GLYPHS.values()))}

    @property
    def sizes(self) -> Mapping[Split, int]:
        """See `Source`."""
        return GLYPHS

    def sample(self, split: Split, size: int, seed: int) -> Mapping[str, Array]:
        """See `Source`."""
        first = 0 if split == "train" else GLYPHS["train"]
        label = first + np.arange(size)
        characters = alphabet(
            sum(GLYPHS.values()), np.random.default_rng(derive(seed, "glyph-sets", "glyphs"))
        )
        rng = np.random.default_rng(derive(seed, "glyph-sets", split))
        sets = [
            render(drawn(characters[[glyph] * DRAWINGS], rng, UNSTEADINESS), SIDE)
            for glyph in label
        ]
        return {"obs": np.stack(sets)[..., None], "label": label}
