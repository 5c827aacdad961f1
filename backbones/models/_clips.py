"""Clips of stick figures and pictures, and measures of drawn pictures; see `envs/examples/motion_pairs.py` for the columns."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from gymnasium import Space, spaces
from torch import Tensor

from rlbench.backbones.layers.similarity import ssim
from rlbench.errors import UserError
from rlbench.experience import Examples

DILATION = 5
"""Side of the square by which the mask of a body is dilated, in pixels."""
CROP = 16
"""Rows and columns around a face."""


@dataclass(frozen=True)
class Shape:
    """The shape of clips."""

    frames: int
    rows: int
    columns: int
    parts: int


def shape_of(fields: Mapping[str, Space[Any]]) -> Shape:
    """The shape of the clips of a source.

    Raises:
        UserError: The examples are not such clips.
    """
    found = {name: fields.get(name) for name in ("obs", "frames", "mask", "face")}
    shapes = {name: tuple(x.shape or ()) for name, x in found.items() if isinstance(x, spaces.Box)}
    clip = shapes.get("obs", ())
    fits = len(clip) == 4 and shapes == {
        "obs": clip, "frames": (*clip[:3], 3), "mask": clip[:3], "face": (clip[0], 2),
    }  # fmt: skip
    if not fits or clip[0] < 2 or min(clip[1:3]) < CROP:
        raise UserError(
            f"the examples have the columns {', '.join(fields)}; this model needs clips of 2 or more stick figures [T, H, W, K] with pictures, "
            f"masks and positions of a face, of {CROP} or more pixels, so give a source such as motion-pairs:halfcheetah"
        )
    return Shape(*clip)


def moved(x: Tensor) -> Tensor:
    """Bytes [..., H, W, C] as numbers from -1 to 1, [..., C, H, W]."""
    return x.movedim(-1, -3).float() / 127.5 - 1


def crops(pictures: Tensor, face: Tensor) -> Tensor:
    """Squares around faces, [B, C, CROP, CROP]; they are moved to lie inside the picture.

    Args:
        pictures: [B, C, H, W].
        face: Column and row of the middle of each, [B, 2].
    """
    rows, columns = _places(pictures, face)
    batch = torch.arange(len(pictures), device=pictures.device)[:, None, None]
    return pictures.movedim(1, -1)[batch, rows, columns].movedim(-1, 1)


def pasted(pictures: Tensor, face: Tensor, squares: Tensor) -> Tensor:
    """Pictures [B, C, H, W] whose squares around faces, see `crops`, are replaced."""
    rows, columns = _places(pictures, face)
    batch = torch.arange(len(pictures), device=pictures.device)[:, None, None]
    out = pictures.movedim(1, -1).clone()
    out[batch, rows, columns] = squares.movedim(1, -1)
    return out.movedim(-1, 1)


def _places(pictures: Tensor, face: Tensor) -> tuple[Tensor, Tensor]:
    """Rows [B, CROP, 1] and columns [B, 1, CROP] of the squares."""
    limits = torch.tensor([pictures.shape[3], pictures.shape[2]], device=face.device) - CROP
    first = (face.round().long() - CROP // 2).clamp(min=0).minimum(limits)
    along = torch.arange(CROP, device=face.device)
    return first[:, 1, None, None] + along[:, None], first[:, 0, None, None] + along


def scores(made: Tensor, examples: Examples) -> dict[str, Tensor]:
    """Measures of drawn clips, means over frames, [B] each.

    Args:
        made: Drawn pictures [B, T, 3, H, W], from -1 to 1.
        examples: The clips.

    Returns:
        `ssim`; `l1`, the mean absolute error as a share of the range from black to white; `flicker`, the mean absolute error of the differences
        of consecutive frames, near the body; `face_error`, as `l1` in the square around the face.
    """
    made, true = ((x + 1) / 2 for x in (made, moved(examples["frames"])))
    batch = len(made)
    similarity = ssim(made.flatten(0, 1), true.flatten(0, 1)).view(batch, -1)
    mask = F.max_pool2d(examples["mask"].float(), DILATION, 1, DILATION // 2)
    near = torch.maximum(mask[:, 1:], mask[:, :-1])
    change = (made.diff(dim=1) - true.diff(dim=1)).abs().mean(2)
    face = examples["face"].flatten(0, 1)
    squares = [crops(x.flatten(0, 1), face) for x in (made, true)]
    return {
        "ssim": similarity.mean(1),
        "l1": (made - true).abs().flatten(1).mean(1),
        "flicker": (change * near).flatten(1).sum(1) / near.flatten(1).sum(1).clamp(min=1),
        "face_error": (squares[0] - squares[1]).abs().flatten(1).mean(1).view(batch, -1).mean(1),
    }
