"""What agents see in a game of Procgen, with the class of every pixel.

Three groups of environments play the same levels with the same actions: one draws as usual, one without backgrounds,
so that a pixel is black unless an object covers it, and one draws each object as a rectangle in the colour of its class
(`rlbench.envs.procgen.classes`). A pixel has the class of the rectangle where the second picture is not black.

    obs     what the agent sees, bytes [64, 64, 3]
    seg     class of each pixel, int64 [64, 64]
    label   class of the object nearest to the agent, 0 unless both are in sight

Agents repeat a random action for some steps, after which a frame is taken. Each seed has its own levels: for seed 0,
training uses levels 0 to 199 and tests use others, from 10,000 on.
"""

import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import count
from typing import Any

import numpy as np
from gymnasium import Space, spaces

from rlbench.envs.examples._base import Array, Source, Split
from rlbench.envs.procgen.classes import AGENT, Classes, classes_of
from rlbench.envs.procgen.names import HARD, ProcgenName
from rlbench.envs.procgen.pool import make_pool
from rlbench.errors import UserError
from rlbench.seeding import derive

SIDE, ACTIONS = 64, 15
ENVIRONMENTS = 50
"""Environments of each group."""
STEPS_BETWEEN = 8
"""Steps before each frame, all with the same action, so that agents get further than with changing actions."""
TRAIN_LEVELS, TEST_LEVELS, FIRST_TEST_LEVEL = 200, 10_000, 10_000
LEVELS_OF_SEED = 200_000
"""Distance between the levels of two seeds, larger than any level of the tasks, so that only seed 0 shares levels with them."""
FRAMES_OF_EPISODE = 10
"""Frames after which new episodes start, so that an agent that is stuck does not yield the same frame for long."""
SEEDS = 10_000
"""Seeds that differ by this number have the same levels, because level numbers have 32 bits."""


class ProcgenFrames(Source):
    """Frames of a game; see the module."""

    kind = "generated"
    cached = True

    def __init__(self, game: str) -> None:
        """Prepares the game.

        Args:
            game: A name such as `coinrun` or `coinrun-hard`.

        Raises:
            UserError: There is no such game, or no table of its classes.
        """
        self._name, self._table = named(game)

    @property
    def fields(self) -> Mapping[str, Space[Any]]:
        """See `Source`."""
        classes = len(self._table.names)
        return {
            "obs": spaces.Box(0, 255, (SIDE, SIDE, 3), np.uint8),
            "seg": spaces.Box(0, classes - 1, (SIDE, SIDE), np.int64),
            "label": spaces.Discrete(classes),
        }

    @property
    def classes(self) -> Mapping[str, tuple[str, ...]]:
        """See `Source`."""
        return {"seg": self._table.names, "label": self._table.names}

    @property
    def sizes(self) -> Mapping[Split, int]:
        """See `Source`."""
        return {"train": 5_000, "test": 1_000}

    def sample(self, split: Split, size: int, seed: int) -> Mapping[str, Array]:
        """See `Source`."""
        columns: dict[str, Array] = {
            "obs": np.zeros((size, SIDE, SIDE, 3), np.uint8),
            "seg": np.zeros((size, SIDE, SIDE), np.uint8),
            "label": np.zeros(size, np.int64),
        }
        frames = played(self._name, self._table, split, seed)
        for first in range(0, size, ENVIRONMENTS):
            usual, bare, flat = (x[: size - first] for x in next(frames))
            rows = slice(first, first + ENVIRONMENTS)
            columns["obs"][rows] = usual
            columns["seg"][rows] = seg = segmented(bare, flat, self._table)
            columns["label"][rows] = nearest(seg, self._table)
        return columns


def named(game: str) -> tuple[ProcgenName, Classes]:
    """A game by a name such as `coinrun` or `coinrun-hard`, and its classes."""
    name = ProcgenName(game.removesuffix(HARD), hard=game.endswith(HARD))
    return name, classes_of(name.game, name.hard)


def levels(split: Split, seed: int) -> range:
    """The levels of a split."""
    first = seed % SEEDS * LEVELS_OF_SEED
    if split == "train":
        return range(first, first + TRAIN_LEVELS)
    return range(first + FIRST_TEST_LEVEL, first + FIRST_TEST_LEVEL + TEST_LEVELS)


def played(
    name: ProcgenName, table: Classes, split: Split, seed: int
) -> Iterator[tuple[Array, Array, Array]]:
    """Frames uint8 [V, 64, 64, 3] of V environments: as usual, without backgrounds, and in the colours of the classes.

    Raises:
        UserError: The three groups get out of step.
    """
    those = levels(split, seed)
    common = {"start_level": those.start, "num_levels": len(those)}
    bare = {**common, "use_backgrounds": False}
    flat = {**bare, "use_monochrome_assets": True, "restrict_themes": table.restricted}
    seeds = [derive(seed, "frames-procgen", split, v) for v in range(ENVIRONMENTS)]
    groups = [make_pool(name.env_id, options, seeds) for options in (common, bare, flat)]
    rng = np.random.default_rng(derive(seed, "frames-procgen", split))
    for frame in count():
        if frame % FRAMES_OF_EPISODE == 0:
            for group in groups:
                group.reset()
        actions = rng.integers(ACTIONS, size=ENVIRONMENTS, dtype=np.int32)
        for _ in range(STEPS_BETWEEN):
            steps = [group.step(actions) for group in groups]
            if not all(
                np.array_equal(x, y)
                for step in steps
                for x, y in zip(step[1:4], steps[0][1:4], strict=True)
            ):
                raise UserError(
                    f"the environments of {name}, which should differ only in their drawing, differ in rewards or ends; "
                    "install another version of envpool (1.2.5 was tested), or give another game"
                )
        usual, without, classes = (step[0].transpose(0, 2, 3, 1) for step in steps)
        yield usual, without, classes


def segmented(bare: Array, flat: Array, table: Classes) -> Array:
    """The class of each pixel, uint8 [N, H, W].

    Args:
        bare: Pictures without backgrounds, uint8 [N, H, W, 3].
        flat: Pictures in the colours of the classes, uint8 [N, H, W, 3].
        table: The classes.

    Raises:
        UserError: A colour is not in the table.
    """
    found = packed(flat)
    known = np.array(sorted(table.by_colour))
    place = np.searchsorted(known, found).clip(max=len(known) - 1)
    if (strange := known[place] != found).any():
        raise UserError(
            f"the colour {found[strange][0]:06x} has no class; install another version of envpool (1.2.5 was "
            "tested), or give another game"
        )
    classes = np.array([table.by_colour[x] for x in known], np.uint8)[place]
    if table.agent_beyond:
        classes[classes == 0] = table.names.index(AGENT)
    return np.where(bare.any(axis=-1), classes, 0)


def nearest(seg: Array, table: Classes) -> Array:
    """The class of the object that is nearest to the middle of the agent, int64 [N]; 0 if there is none.

    Args:
        seg: Classes [N, H, W].
        table: The classes; objects come last.
    """
    agent, objects = seg == table.names.index(AGENT), seg > len(table.scenery)
    rows, columns = np.mgrid[: seg.shape[1], : seg.shape[2]]
    pixels = np.maximum(agent.sum(axis=(1, 2)), 1)
    row, column = ((agent * x).sum(axis=(1, 2)) / pixels for x in (rows, columns))
    distance = (rows - row[:, None, None]) ** 2 + (columns - column[:, None, None]) ** 2
    flat = np.where(objects, distance, np.inf).reshape(len(seg), -1)
    label = np.take_along_axis(seg.reshape(len(seg), -1), flat.argmin(axis=1)[:, None], axis=1)[
        :, 0
    ]
    return np.where(objects.any(axis=(1, 2)) & agent.any(axis=(1, 2)), label, 0).astype(np.int64)


def packed(pictures: Array) -> Array:
    """Colours [..., 3] as numbers 0xRRGGBB, int32 [...]."""
    red, green, blue = np.moveaxis(pictures.astype(np.int32), -1, 0)
    numbers: Array = red << 16 | green << 8 | blue
    return numbers


def count_colours(game: str, frames: int = 2_000) -> Counter[int]:
    """How many pixels have each colour of the classes, in training frames of a game."""
    found: Counter[int] = Counter()
    pictures = played(*named(game), "train", 0)
    for _ in range(0, frames, ENVIRONMENTS):
        colours, pixels = np.unique(packed(next(pictures)[2]), return_counts=True)
        found.update(dict(zip(colours.tolist(), pixels.tolist(), strict=True)))
    return found


if __name__ == "__main__":
    for game in sys.argv[1:]:
        _, table = named(game)
        for colour, pixels in count_colours(game).most_common():
            known = table.by_colour.get(colour)
            print(
                f"{game} {colour:06x} {pixels:9,} {'none' if known is None else table.names[known]}"
            )
