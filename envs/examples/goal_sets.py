"""Sets of views with the same thing in front of the agent: is a new kind of object there?

    obs     100 pictures of a view of 7x7 cells, bytes [56, 56, 3]
    label   what is in front of the agent: 0 to 13 in training, 14 to 19 in tests

Things are keys, balls and boxes in six colours, a wall, and nothing. Tests have six pairs of a kind and a colour that training does not show,
although it shows each kind and each colour in other pairs. The agent stands somewhere in a room with up to `OTHERS` other objects, of
any kind and colour.

The pictures are those of minigrid's wrapper `RGBImgPartialObsWrapper`.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import Space, spaces

from rlbench.envs.examples._base import Array, Source, Split
from rlbench.envs.examples.frames_minigrid import VIEW
from rlbench.envs.making import make_minigrid
from rlbench.envs.minigrid.tiles import COLOURS, TILE
from rlbench.seeding import derive

ROOM = "MiniGrid-Empty-8x8-v0"
KINDS = ("key", "ball", "box")
NEW = frozenset(zip(KINDS * 2, COLOURS, strict=True))
"""Kind and colour of the objects of tests: each kind twice, each colour once."""
THINGS: Mapping[Split, tuple[tuple[str, str], ...]] = {
    "train": (
        *((kind, colour) for kind in KINDS for colour in COLOURS if (kind, colour) not in NEW),
        ("wall", ""),
        ("nothing", ""),
    ),
    "test": tuple(sorted(NEW)),
}
"""What is in front of the agent, by number."""
VIEWS = 100
"""Pictures of a set."""
OTHERS = 6
"""Largest number of other objects in the room."""


class GoalSets(Source):
    """Sets of views [100, 56, 56, 3] and what is in front of the agent in each set."""

    kind = "generated"
    cached = True

    @property
    def fields(self) -> Mapping[str, Space[Any]]:
        """See `Source`."""
        side = VIEW * TILE
        return {
            "obs": spaces.Box(0, 255, (VIEWS, side, side, 3), np.uint8),
            "label": spaces.Discrete(sum(map(len, THINGS.values()))),
        }

    @property
    def classes(self) -> Mapping[str, tuple[str, ...]]:
        """See `Source`."""
        every = (*THINGS["train"], *THINGS["test"])
        return {"label": tuple(f"{colour} {kind}".strip() for kind, colour in every)}

    @property
    def sizes(self) -> Mapping[Split, int]:
        """See `Source`."""
        return {split: len(things) for split, things in THINGS.items()}

    def sample(self, split: Split, size: int, seed: int) -> Mapping[str, Array]:
        """See `Source`."""
        env = make_minigrid(ROOM)
        obs = np.zeros((size, *(self.fields["obs"].shape or ())), np.uint8)
        for i, thing in enumerate(THINGS[split][:size]):
            rng = np.random.default_rng(derive(seed, "goal-sets", split, i))
            for k in range(VIEWS):
                obs[i, k] = view(env.unwrapped, thing, rng)
        env.close()
        first = 0 if split == "train" else len(THINGS["train"])
        return {"obs": obs, "label": first + np.arange(size)}


def view(env: Any, thing: tuple[str, str], rng: np.random.Generator) -> Array:
    """A picture of what the agent sees in a random place with a thing in front of it, uint8 [56, 56, 3].

    Args:
        env: A MiniGrid environment with a room without inner walls; its objects are replaced.
        thing: Kind and colour.
        rng: Draws the place, the direction and the other objects.
    """
    from minigrid.core.constants import DIR_TO_VEC
    from minigrid.core.grid import Grid
    from minigrid.core.world_object import Ball, Box, Key

    made = {"key": Key, "ball": Ball, "box": Box}
    kind, colour = thing
    side = env.width
    env.grid = Grid(side, side)
    env.grid.wall_rect(0, 0, side, side)
    env.carrying = None
    for _ in range(int(rng.integers(OTHERS + 1))):
        other = made[KINDS[rng.integers(len(KINDS))]](COLOURS[rng.integers(len(COLOURS))])
        env.grid.set(*map(int, rng.integers(1, side - 1, size=2)), other)
    while True:
        place, env.agent_dir = rng.integers(1, side - 1, size=2), int(rng.integers(4))
        front = place + DIR_TO_VEC[env.agent_dir]
        outside = bool((front < 1).any() or (front > side - 2).any())
        if outside == (kind == "wall"):
            break
    env.agent_pos = tuple(map(int, place))
    env.grid.set(*env.agent_pos, None)
    if kind != "wall":
        env.grid.set(*map(int, front), made[kind](colour) if kind in made else None)
    picture: Array = env.get_pov_render(tile_size=TILE)
    return picture
