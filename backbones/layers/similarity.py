"""Structural similarity (SSIM) of two pictures: 1 if they are equal.

    SSIM(x, y) = mean over windows of  (2 m_x m_y + c_1) (2 s_xy + c_2) / ((m_x^2 + m_y^2 + c_1) (s_x^2 + s_y^2 + c_2))

with means m, variances s^2 and covariances s_xy weighted by a Gaussian window of 11x11 pixels with a standard deviation of 1.5, and
c_1 = 0.01^2, c_2 = 0.03^2 for values from 0 to 1.

Wang et al., 2004, "Image Quality Assessment: From Error Visibility to Structural Similarity"
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from rlbench.checks import same_shape

WINDOW, DEVIATION = 11, 1.5
C_1, C_2 = 0.01**2, 0.03**2


def ssim(one: Tensor, other: Tensor) -> Tensor:
    """Similarity [B] of pictures [B, C, H, W] with values from 0 to 1, mean over channels and all windows inside the picture."""
    same_shape(one, other)
    place = torch.arange(WINDOW, device=one.device) - WINDOW // 2
    weight = torch.exp(-0.5 * (place / DEVIATION) ** 2)
    weight = weight / weight.sum()
    batch, channels = one.shape[:2]
    x, y = (each.flatten(0, 1)[:, None] for each in (one, other))
    every = torch.cat([x, y, x * x, y * y, x * y])
    blurred = F.conv2d(F.conv2d(every, weight.view(1, 1, -1, 1)), weight.view(1, 1, 1, -1))
    m_x, m_y, xx, yy, xy = blurred.chunk(5)
    structure = (2 * (xy - m_x * m_y) + C_2) / (xx - m_x**2 + yy - m_y**2 + C_2)
    brightness = (2 * m_x * m_y + C_1) / (m_x**2 + m_y**2 + C_1)
    return (structure * brightness).view(batch, channels, -1).mean((1, 2))
