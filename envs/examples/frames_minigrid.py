"""What agents see in MiniGrid: views of 7x7 cells, labelled with facts that are useful to an agent.

Agents walk at random through levels of several kinds; every few steps a view is kept. An `obs` is as in the
tasks `MiniGrid-...`: type, colour and state of each cell. Labels: `label`, where the goal is, and `front`,
the type of the cell in front of the agent, by minigrid's numbers.

Training and test views come from levels with different seeds. Different levels can still look alike in a view.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import Space, spaces

from rlbench.envs.examples._base import Array, Source, Split
from rlbench.envs.making import make_minigrid
from rlbench.seeding import derive

LEVELS = (
    "MiniGrid-Empty-Random-5x5-v0", "MiniGrid-Empty-Random-6x6-v0", "MiniGrid-FourRooms-v0",
    "MiniGrid-SimpleCrossingS9N1-v0", "MiniGrid-DoorKey-6x6-v0",
)  # fmt: skip
VIEW = 7
VIEWS_PER_LEVEL = 10
STEPS_BETWEEN = 3
"""Random steps before each view."""
ACTIONS = np.array([0, 1, 2, 2])
"""Left, right and, twice as often, forward."""
GOAL = 8
TYPES = 11
"""minigrid's number of the goal, and its number of cell types."""
HIDDEN, LEFT, AHEAD, RIGHT = range(4)
"""Where the goal is in the view."""


class MiniGridFrames(Source):
    """Views, bytes [7, 7, 3], with the place of the goal and the type of the cell in front."""

    kind = "generated"
    cached, balanced = True, True

    @property
    def fields(self) -> Mapping[str, Space[Any]]:
        """See `Source`."""
        return {
            "obs": spaces.Box(0, 255, (VIEW, VIEW, 3), np.uint8),
            "label": spaces.Discrete(4),
            "front": spaces.Discrete(TYPES),
        }

    @property
    def sizes(self) -> Mapping[Split, int]:
        """See `Source`."""
        return {"train": 10_000, "test": 2_000}

    def sample(self, split: Split, size: int, seed: int) -> Mapping[str, Array]:
        """See `Source`."""
        rng = np.random.default_rng(derive(seed, "frames-minigrid", split))
        envs = [make_minigrid(name) for name in LEVELS]
        views = np.zeros((size, VIEW, VIEW, 3), np.uint8)
        for i in range(size):
            env = envs[i // VIEWS_PER_LEVEL % len(envs)]
            if i % VIEWS_PER_LEVEL == 0:
                level = derive(seed, "frames-minigrid", split, i // VIEWS_PER_LEVEL)
                views[i], _ = env.reset(seed=level)
                continue
            for action in rng.choice(ACTIONS, STEPS_BETWEEN):
                views[i], _, terminated, truncated, _ = env.step(int(action))
                if terminated or truncated:
                    views[i], _ = env.reset()
        for env in envs:
            env.close()
        return {"obs": views, "label": place_of_goal(views), "front": front(views)}


def place_of_goal(views: Array) -> Array:
    """`HIDDEN`, `LEFT`, `AHEAD` or `RIGHT` of the agent in views [N, 7, 7, 3], int64 [N]."""
    columns = (views[..., 0] == GOAL).any(axis=2)
    found = columns.argmax(axis=1) - VIEW // 2
    place = np.select([found < 0, found > 0], [LEFT, RIGHT], AHEAD)
    return np.where(columns.any(axis=1), place, HIDDEN).astype(np.int64)


def front(views: Array) -> Array:
    """Type of the cell in front of the agent in views [N, 7, 7, 3], int64 [N]."""
    return views[:, VIEW // 2, VIEW - 2, 0].astype(np.int64)
