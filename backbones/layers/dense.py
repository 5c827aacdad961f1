"""Layers for dense prediction, which turn an image classifier into a classifier of all pixels.

A classifier whose linear layer reads a map [C, h, w] is a convolution with a kernel of h x w: applied to a larger
map, it gives the classifier's output for every window. Coarse outputs are upsampled by a transposed convolution whose
kernel interpolates bilinearly:

    k[i, j] = (1 - |i - c| / f) (1 - |j - c| / f),   f the factor, c the kernel's centre

Long et al., 2015, https://arxiv.org/abs/1411.4038, sections 3.1 and 3.3
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rlbench.errors import UserError


def bilinear_kernel(factor: int) -> Tensor:
    """The kernel that upsamples by a factor f, [K, K] with K = 2 f - 1 if f is odd, and 2 f if it is even."""
    length = 2 * factor - factor % 2
    weight = 1 - (torch.arange(length) - (length - 1) / 2).abs() / factor
    return weight[:, None] * weight


class Bilinear(nn.Module):
    """Upsamples maps by a transposed convolution with the fixed bilinear kernel.

    Away from the borders it equals `F.interpolate` with `align_corners=False`; values outside the map count as zeros.
    """

    kernel: Tensor

    def __init__(self, factor: int) -> None:
        """Upsamples by a whole number."""
        super().__init__()
        self.factor = factor
        self.register_buffer("kernel", bilinear_kernel(factor), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Maps [B, C, factor H, factor W] of maps [B, C, H, W]."""
        channels = x.shape[1]
        kernel = self.kernel.expand(channels, 1, -1, -1)
        return F.conv_transpose2d(
            x, kernel, stride=self.factor, padding=self.factor // 2, groups=channels
        )


def as_convolution(linear: nn.Linear, channels: int, rows: int, columns: int) -> nn.Conv2d:
    """The convolution that applies a linear layer over maps [C, h, w] to every window of a larger map.

    Args:
        linear: Reads C * h * w values, in the order of `nn.Flatten`.
        channels: C.
        rows: h.
        columns: w.

    Raises:
        UserError: The linear layer reads another number of values.
    """
    if linear.in_features != channels * rows * columns:
        raise UserError(
            f"the linear layer reads {linear.in_features} values, but a map of {channels} channels and "
            f"{rows}x{columns} pixels has {channels * rows * columns}; give the size of the map that it reads"
        )
    made = nn.Conv2d(
        channels, linear.out_features, (rows, columns), bias=linear.bias is not None,
        device=linear.weight.device, dtype=linear.weight.dtype,
    )  # fmt: skip
    with torch.no_grad():
        made.weight.copy_(linear.weight.view(made.weight.shape))
        if made.bias is not None:
            made.bias.copy_(linear.bias)
    return made
