"""Augmentation of images: random rectangles and shifts.

Cut-out: rectangles of random colour over an image, which a policy must learn to ignore. At most five rectangles, each side uniform in 10 to 35 % of the image, as in CoinRun's training
(Cobbe et al., 2019, https://arxiv.org/abs/1812.02341, section 5.3).
"""

from typing import Any

import numpy as np
import torch
from gymnasium import Space, spaces
from torch import Tensor

from rlbench.errors import UserError
from rlbench.packed import not_vectors

MOST, SMALLEST, LARGEST = 5, 0.10, 0.35


def draw_rectangles(count: int, channels: int, generator: torch.Generator) -> Tensor:
    """Rectangles for `count` images, [V, 5, 4 + C]: top, left, bottom, right and colour, in 0 to 1.

    An image has 0 to 5 of them; the others are empty.
    """
    drawn = torch.rand((count, MOST, 5 + channels), generator=generator, device=generator.device)
    corner, sides = drawn[..., :2], SMALLEST + (LARGEST - SMALLEST) * drawn[..., 2:4]
    # Keeps the rectangles whose number is below one number of the image, so all counts are equally likely.
    order = torch.arange(MOST, device=drawn.device)
    used = order < (drawn[:, :1, 4] * (MOST + 1)).floor()
    start = corner * (1 - sides)
    end = torch.where(used[..., None], start + sides, start)
    return torch.cat([start, end, drawn[..., 5:]], dim=-1)


def check_images(
    space: Space[Any],
    what: str = "augment draws colours",
    advice: str = "leave augment off, or use an environment",
) -> None:
    """Refuses observations that are not images with values from 0 to 255.

    Args:
        space: Space of one observation.
        what: Start of the error message, before `from 0 to 255`.
        advice: What the user should do, before `with uint8 images`.

    Raises:
        UserError: Observations of this space are not images with values from 0 to 255.
    """
    if not isinstance(space, spaces.Box) or not np.all(space.high == 255):
        raise UserError(
            f"{what} from 0 to 255, but the observations are {not_vectors(space) or space}; {advice} with uint8 images"
        )


def cut_out(obs: Tensor, rectangles: Tensor, *, channels_last: bool = False) -> Tensor:
    """Draws the rectangles of `draw_rectangles` into images with values from 0 to 255.

    Args:
        obs: [V, C, H, W], or [V, H, W, C].
        rectangles: [V, 5, 4 + C].
        channels_last: Whether `obs` is [V, H, W, C].
    """
    if channels_last:
        return cut_out(obs.movedim(-1, 1), rectangles).movedim(1, -1)
    height, width = obs.shape[-2:]
    y = torch.arange(height, device=obs.device) / height
    x = torch.arange(width, device=obs.device) / width
    for top, left, bottom, right, *colour in rectangles.permute(1, 2, 0).unbind():
        inside_y = (y >= top[:, None]) & (y < bottom[:, None])
        inside_x = (x >= left[:, None]) & (x < right[:, None])
        inside = (inside_y[:, :, None] & inside_x[:, None, :])[:, None]
        paint = (255 * torch.stack(colour, dim=1)).to(obs.dtype)[:, :, None, None]
        obs = torch.where(inside, paint, obs)
    return obs


def shifted(obs: Tensor, offsets: Tensor, *, channels_last: bool = False) -> Tensor:
    """Shifts each image down and to the right by whole pixels; the pixels at its edges are repeated.

    >>> image = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    >>> shifted(image, torch.tensor([[0, 1]])).tolist()
    [[[[1.0, 1.0], [3.0, 3.0]]]]

    Args:
        obs: [B, C, H, W], or [B, H, W, C].
        offsets: Rows and columns, int64 [B, 2]; negative ones shift up and to the left.
        channels_last: Whether `obs` is [B, H, W, C].
    """
    if channels_last:
        return shifted(obs.movedim(-1, 1), offsets).movedim(1, -1)
    each = torch.arange(len(obs), device=obs.device)[:, None, None]
    height, width = obs.shape[-2:]
    y, x = (torch.arange(n, device=obs.device) for n in (height, width))
    rows = (y - offsets[:, :1]).clamp(0, height - 1)
    columns = (x - offsets[:, 1:]).clamp(0, width - 1)
    return obs[each, :, rows[:, :, None], columns[:, None]].movedim(-1, 1)
