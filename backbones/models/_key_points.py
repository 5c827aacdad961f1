"""Code shared by models of key points: their columns, targets, displacements and measures."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from gymnasium import Space, spaces
from torch import Tensor

from rlbench.backbones.models._base import input_space
from rlbench.backbones.spaces import CHANNELS
from rlbench.errors import UserError

BINOMIAL = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]]) / 16


def image_shape(fields: Mapping[str, Space[Any]]) -> tuple[int, int, int]:
    """Channels, rows and columns of the images that a model reads.

    Raises:
        UserError: The input is not an image.
    """
    shape = tuple(input_space(fields).shape or ())
    if len(shape) != 3 or not {shape[0], shape[-1]} & set(CHANNELS):
        raise UserError(
            f"observations have the shape {shape}; key points are found in images, [H, W, channels] or [channels, H, W] with 1, 3 or "
            "4 channels, such as those of frames-mujoco:halfcheetah"
        )
    return shape if shape[0] in CHANNELS else (shape[2], shape[0], shape[1])


def points_of(fields: Mapping[str, Space[Any]]) -> int:
    """The number of key points, K.

    Raises:
        UserError: The examples have none.
    """
    space = fields.get("keypoints")
    if not (isinstance(space, spaces.Box) and len(space.shape) == 2 and space.shape[1] == 3):
        raise UserError(
            "the examples have no column `keypoints` [K, 3]: column, row and whether it can be seen; they have "
            f"{', '.join(fields)}; give a source such as frames-mujoco:halfcheetah"
        )
    return int(space.shape[0])


def places(keypoints: Tensor, cell: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """Positions in units of cells, (row, column), [B, K, 2], and whether they can be seen, bool [B, K].

    Args:
        keypoints: Column and row in pixels, and whether they can be seen, [B, K, 3].
        cell: Rows and columns of pixels in a cell.
    """
    position = keypoints[..., [1, 0]] / keypoints.new_tensor(cell)
    return position, keypoints[..., 2] > 0


def cells(position: Tensor, size: tuple[int, int]) -> Tensor:
    """The cell of each position in a map of `size`, (row, column), int64 [B, K, 2]; the nearest one for positions outside."""
    last = torch.tensor(size, device=position.device) - 1
    return position.floor().long().clamp(min=0).minimum(last)


def targets(cell: Tensor, size: tuple[int, int]) -> Tensor:
    """True heat maps: the binomial weights of 3x3 cells around the cell of each key point, with the sum 1, [B, K, h, w].

    >>> targets(torch.tensor([[[0, 0]]]), (2, 3))[0, 0] * 9
    tensor([[4., 2., 0.],
            [2., 1., 0.]])

    Args:
        cell: Row and column, int64 [B, K, 2].
        size: Rows and columns of the maps.
    """
    index = cell[..., 0] * size[1] + cell[..., 1]
    one_hot = F.one_hot(index.flatten(), size[0] * size[1]).view(-1, 1, *size)
    binomial = BINOMIAL.to(cell.device)[None, None]
    blurred = F.conv2d(one_hot.to(binomial.dtype), binomial, padding=1)
    found: Tensor = blurred / blurred.sum((2, 3), keepdim=True)
    return found.view(*cell.shape[:2], *size)


def displacements(cell: Tensor, seen: Tensor, size: tuple[int, int]) -> Tensor:
    """How often key point A was displaced from key point v by each number of cells, [K, K, 2h - 1, 2w - 1]; 0 is in the middle.

    >>> counts = displacements(torch.tensor([[[0, 1], [1, 0]]]), torch.ones(1, 2, dtype=torch.bool), (2, 2))
    >>> counts[1, 0].nonzero().tolist()  # one row further down, one column further left
    [[2, 0]]

    Args:
        cell: Row and column, int64 [B, K, 2].
        seen: Which key points can be seen, bool [B, K]; pairs with others do not count.
        size: Rows and columns of the maps, h and w.
    """
    rows, columns = (2 * side - 1 for side in size)
    points = cell.shape[1]
    moved = cell[:, :, None] - cell[:, None] + torch.tensor(size, device=cell.device) - 1
    pair = torch.arange(points**2, device=cell.device).view(points, points)
    index = (pair * rows + moved[..., 0]) * columns + moved[..., 1]
    both = seen[:, :, None] & seen[:, None]
    counts = torch.zeros(points**2 * rows * columns, device=cell.device)
    counts.scatter_add_(0, index.flatten(), both.flatten().float())
    return counts.view(points, points, rows, columns)


def cross_entropies(logits: Tensor, target: Tensor, seen: Tensor) -> Tensor:
    """Cross-entropy of each heat map over its places, in nats, [B, K]; 0 for key points that cannot be seen.

    Args:
        logits: [B, K, h, w].
        target: Probabilities of the same shape.
        seen: Bool [B, K].
    """
    found = -(target * logits.flatten(2).log_softmax(2).view(logits.shape)).sum((2, 3))
    return found * seen


def peaks(logits: Tensor) -> Tensor:
    """The middle of the cell with the largest value, (row, column) in units of cells, [B, K, 2] of maps [B, K, h, w]."""
    best = logits.flatten(2).argmax(2)
    columns = logits.shape[3]
    return torch.stack([best // columns, best % columns], dim=-1) + 0.5
