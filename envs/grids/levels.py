"""Levels of grids: walls, objects, starts and time limits.

An object is collected by entering its cell. It gives a reward, ends the episode with its termination probability, and
respawns at each later step with its respawn probability.

Oh et al., 2020, https://arxiv.org/abs/2007.08794, appendix A, for the five named grids;
Jackson et al., 2023, https://arxiv.org/abs/2310.02782, appendix B, for the random levels. The numbers come
from their release (EmptyJackson/groove) and from the Gymnasium version of the grids
(jinPrelude/LPG-miniworld-gymnasium).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass(frozen=True)
class Levels:
    """A batch of N levels with the same shape; smaller grids are padded with walls."""

    wall: Tensor
    """Whether a cell is a wall, bool [N, C]; cells are numbered row by row."""
    cell: Tensor
    """Cell of each object, int64 [N, O]."""
    reward: Tensor
    """Reward of each object, [N, O]."""
    ends: Tensor
    """Termination probability: that collecting the object ends the episode, [N, O]."""
    returns: Tensor
    """Respawn probability: that a collected object reappears in a step, [N, O]."""
    exists: Tensor
    """Whether a level has the object, bool [N, O]."""
    start: Tensor
    """Cell in which episodes start, or -1 for a free cell without an object, drawn in each episode, int64 [N]."""
    limit: Tensor
    """Steps after which an episode ends, int64 [N]."""

    def __len__(self) -> int:
        """Number of levels, N."""
        return len(self.limit)

    def put(self, rows: Tensor, other: "Levels") -> "Levels":
        """A copy in which the levels `rows`, int64 [M], are replaced by the M levels of `other`."""
        # A copy, because states that were saved before share these tensors.
        return Levels(**{
            x.name: getattr(self, x.name).index_copy(0, rows, getattr(other, x.name))
            for x in fields(self)
        })  # fmt: skip

    def take(self, rows: Tensor) -> "Levels":
        """The M levels `rows`, int64 [M]."""
        return Levels(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})


@dataclass(frozen=True)
class NamedGrid:
    """A grid whose walls and objects are fixed; the cells of the objects are drawn for each level."""

    height: int
    width: int
    objects: tuple[tuple[float, float, float], ...]
    """Reward, termination probability and respawn probability of each object."""
    limit: int
    walls: tuple[str, ...] = ()
    """Rows of the grid, `#` for a wall, without the outer frame; empty for none."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.height, self.width

    @property
    def slots(self) -> int:
        """Number of objects, O."""
        return len(self.objects)

    def draw(self, count: int, generator: torch.Generator) -> Levels:
        """`count` levels with objects in distinct free cells."""
        device = generator.device
        wall = torch.zeros(self.height * self.width, dtype=torch.bool)
        for row, line in enumerate(self.walls):
            for column, mark in enumerate(line):
                wall[row * self.width + column] = mark == "#"
        walls = wall.to(device).expand(count, -1).clone()
        numbers = torch.tensor(self.objects, device=device).T[:, None].expand(3, count, -1)
        reward, ends, returns = (x.clone() for x in numbers)
        return Levels(
            wall=walls,
            cell=free_cells(walls, self.slots, generator),
            reward=reward, ends=ends, returns=returns,
            exists=torch.ones_like(reward, dtype=torch.bool),
            start=torch.full((count,), -1, device=device),
            limit=torch.full((count,), self.limit, device=device),
        )  # fmt: skip


_LONGER = (
    "    #    ",
    "         ",
    "    #    ",
    "   ###   ",
    "    #    ",
    "         ",
    "    #    ",
)
_FOUR_ROOMS = (
    "     #     ",
    "     #     ",
    "           ",
    "     #     ",
    "     #     ",
    "## ##### ##",
    "     #     ",
    "     #     ",
    "           ",
    "     #     ",
    "     #     ",
)

NAMED = {
    "dense": NamedGrid(11, 11, (*((1.0, 0.0, 0.05),) * 2, (-1.0, 0.5, 0.1), (-1.0, 0.0, 0.5)), 500),
    "sparse": NamedGrid(13, 13, ((1.0, 1.0, 0.0), (-1.0, 1.0, 0.0)), 50),
    "long": NamedGrid(11, 11, (*((1.0, 0.0, 0.01),) * 2, *((-1.0, 0.5, 1.0),) * 2), 1_000),
    "longer": NamedGrid(7, 9, (*((1.0, 0.1, 0.01),) * 2, *((-1.0, 0.8, 1.0),) * 5), 2_000, _LONGER),
    "long-dense": NamedGrid(11, 11, ((1.0, 0.0, 0.005),) * 4, 2_000, _FOUR_ROOMS),
}  # fmt: skip
"""The paper's tabular grids."""

_TWO_WALLS = (
    "       ",
    "  #    ",
    "       ",
    "    #  ",
    "       ",
)

RANDOM = {
    "dense": NAMED["dense"],
    "long": NAMED["long"],
    "small": NamedGrid(5, 7, (*((1.0, 0.0, 0.05),) * 2, *((-1.0, 0.5, 0.1),) * 2), 500, _TWO_WALLS),
    "sparse": NamedGrid(5, 7, ((1.0, 1.0, 1.0), *((-1.0, 1.0, 1.0),) * 2), 50),
    "very-dense": NamedGrid(11, 11, ((1.0, 0.0, 1.0),), 2_000),
}  # fmt: skip
"""The paper's random grids, in which objects have no fixed cells."""


@dataclass(frozen=True)
class RandomLevels:
    """A distribution of levels with random sizes, walls and objects."""

    sides: tuple[int, int]
    """Smallest and largest height and width."""
    objects: tuple[int, int]
    """Smallest and largest number of objects, each with its own properties."""
    limits: tuple[int, int]
    """Smallest and largest time limit in steps; it is drawn log-uniformly."""
    walls: int = 7
    """Number of cells drawn as walls; some may be outside a smaller grid or coincide."""
    kinds: tuple[tuple[float, float, float], ...] = ()
    """Reward, termination probability and respawn probability of each object; drawn at random if empty."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the largest level."""
        return self.sides[1], self.sides[1]

    @property
    def slots(self) -> int:
        """Largest number of objects, O."""
        return self.objects[1]

    def draw(self, count: int, generator: torch.Generator) -> Levels:
        """`count` levels; start and objects are in distinct free cells."""
        device, side = generator.device, self.sides[1]
        height, width = _whole(self.sides, (2, count), generator)
        row = torch.arange(side * side, device=device) // side
        column = torch.arange(side * side, device=device) % side
        outside = (row >= height[:, None]) | (column >= width[:, None])
        drawn = _whole((0, side * side - 1), (count, self.walls), generator)
        wall = outside.scatter(1, drawn, torch.ones_like(drawn, dtype=torch.bool))
        places = free_cells(wall, 1 + self.slots, generator, never=outside)
        # A small level may have too few free cells; walls are then removed.
        wall = wall.scatter(1, places, torch.zeros_like(places, dtype=torch.bool))
        number = _whole(self.objects, (count, 1), generator)
        exists = torch.arange(self.slots, device=device) < number
        reward, ends, returns = self._kinds(count, generator)
        limit = _log_uniform(self.limits, (count,), generator).round().long()
        return Levels(
            wall=wall,
            cell=places[:, 1:],
            reward=reward * exists, ends=ends * exists, returns=returns * exists,
            exists=exists,
            start=places[:, 0],
            limit=limit,
        )  # fmt: skip

    def _kinds(self, count: int, generator: torch.Generator) -> Tensor:
        """Rewards, termination probabilities and respawn probabilities, [3, N, O]."""
        device, size = generator.device, (count, self.slots)
        if self.kinds:
            return torch.tensor(self.kinds, device=device).T[:, None].expand(3, *size)
        share = torch.rand(size, generator=generator, device=device)
        # The first object never has a negative reward, so every level has something to collect.
        first = torch.arange(self.slots, device=device) == 0
        ends = _log_uniform((0.01, 1.0), size, generator)
        returns = _log_uniform((0.001, 0.1), size, generator)
        return torch.stack([torch.where(first, share, 2 * share - 1), ends, returns])


LEVELS = {
    "small": RandomLevels((4, 6), (1, 3), (20, 100)),
    "medium": RandomLevels((6, 8), (2, 4), (100, 250), walls=10),
    "large": RandomLevels((8, 10), (2, 5), (250, 750), walls=15),
    "all": RandomLevels((4, 10), (1, 5), (20, 750), walls=15),
    # Held out from rules that are meta-trained on the others: other rewards, probabilities and lengths.
    "long": RandomLevels((4, 6), (3, 3), (200, 200), kinds=(*((1.0, 0.0, 0.01),) * 2, (-1.0, 0.5, 1.0))),
    "sparse": RandomLevels((4, 6), (2, 2), (50, 50), kinds=((1.0, 1.0, 0.0), (-1.0, 1.0, 0.0))),
}  # fmt: skip
"""Distributions of levels: the first four of Jackson et al., and two with other kinds of objects."""


def free_cells(
    wall: Tensor, count: int, generator: torch.Generator, *, never: Tensor | None = None
) -> Tensor:
    """Draws distinct free cells of each level, int64 [N, count].

    Args:
        wall: Cells to avoid, bool [N, C]; they are taken only if there are not enough others.
        count: Number of cells.
        generator: Source of random numbers.
        never: Cells that are never taken, bool [N, C].
    """
    order = torch.rand(wall.shape, generator=generator, device=wall.device) - wall.float()
    if never is not None:
        order = order.masked_fill(never, -2.0)
    return order.topk(count).indices


def _whole(bounds: tuple[int, int], shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Uniform random integers, both bounds included."""
    low, high = bounds
    return torch.randint(low, high + 1, tuple(shape), generator=generator, device=generator.device)


def _log_uniform(
    bounds: tuple[float, float], shape: Sequence[int], generator: torch.Generator
) -> Tensor:
    """Random numbers whose logarithm is uniform."""
    low, high = map(math.log, bounds)
    share = torch.rand(tuple(shape), generator=generator, device=generator.device)
    return (low + share * (high - low)).exp()
