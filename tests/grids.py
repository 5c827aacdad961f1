"""Grids drawn by hand, for tests."""

from dataclasses import dataclass

import torch
from torch import Tensor

from rlbench.envs.grids.engine import GridWorlds
from rlbench.envs.grids.levels import Levels

UP, DOWN, LEFT, RIGHT, STAY = range(5)


@dataclass(frozen=True)
class Drawn:
    """A level set with one level: `#` is a wall, `A` the start (if missing, it is drawn), and digits are objects."""

    picture: str
    objects: tuple[tuple[float, float, float], ...]
    limit: int = 1_000

    @property
    def rows(self) -> list[str]:
        return [line for line in self.picture.splitlines() if line]

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.rows), len(self.rows[0])

    @property
    def slots(self) -> int:
        return len(self.objects)

    def draw(self, count: int, generator: torch.Generator) -> Levels:
        marks = "".join(self.rows)
        numbers = torch.tensor(self.objects).T[:, None].expand(3, count, self.slots).clone()
        return Levels(
            wall=torch.tensor([[mark == "#" for mark in marks]]).expand(count, -1).clone(),
            cell=torch.tensor([[marks.index(str(x)) for x in range(self.slots)]]).expand(count, -1).clone(),
            reward=numbers[0], ends=numbers[1], returns=numbers[2],
            exists=torch.ones((count, self.slots), dtype=torch.bool),
            start=torch.full((count,), marks.find("A")),
            limit=torch.full((count,), self.limit),
        )  # fmt: skip


def worlds(
    picture: str, *objects: tuple[float, float, float], actions: int = 5, limit: int = 1_000
) -> GridWorlds:
    """One world with one worker."""
    return GridWorlds(Drawn(picture, objects, limit), 1, 1, actions, seed=0)


def chance(
    world: GridWorlds, ends: float = 0.5, returns: float = 0.5, start: float = 0.0
) -> Tensor:
    """Fixed values in place of the random numbers of a step."""
    numbers = torch.full((1, 1, world.draws), ends)
    numbers[..., world.slots :] = returns
    numbers[..., -1] = start
    return numbers


def play(
    world: GridWorlds, action: int, ends: float = 0.5, returns: float = 0.5, start: float = 0.0
) -> tuple[float, bool, int]:
    """One step: reward, whether the episode is over, and the state before any new episode."""
    reward, over, final = world.step(torch.tensor([[action]]), chance(world, ends, returns, start))
    return float(reward), bool(over), int(final)
