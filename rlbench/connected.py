"""Connected parts of pictures."""

import torch
import torch.nn.functional as F
from torch import Tensor


def connected(pixels: Tensor) -> Tensor:
    """The number of the connected part of each pixel, int64 [B, H, W]; 0 elsewhere. Numbers have gaps.

    Pixels are connected if they touch, also at corners.

    >>> connected(torch.tensor([[[True, False, False], [False, True, False], [False, False, False], [True, False, True]]]))
    tensor([[[ 5,  0,  0],
             [ 0,  5,  0],
             [ 0,  0,  0],
             [10,  0, 12]]])

    Args:
        pixels: Which pixels belong to a part, bool [B, H, W].
    """
    place = torch.arange(1, pixels[0].numel() + 1, device=pixels.device)
    number = place.view(pixels.shape[1:]).float() * pixels  # Exact up to 2^24 pixels.
    before = torch.zeros_like(number)
    while not torch.equal(number, before):
        before = number
        number = F.max_pool2d(number[:, None], 3, stride=1, padding=1)[:, 0] * pixels
    return number.long()
