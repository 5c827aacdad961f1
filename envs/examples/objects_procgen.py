"""Objects of Procgen's games: which are there, and where?

Frames, levels and the three groups of environments are those of `frames_procgen.py`: one draws as usual, one without backgrounds, and
one draws each object as a rectangle in the colour of its class. An object is a connected part of one of these colours, and its pixels
are those of this part that are not black without the background. Objects are the agent and what it should look for or avoid; walls and
effects are not objects. Parts with fewer than `FEWEST` pixels, often cut off by the edge of the frame, are left out.
Columns are those of `_objects.py`; of more than `MOST` objects the largest are kept.

Objects of one colour that touch count as one object, and an object whose middle is covered by another counts as two.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from gymnasium import Space

from rlbench.connected import connected
from rlbench.envs.examples._base import Array, Source, Split
from rlbench.envs.examples._objects import NONE, object_columns, object_fields
from rlbench.envs.examples.frames_procgen import ENVIRONMENTS, SIDE, named, packed, played
from rlbench.envs.procgen.classes import AGENT, Classes

MOST, FEWEST = 16, 4


class ProcgenObjects(Source):
    """Frames with objects; see the module."""

    kind = "generated"
    cached = True

    def __init__(self, game: str) -> None:
        """Prepares the game.

        Args:
            game: A name such as `starpilot` or `starpilot-hard`.

        Raises:
            UserError: There is no such game, or no table of its classes.
        """
        self._name, self._table = named(game)

    @property
    def fields(self) -> Mapping[str, Space[Any]]:
        """See `Source`."""
        return object_fields(SIDE, SIDE, MOST, len(kinds(self._table)))

    @property
    def classes(self) -> Mapping[str, tuple[str, ...]]:
        """See `Source`."""
        return {"classes": (NONE, *kinds(self._table))}

    @property
    def sizes(self) -> Mapping[Split, int]:
        """See `Source`."""
        return {"train": 4_000, "test": 1_000}

    def sample(self, split: Split, size: int, seed: int) -> Mapping[str, Array]:
        """See `Source`."""
        pictures, parts = played(self._name, self._table, split, seed), []
        for _ in range(0, size, ENVIRONMENTS):
            usual, bare, flat = next(pictures)
            parts.append(object_columns(usual, *objects(bare, flat, self._table)))
        return {name: np.concatenate([part[name] for part in parts])[:size] for name in parts[0]}


def kinds(table: Classes) -> dict[str, tuple[int, ...]]:
    """Colours of the classes of objects of a game, the agent first."""
    return {AGENT: table.scenery[AGENT], **table.objects}


def objects(bare: Array, flat: Array, table: Classes) -> tuple[Array, Array]:
    """The number of the object at each pixel, uint8 [N, H, W], the largest object first, and the classes of objects, int64 [N, MOST].

    Args:
        bare: Pictures without backgrounds, uint8 [N, H, W, 3].
        flat: Pictures in the colours of the classes, uint8 [N, H, W, 3].
        table: The classes.
    """
    colours = packed(flat)
    seen = np.asarray(bare.any(axis=-1))
    parts, kind = np.zeros(seen.shape, np.int64), np.zeros(seen.shape, np.int64)
    for number, those in enumerate(kinds(table).values(), 1):
        for colour in those:
            mine = colours == colour
            parts[mine] = connected(torch.from_numpy(mine)).numpy()[mine]
            kind[mine] = number
    parts[~seen] = 0
    instances = np.zeros(seen.shape, np.uint8)
    classes = np.zeros((len(seen), MOST), np.int64)
    for i, frame in enumerate(parts):
        found, first, pixels = np.unique(frame, return_index=True, return_counts=True)
        real = np.flatnonzero((found > 0) & (pixels >= FEWEST))
        for k, j in enumerate(real[np.argsort(-pixels[real], kind="stable")][:MOST]):
            instances[i][frame == found[j]] = k + 1
            classes[i, k] = kind[i].flat[first[j]]
    return instances, classes
