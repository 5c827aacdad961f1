"""Pictures of observations, and files of pictures."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from rlbench.backbones.analyses._base import Array
from rlbench.errors import UserError


def pillow() -> tuple[Any, Any, Any]:
    """The modules Image, ImageDraw and ImageFont of Pillow.

    Raises:
        UserError: It is not installed.
    """
    try:
        from PIL import Image, ImageDraw, ImageFont
    except ModuleNotFoundError:
        raise UserError(
            "pictures need the package pillow; install it with pip install pillow"
        ) from None
    return Image, ImageDraw, ImageFont


def png(rows: Sequence[Sequence[Array]], enlarged: int) -> bytes:
    """A PNG file of rows of pictures, uint8 [H, W, 3] each, without space between them.

    Args:
        rows: The pictures; each row has the same number of them.
        enlarged: Pixels of the file per pixel of a picture, along each side.

    Raises:
        UserError: Pillow is not installed.
    """
    image, *_ = pillow()
    whole = np.concatenate([np.concatenate(row, axis=1) for row in rows])
    out = io.BytesIO()
    image.fromarray(whole.repeat(enlarged, 0).repeat(enlarged, 1)).save(out, "PNG")
    return out.getvalue()


def as_picture(image: Tensor) -> Array:
    """An image with values from 0 to 1, [H, W, C] or [C, H, W], as uint8 [H, W, 3]; if the channels hold several frames, the newest one.

    >>> import torch
    >>> as_picture(torch.tensor([[[0.0], [1.0]]])).tolist()
    [[[0, 0, 0], [255, 255, 255]]]
    """
    last = image if image.shape[-1] <= image.shape[0] else image.movedim(0, -1)
    channels = last.shape[-1]
    newest = last[..., -3:] if channels % 3 == 0 else last[..., -1:].expand(*last.shape[:-1], 3)
    found: Array = (255 * newest.clamp(0, 1)).round().byte().cpu().numpy()
    return found
