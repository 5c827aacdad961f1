"""Heads from maps [B, C, H, W] to vectors, by name.

`gap`, the mean over the map (global average pooling, Lin et al., 2014, https://arxiv.org/abs/1312.4400);
`spp`, the largest value in each bin of a pyramid of grids (spatial pyramid pooling, He et al., 2014,
    https://arxiv.org/abs/1406.4729);
`spatial-softmax`, the expected coordinates of each channel (Levine et al., 2016,
    https://arxiv.org/abs/1504.00702);
`flatten`, all values in a row.

All but `flatten` give vectors of the same length for maps of any size.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rlbench.errors import UserError

Head = Literal["gap", "spp", "spatial-softmax", "flatten"]
LEVELS = "1-2-4"
"""Grids of the pyramid, as in section 2 of the paper: 1 + 4 + 16 bins."""


class GlobalAverage(nn.Module):
    """The mean of each channel, [B, C]."""

    def forward(self, x: Tensor) -> Tensor:
        """[B, C] of maps [B, C, H, W]."""
        return x.mean((2, 3))


class SpatialPyramid(nn.Module):
    """The largest value in each bin of n x n grids, for several n.

    Bins begin at floor(i H / n) and end before ceil((i + 1) H / n), so that they cover maps of any size. The
    paper has windows of ceil(H / n) with the stride floor(H / n), which are the same if n divides H.
    """

    def __init__(self, levels: tuple[int, ...]) -> None:
        """`levels`: n of each grid."""
        super().__init__()
        self.levels = levels

    def forward(self, x: Tensor) -> Tensor:
        """[B, C * sum of n^2] of maps [B, C, H, W]: level by level, and within a level channel by channel.

        Raises:
            UserError: The map has fewer rows or columns than the finest grid.
        """
        rows, columns = x.shape[2:]
        finest = max(self.levels)
        # A trace, as for an export, would warn that it does not record the comparison.
        tracing = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
        if not tracing and finest > min(rows, columns):
            raise UserError(
                f"the pyramid's finest level has {finest}x{finest} bins, but the map has {rows}x{columns} "
                "pixels; give larger observations, or smaller levels, as in levels=1-2"
            )
        return torch.cat([F.adaptive_max_pool2d(x, n).flatten(1) for n in self.levels], dim=1)


class SpatialSoftmax(nn.Module):
    """Where each channel is large: expected coordinates under a softmax over the map."""

    def forward(self, x: Tensor) -> Tensor:
        """[B, 2 C] of maps [B, C, H, W]: all rows, then all columns, from -1 to 1 (0 if there is only one)."""
        share = x.flatten(2).softmax(dim=-1).view(x.shape)
        found = []
        for axis, across in ((2, 3), (3, 2)):
            length = x.shape[axis]
            place = torch.linspace(-1, 1, length, device=x.device) * (length > 1)
            found.append(share.sum(across) @ place.to(x.dtype))
        return torch.cat(found, dim=1)


def make_head(head: Head, levels: str) -> nn.Module:
    """The head of a name.

    Args:
        head: Its name.
        levels: Grids of `spp`, as in 1-2-4.

    Raises:
        UserError: `levels` is not a list of whole numbers.
    """
    if head == "spp":
        return SpatialPyramid(whole_numbers("levels", levels, LEVELS))
    made = {"gap": GlobalAverage, "spatial-softmax": SpatialSoftmax, "flatten": nn.Flatten}[head]
    return made()


def whole_numbers(option: str, row: str, example: str) -> tuple[int, ...]:
    """The numbers in a list such as 1-2-4.

    Raises:
        UserError: One of them is not a whole number of 1 or more.
    """
    words = row.split("-")
    if not all(word.isdecimal() and int(word) > 0 for word in words):
        raise UserError(f"{option} is {row!r}; give whole numbers, 1 or more, as in {example}")
    return tuple(int(word) for word in words)
