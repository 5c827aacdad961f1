"""Encoders of grids; MiniGrid's have a type, a colour and a state for each cell."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rlbench.backbones.encoders._base import Kind
from rlbench.backbones.layers.convolution import Norm, normalised
from rlbench.backbones.layers.pooling import LEVELS, Head, make_head


def grid_layers(
    channels: int,
    norm: Norm = "none",
    head: Head = "flatten",
    levels: str = LEVELS,
    pool: Literal["max", "none"] = "max",
) -> nn.Module:
    """The network for grids, [B, C, W, H] of small integers, used without scaling.

    Three convolutions of 2x2 with 16, 32 and 32 channels; 288 features of an 11x11 grid
    (Igl et al., 2019, https://arxiv.org/abs/1910.12911, the authors' model `default2`).

    Args:
        channels: Numbers of a cell.
        norm: After every convolution; the authors have none.
        head: See `layers/pooling.py`; the authors' is `flatten`.
        levels: See `make_head`.
        pool: After the first convolution: `max`, as the authors have, or `none`, which keeps 512 features of a 7x7 view
            instead of 32.
    """
    made = nn.Sequential(
        nn.Conv2d(channels, 16, 2),
        nn.ReLU(),
        nn.MaxPool2d(2) if pool == "max" else nn.Identity(),
        nn.Conv2d(16, 32, 2),
        nn.ReLU(),
        nn.Conv2d(32, 32, 2),
        nn.ReLU(),
        make_head(head, levels),
    )
    return normalised(made, norm)


class OneHot(nn.Module):
    """MiniGrid's types, colours and states [B, 3, W, H] as one-hot channels [B, 21, W, H].

    As plain numbers they have an order without meaning, which a network would have to unlearn.
    """

    sizes = (11, 6, 4)
    """Number of types, colours and states; any other number becomes all zeros."""

    def __init__(self) -> None:
        """Makes the table of all cells: reading it is faster than comparing numbers."""
        super().__init__()
        numbers = torch.cartesian_prod(*(torch.arange(n + 1) for n in self.sizes))
        rows = [torch.eye(n + 1, n)[x] for n, x in zip(self.sizes, numbers.T, strict=True)]
        self.register_buffer("table", torch.cat(rows, dim=1), persistent=False)
        self.register_buffer("most", torch.tensor(self.sizes, dtype=torch.float), persistent=False)
        _, colours, states = (n + 1.0 for n in self.sizes)
        place = torch.tensor([colours * states, states, 1.0])
        self.register_buffer("place", place, persistent=False)
        self.table: Tensor
        self.most: Tensor
        self.place: Tensor

    def forward(self, grid: Tensor) -> Tensor:
        """1.0 where the cell has the channel's number."""
        row = grid.movedim(1, -1).minimum(self.most) @ self.place
        return F.embedding(row.long(), self.table).movedim(-1, 1)


def one_hot_grid_layers(
    channels: int,
    norm: Norm = "none",
    head: Head = "flatten",
    levels: str = LEVELS,
    pool: Literal["max", "none"] = "max",
) -> nn.Module:
    """The network of `grid_layers` after `OneHot`."""
    return nn.Sequential(OneHot(), grid_layers(sum(OneHot.sizes), norm, head, levels, pool))


GRID = Kind(grid_layers, "grids", any_channels=True, memory_format=torch.channels_last)
ONE_HOT_GRID = Kind(one_hot_grid_layers, "grids", memory_format=torch.channels_last)
