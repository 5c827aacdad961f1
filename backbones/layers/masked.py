"""Layers in which a pixel depends on earlier pixels only: on those above it, and on those to its left in its row.

The channels of a pixel are ordered too. Feature maps are divided into as many groups as an image has channels: group g of the first
layer sees the channels before g of its own pixel (mask A), and group g of every later one sees the groups up to g (mask B).

van den Oord et al., 2016, https://arxiv.org/abs/1601.06759 (masks) and https://arxiv.org/abs/1606.05328 (gates and stacks); Chen et al.,
2018, https://arxiv.org/abs/1712.09763 (attention)
"""

from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def seen(inputs: int, outputs: int, groups: int, *, first: bool, halves: int = 1) -> Tensor:
    """Which inputs an output may read at its own pixel, bool [outputs, inputs].

    >>> seen(3, 3, 3, first=True).int().tolist()
    [[0, 0, 0], [1, 0, 0], [1, 1, 0]]
    >>> seen(2, 4, 2, first=False, halves=2).int().tolist()
    [[1, 0], [1, 1], [1, 0], [1, 1]]

    Args:
        inputs: Number of input maps, in groups of equal size.
        outputs: Number of output maps.
        groups: Number of groups.
        first: Mask A, for layers that read the image itself; otherwise mask B.
        halves: Number of equal parts of the outputs, each with all groups.
    """
    part = outputs // halves
    to = torch.arange(outputs) % part * groups // part
    of = torch.arange(inputs) * groups // inputs
    return to[:, None] > of if first else to[:, None] >= of


class CausalConv(nn.Module):
    """A convolution whose kernel ends in the row of the pixel; pixels outside the image are 0."""

    mask: Tensor

    def __init__(self, mask: Tensor, *, left: int, gain: float = 1.0) -> None:
        """A kernel with some weights fixed at 0.

        Args:
            mask: Weights that are not 0, bool [outputs, inputs, rows, columns].
            left: Columns of the kernel to the left of the pixel; all others but its own are to the right.
            gain: Standard deviation of the outputs at first, for inputs with the mean square 1.
        """
        super().__init__()
        outputs, _, rows, columns = mask.shape
        read = max(float(mask.sum()) / outputs, 1.0)
        self.weight = nn.Parameter(torch.randn(mask.shape) * (gain / read**0.5))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.register_buffer("mask", mask.float(), persistent=False)
        self.padding = (left, columns - 1 - left, rows - 1, 0)

    def forward(self, x: Tensor) -> Tensor:
        """Maps [B, outputs, H, W] of maps [B, inputs, H, W]."""
        return self.within(F.pad(x, self.padding))

    def within(self, x: Tensor) -> Tensor:
        """The same without padding, [B, outputs, H - rows + 1, W - columns + 1]."""
        return F.conv2d(x, self.weight * self.mask, self.bias)


def pointwise(inputs: int, outputs: int, groups: int, gain: float = 1.0) -> CausalConv:
    """A 1x1 convolution with mask B."""
    mask = seen(inputs, outputs, groups, first=False)[..., None, None]
    return CausalConv(mask, left=0, gain=gain)


def whole(inputs: int, outputs: int, rows: int, columns: int, gain: float = 1.0) -> CausalConv:
    """A convolution without a mask, [outputs, inputs, rows, columns], for maps that contain no pixel of the current row."""
    mask = torch.ones(outputs, inputs, rows, columns).bool()
    return CausalConv(mask, left=columns // 2, gain=gain)


def in_row(
    inputs: int, outputs: int, size: int, groups: int, *, first: bool, gain: float = 1.0
) -> CausalConv:
    """The masked convolution of the horizontal stack: the pixels to the left within half the kernel, and the pixel itself."""
    reach = size // 2
    mask = torch.ones(outputs, inputs, 1, reach + 1).bool()
    mask[:, :, 0, reach] = seen(inputs, outputs, groups, first=first, halves=2)
    return CausalConv(mask, left=reach, gain=gain)


def in_square(
    inputs: int, outputs: int, size: int, groups: int, *, first: bool, gain: float = 1.0
) -> CausalConv:
    """The masked convolution of the original PixelCNN: the pixels of a square kernel that come before its centre, and the centre."""
    reach = size // 2
    mask = torch.ones(outputs, inputs, reach + 1, size).bool()
    mask[:, :, reach, reach:] = False
    mask[:, :, reach, reach] = seen(inputs, outputs, groups, first=first)
    return CausalConv(mask, left=reach, gain=gain)


def shifted_down(x: Tensor) -> Tensor:
    """Maps [B, C, H, W] moved down by one row, so that each pixel has what the pixel above had."""
    return F.pad(x, (0, 0, 1, 0))[:, :, :-1]


def gate(x: Tensor) -> Tensor:
    """The tanh of the first half of the maps times the sigmoid of the second, [B, 2C, H, W] to [B, C, H, W]."""
    content, opening = x.chunk(2, dim=1)
    return torch.tanh(content) * torch.sigmoid(opening)


GATES = 3.0
"""About one over the standard deviation of `gate`, for inputs with the standard deviation 1."""


class GatedLayer(nn.Module):
    """One layer of both stacks of the gated PixelCNN; without a blind spot.

    The vertical stack sees the rows above a pixel, and the horizontal one the pixels to the left in its row. The vertical one reads its
    own row too; it is therefore shifted down before the horizontal one reads it.
    """

    def __init__(
        self,
        inputs: int,
        width: int,
        size: int,
        groups: int,
        condition: int,
        *,
        first: bool,
        last: bool = False,
        gain: float = 1.0,
    ) -> None:
        """A layer of `width` maps in each stack.

        Args:
            inputs: Maps of the input.
            width: Maps of the output.
            size: Odd side of the kernel (paper: n).
            groups: Channels of the image.
            condition: Maps of the condition; 0: there is none.
            first: Whether the layer reads the image itself, so that it has mask A and no residual connection.
            last: Whether no layer follows that reads the vertical stack, so that it has no gates there.
            gain: One over the root mean square of the inputs, so that signals keep their size at first.
        """
        super().__init__()
        self.first, self.last, self.size = first, last, size
        self.vertical = whole(inputs, 2 * width, size // 2 + 1, size, gain)
        self.horizontal = in_row(inputs, 2 * width, size, groups, first=first, gain=gain)
        self.link = whole(2 * width, 2 * width, 1, 1)
        self.out = pointwise(width, width, groups, GATES)
        self.conditions = nn.ModuleList()
        if condition:
            stacks = 1 if last else 2
            self.conditions.extend(
                nn.Conv2d(condition, 2 * width, 1, bias=False) for _ in range(stacks)
            )

    def conditioned(self, condition: Tensor | None) -> tuple[Tensor | float, Tensor | float]:
        """What is added before the gates of the horizontal and the vertical stack, [B, 2 width, H or 1, W or 1] each."""
        if condition is None:
            return 0.0, 0.0
        left, *above = (layer(condition) for layer in self.conditions)
        return left, above[0] if above else 0.0

    def forward(self, v: Tensor, h: Tensor, condition: Tensor | None) -> tuple[Tensor, Tensor]:
        """Outputs of the vertical and the horizontal stack, [B, width, H, W] each; the first layer reads the image as both."""
        left, above = self.conditioned(condition)
        column = self.vertical(v)
        row = self.horizontal(h) + self.link(shifted_down(column))
        out = self.out(gate(row + left))
        return v if self.last else gate(column + above), out if self.first else h + out


class PlainLayer(nn.Module):
    """A layer of the original PixelCNN: a square masked convolution, which has a blind spot above and to the right."""

    def __init__(
        self,
        inputs: int,
        width: int,
        size: int,
        groups: int,
        condition: int,
        *,
        first: bool,
        last: bool = False,
        gain: float = 1.0,
    ) -> None:
        """See `GatedLayer`."""
        super().__init__()
        self.first, self.size = first, size
        self.square = in_square(inputs, width, size, groups, first=first, gain=2**0.5 * gain)
        self.out = pointwise(width, width, groups)
        self.conditions = nn.ModuleList()
        if condition:
            self.conditions.append(nn.Conv2d(condition, width, 1, bias=False))

    def conditioned(self, condition: Tensor | None) -> Tensor | float:
        """What is added to the convolution, [B, width, H or 1, W or 1]."""
        return 0.0 if condition is None else self.conditions[0](condition)

    def forward(self, v: Tensor, h: Tensor, condition: Tensor | None) -> tuple[Tensor, Tensor]:
        """`v` unchanged, and the output, [B, width, H, W]."""
        x = h if self.first else torch.relu(h)
        out = self.out(torch.relu(self.square(x) + self.conditioned(condition)))
        return v, out if self.first else h + out


class CausalAttention(nn.Module):
    """Self-attention of each pixel to all earlier ones, with one head for each group.

    Keys and values are moved by one pixel and begin with a pixel of zeros, so that no group of a pixel reads another one of that pixel.
    """

    def __init__(self, width: int, groups: int, rows: int, columns: int) -> None:
        """For maps of `width` channels, a multiple of the number of groups."""
        super().__init__()
        self.groups = groups
        self.position = nn.Parameter(torch.zeros(width, rows, columns))
        """What a pixel adds to its features, so that attention can depend on positions."""
        self.query = pointwise(width, width, groups)
        self.key, self.value = nn.Conv2d(width, width, 1), nn.Conv2d(width, width, 1)
        self.out = pointwise(width, width, groups)

    def heads(self, x: Tensor) -> Tensor:
        """Pixels in raster order, [B, groups, H * W, width / groups], of maps [B, width, H, W]."""
        found: Tensor = x.flatten(2).unflatten(1, (self.groups, -1)).transpose(2, 3)
        return found

    def forward(self, h: Tensor) -> Tensor:
        """Maps [B, width, H, W] with what was read from earlier pixels added."""
        x = h + self.position
        key, value = (
            F.pad(self.heads(part(x)), (0, 0, 1, 0))[:, :, :-1] for part in (self.key, self.value)
        )
        read = F.scaled_dot_product_attention(self.heads(self.query(x)), key, value, is_causal=True)
        found: Tensor = h + self.out(read.transpose(2, 3).reshape(h.shape))
        return found


LAYERS: Mapping[Literal["gated", "plain"], type[GatedLayer | PlainLayer]] = {
    "gated": GatedLayer,
    "plain": PlainLayer,
}
"""Layers by form."""
