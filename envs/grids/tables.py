"""Tables of what happens in the cells of grids, with an entry for each action, as the engine and exact values read them."""

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from rlbench.envs.grids.levels import Levels

MOVES = ((-1, 0), (1, 0), (0, -1), (0, 1), (0, 0), (-1, -1), (-1, 1), (1, -1), (1, 1))
"""Row and column offsets of the moves: up, down, left, right, stay, then the diagonals."""
ACTION_SETS = {5: MOVES[:5], 9: MOVES, 18: MOVES}
"""Moves for each number of actions; with 18, nine actions move and nine collect from the cell that they point at."""


@dataclass(frozen=True)
class Tables:
    """Tables of the levels that `step` reads, shaped for all workers at once."""

    world: Tensor
    """First entry of each world in the two tables below, [N, 1]."""
    next: Tensor
    """Cell after an action, [N, C * A]."""
    reach: Tensor | None
    """Cell from which the action collects, -1 for none, [N, C * A]; None if it is always the cell after the action."""
    object_cell: Tensor
    """Cells of the objects, [N, 1, O]."""
    exists: Tensor
    """Whether a level has the object, [N, 1, O]."""
    reward: Tensor
    """Rewards, [N, 1, O]."""
    ends: Tensor
    """Termination probabilities, [N, 1, O]."""
    returns: Tensor
    """Respawn probabilities, [N, 1, O]."""
    limit: Tensor
    """Time limits, [N, 1]."""
    starts: Tensor
    """Cells of each level; those in which an episode may start come first, [N, C]."""
    start_count: Tensor
    """Number of cells in which an episode may start, [N, 1]."""

    @classmethod
    def of(cls, levels: Levels, shape: tuple[int, int], actions: int) -> "Tables":
        """The tables of some levels; see `move_table`."""
        move, reach = move_table(levels.wall, shape, actions), None
        if actions == 18:
            # Moves collect nothing; the other nine actions stay and collect.
            stay = torch.arange(move.shape[1], device=move.device)[None, :, None].expand_as(move)
            nowhere = torch.full_like(move, -1)
            move, reach = torch.cat([move, stay], -1), torch.cat([nowhere, move], -1)
        first = torch.arange(len(levels), device=move.device) * move[0].numel()
        # A level without an object may start in the cell that the object would have.
        occupied = levels.wall | torch.zeros_like(levels.wall).scatter(
            1, levels.cell, levels.exists
        )
        # A fixed start is the only one in its list; otherwise all free cells come first.
        fixed = (levels.start >= 0)[:, None]
        free = torch.sort(occupied.byte(), dim=1, stable=True).indices
        return cls(
            world=first[:, None],
            next=move.flatten(1), reach=None if reach is None else reach.flatten(1),
            object_cell=levels.cell[:, None], exists=levels.exists[:, None],
            reward=levels.reward[:, None], ends=levels.ends[:, None],
            returns=(levels.returns * levels.exists)[:, None], limit=levels.limit[:, None],
            starts=torch.where(fixed, levels.start[:, None], free),
            start_count=torch.where(fixed, 1, (~occupied).sum(1, keepdim=True)).float(),
        )  # fmt: skip

    def put(self, rows: Tensor, other: "Tables") -> "Tables":
        """A copy in which the levels `rows`, int64 [M], are replaced by the M levels of `other`."""
        changed = {
            x.name: getattr(self, x.name).index_copy(0, rows, getattr(other, x.name))
            for x in fields(self) if x.name != "world" and getattr(self, x.name) is not None
        }  # fmt: skip
        return replace(self, **changed)


def move_table(wall: Tensor, shape: tuple[int, int], actions: int) -> Tensor:
    """The cell that each move leads to, int64 [N, C, moves]; walls and edges leave the agent in place.

    Args:
        wall: bool [N, C].
        shape: Rows and columns.
        actions: See `ACTION_SETS`.
    """
    rows, columns = shape
    cell = torch.arange(rows * columns, device=wall.device)
    move = torch.tensor(ACTION_SETS[actions], device=wall.device)
    row, column = cell[:, None] // columns + move[:, 0], cell[:, None] % columns + move[:, 1]
    inside = (row >= 0) & (row < rows) & (column >= 0) & (column < columns)
    target = torch.where(inside, row * columns + column, cell[:, None])
    blocked = wall[:, target]
    return torch.where(blocked, cell[:, None], target)
