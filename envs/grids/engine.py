"""Grid worlds as batched tensor programs: N levels with W workers each, all stepped together.

In one step, the agent moves and collects the object in its cell. Then absent objects may respawn, except those that
were just collected. The episode ends with the termination probability of the collected object, or at the time limit,
which counts as a termination.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import Tensor

from rlbench.envs.grids.levels import Levels
from rlbench.envs.grids.tables import Tables
from rlbench.envs.grids.values import exact_values
from rlbench.envs.grids.worlds import Worlds


class LevelSet(Protocol):
    """A distribution of levels."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""

    @property
    def slots(self) -> int:
        """Number of objects, O."""

    def draw(self, count: int, generator: torch.Generator) -> Levels:
        """`count` levels."""


class GridWorlds(Worlds):
    """W workers in each of N levels; observations are state indices, int64 [N, W].

    The index of a state is cell * 2^O + bits of the objects that are present.
    """

    valued = True

    def __init__(
        self, level_set: LevelSet, worlds: int, workers: int, actions: int, seed: int,
        device: torch.device | str = "cpu",
    ) -> None:  # fmt: skip
        """Draws `worlds` levels (N) with `workers` workers each (W).

        Args:
            level_set: The distribution of levels.
            worlds: Number of levels.
            workers: Number of workers in each level.
            actions: 5, 9 or 18, see `ACTION_SETS`.
            seed: Decides the levels and all random events.
            device: Device of all tensors.
        """
        self.level_set, self.actions = level_set, actions
        self.generator = torch.Generator(device).manual_seed(seed)
        self.shape = (worlds, workers)
        rows, columns = level_set.shape
        self.cells, self.slots = rows * columns, level_set.slots
        self.states = self.cells << self.slots
        self.draws = 2 * self.slots + 1
        self.bits = 1 << torch.arange(self.slots, device=device)
        self.cell = torch.zeros(self.shape, dtype=torch.int64, device=device)
        self.present = torch.zeros((*self.shape, self.slots), dtype=torch.bool, device=device)
        self.steps = torch.zeros_like(self.cell)
        self._prepare()
        self.levels = level_set.draw(worlds, self.generator)
        self.tables = self._tables(self.levels)
        self.restart()

    def _prepare(self) -> None:
        """Adds what a subclass needs before the first episodes begin."""

    def renew(self, rows: Tensor, copies: int = 1) -> None:
        """See `Worlds`."""
        drawn = self.level_set.draw(len(rows) // copies, self.generator)
        fresh = drawn.take(torch.arange(len(rows), device=self.device) % len(drawn))
        self.levels = self.levels.put(rows, fresh)
        self.tables = self.tables.put(rows, self._tables(fresh))
        self.begin(self._workers_of(rows), self.chance(1)[0])

    def values(self, policy: Tensor, discount: float) -> Tensor | None:
        """See `Worlds`."""
        return exact_values(self.levels, self.level_set.shape, self.actions, policy, discount)

    def obs(self) -> Tensor:
        """State indices, int64 [N, W]."""
        return (self.cell << self.slots) + (self.present * self.bits).sum(-1)

    def advance(self, action: Tensor, chance: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See `Worlds`."""
        tables = self.tables
        place = tables.world + self.cell * self.actions + action
        self.cell = tables.next.take(place)
        reached = self.cell if tables.reach is None else tables.reach.take(place)
        taken = (reached[..., None] == self.object_cells()) & self.present
        reward = (taken * tables.reward).sum(-1)
        terminated = (taken & (chance[..., : self.slots] < tables.ends)).any(-1)
        back = chance[..., self.slots : 2 * self.slots] < tables.returns
        self._come_back(back, taken, chance)
        self.present = (self.present | back) & ~taken
        self.steps = self.steps + 1
        return reward, terminated, self.steps >= tables.limit

    def begin(self, over: Tensor, chance: Tensor) -> None:
        """See `Worlds`."""
        pick = (chance[..., -1] * self.tables.start_count).long()
        start = self.tables.starts.gather(1, pick)
        self.cell = torch.where(over, start, self.cell)
        self.present = torch.where(over[..., None], self.tables.exists, self.present)
        self.steps = self.steps.masked_fill(over, 0)

    def _tables(self, levels: Levels) -> "Tables":
        return Tables.of(levels, self.level_set.shape, self.actions)

    def object_cells(self) -> Tensor:
        """Cells of the objects, [N, 1 or W, O]."""
        return self.tables.object_cell

    def _come_back(self, back: Tensor, taken: Tensor, chance: Tensor) -> None:
        """Prepares the respawning of absent objects.

        Args:
            back: Which objects respawn if they are absent, bool [N, W, O].
            taken: Which objects were collected in this step, and so do not respawn in it, bool [N, W, O].
            chance: Random numbers of this step.
        """

    def state_dict(self) -> dict[str, Any]:
        """Levels, positions and the generator."""
        return super().state_dict() | {"levels": dict(vars(self.levels))}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues from `state_dict`."""
        super().load_state_dict({name: x for name, x in state.items() if name != "levels"})
        self.levels = Levels(**{name: x.to(self.device) for name, x in state["levels"].items()})
        self.tables = self._tables(self.levels)


class RandomGridWorlds(GridWorlds):
    """Grids whose objects are placed anew in every episode and whenever they respawn.

    Observations are vectors, float [N, W, (1 + O) C]: one plane of C cells for the agent and one for each object, which
    is 1 at its position. An object respawns in a free cell without the agent or another object.
    """

    valued = False

    def _prepare(self) -> None:
        self.states, self.obs_size = None, (1 + self.slots) * self.cells
        self.draws = 3 * self.slots + 1
        self.object_cell = torch.zeros(self.present.shape, dtype=torch.int64, device=self.device)

    def obs(self) -> Tensor:
        """Planes of the agent and the objects, float [N, W, (1 + O) C]."""
        assert self.obs_size is not None
        planes = torch.arange(1 + self.slots, device=self.device) * self.cells
        place = torch.cat([self.cell[..., None], self.object_cell], -1) + planes
        shown = torch.cat([torch.ones_like(self.present[..., :1]), self.present], -1).float()
        return shown.new_zeros((*self.shape, self.obs_size)).scatter(-1, place, shown)

    def begin(self, over: Tensor, chance: Tensor) -> None:
        """See `Worlds`."""
        rank = torch.full_like(self.object_cell, self.cells)
        for slot in range(self.slots):
            rank[..., slot] = self._free(rank, chance[..., 2 * self.slots + slot])
        start = self._free(rank, chance[..., -1])
        floor = self.tables.starts
        cells = floor.gather(1, rank.flatten(1)).view_as(rank)
        self.object_cell = torch.where(over[..., None], cells, self.object_cell)
        self.cell = torch.where(over, floor.gather(1, start), self.cell)
        self.present = torch.where(over[..., None], self.tables.exists, self.present)
        self.steps = self.steps.masked_fill(over, 0)

    def _tables(self, levels: Levels) -> "Tables":
        # The cells of objects differ between episodes, so every cell without a wall is a start.
        anywhere = torch.full_like(levels.start, -1)
        nothing = replace(levels, exists=torch.zeros_like(levels.exists), start=anywhere)
        return replace(
            Tables.of(nothing, self.level_set.shape, self.actions),
            exists=levels.exists[:, None],
            returns=(levels.returns * levels.exists)[:, None],
        )

    def object_cells(self) -> Tensor:
        """Cells of the objects, [N, W, O]."""
        return self.object_cell

    def _come_back(self, back: Tensor, taken: Tensor, chance: Tensor) -> None:
        placed = back & ~self.present
        # On a GPU this check would cost more than it saves.
        if placed.device.type == "cpu" and not placed.any():
            return
        place_of = (~self.levels.wall).cumsum(1) - 1
        here = torch.cat([self.cell[..., None], self.object_cell], -1)
        rank = place_of.gather(1, here.flatten(1)).view_as(here)
        # With 18 actions the agent may stand on an object; a cell must not count twice.
        absent = taken | ~self.present | (rank[..., 1:] == rank[..., :1])
        gone = torch.cat([torch.zeros_like(taken[..., :1]), absent], -1)
        rank = rank.masked_fill(gone, self.cells)
        for slot in range(self.slots):
            free = self._free(rank, chance[..., 2 * self.slots + slot])
            rank[..., slot + 1] = torch.where(placed[..., slot], free, rank[..., slot + 1])
        cells = self.tables.starts.gather(1, rank[..., 1:].flatten(1).clamp(max=self.cells - 1))
        self.object_cell = torch.where(placed, cells.view_as(placed), self.object_cell)

    def _free(self, rank: Tensor, chance: Tensor) -> Tensor:
        """Draws unoccupied free cells uniformly.

        Args:
            rank: Positions of the occupied cells in the list of free cells, int64 [N, W, K]; the number of cells stands
                for none.
            chance: Uniform random numbers, [N, W].

        Returns:
            Positions in the list, int64 [N, W].
        """
        count = self.tables.start_count - (rank < self.cells).sum(-1)
        pick = (chance * count).long()
        # A position among the unoccupied cells becomes one among all by skipping each occupied cell before it.
        for occupied in rank.sort(-1).values.unbind(-1):
            pick = pick + (pick >= occupied)
        return pick
