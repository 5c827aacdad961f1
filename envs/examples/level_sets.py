"""Sets of frames of one level of a Procgen game each: do two frames show the same level?

    obs     20 frames, bytes [64, 64, 3]
    label   their level: 0 to 299 in training, 300 to 399 in tests

Before each frame, a random action is repeated for `STEPS_BETWEEN` steps. Each seed has its own levels, training and
tests have different ones, and there is one set for each level. Levels share a few themes and backgrounds, which are drawn at random,
so part of what distinguishes two levels is their background.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import Space, spaces

from rlbench.envs.examples._base import Array, Source, Split
from rlbench.envs.examples.frames_procgen import (
    ACTIONS,
    FIRST_TEST_LEVEL,
    FRAMES_OF_EPISODE,
    LEVELS_OF_SEED,
    SEEDS,
    SIDE,
)
from rlbench.envs.procgen.names import GAMES, HARD, ProcgenName
from rlbench.envs.procgen.pool import make_pool
from rlbench.errors import UserError
from rlbench.seeding import derive

FRAMES = 20
"""Frames of a set."""
STEPS_BETWEEN = 10
"""Steps before each frame, all with the same action."""
LEVELS: Mapping[Split, int] = {"train": 300, "test": 100}


class LevelSets(Source):
    """Sets of frames [20, 64, 64, 3] of bytes and the level of each set."""

    kind = "generated"
    cached = True

    def __init__(self, game: str) -> None:
        """Prepares the game.

        Args:
            game: A name such as `coinrun` or `coinrun-hard`.

        Raises:
            UserError: There is no such game.
        """
        self._name = ProcgenName(game.removesuffix(HARD), hard=game.endswith(HARD))
        if self._name.game not in GAMES:
            raise UserError(
                f"Procgen has no game {game!r}; give one of {', '.join(GAMES)}, or one of them with {HARD}"
            )

    @property
    def fields(self) -> Mapping[str, Space[Any]]:
        """See `Source`."""
        return {
            "obs": spaces.Box(0, 255, (FRAMES, SIDE, SIDE, 3), np.uint8),
            "label": spaces.Discrete(sum(LEVELS.values())),
        }

    @property
    def sizes(self) -> Mapping[Split, int]:
        """See `Source`."""
        return LEVELS

    def sample(self, split: Split, size: int, seed: int) -> Mapping[str, Array]:
        """See `Source`."""
        label = np.arange(size) + (0 if split == "train" else LEVELS["train"])
        first = seed % SEEDS * LEVELS_OF_SEED + (FIRST_TEST_LEVEL if split == "test" else 0)
        sets = [self._played(first + i, derive(seed, "level-sets", split, i)) for i in range(size)]
        return {"obs": np.stack(sets), "label": label}

    def _played(self, level: int, seed: int) -> Array:
        """Frames of a level, uint8 [20, 64, 64, 3]."""
        pool = make_pool(self._name.env_id, {"start_level": level, "num_levels": 1}, [seed])
        rng = np.random.default_rng(seed)
        frames = np.zeros((FRAMES, SIDE, SIDE, 3), np.uint8)
        for frame in range(FRAMES):
            if frame % FRAMES_OF_EPISODE == 0:
                pool.reset()
            action = rng.integers(ACTIONS, size=1, dtype=np.int32)
            for _ in range(STEPS_BETWEEN):
                seen = pool.step(action)[0]
            frames[frame] = seen[0].transpose(1, 2, 0)
        return frames
