"""A network that redraws pictures in one of several styles, in one pass.

    h_0 = A_k(conv(x)),   h_1 = A_k(conv_stride_2(h_0)),   h_{i+1} = h_i + A_k(conv(A_k(conv(h_i)))),   y = sigmoid(conv(A_k(conv(up(h)))))

with ReLUs after all A_k but the last one of a residual block. A_k(z) = gamma_k (z - mean) / sd + beta_k is instance normalisation, over the pixels
of each picture, with a scale and shift for each style k and channel: all other weights are shared by the styles.

Johnson et al., 2016, https://arxiv.org/abs/1603.08155, for the network; Ulyanov et al., 2016, https://arxiv.org/abs/1607.08022, for
instance normalisation; Dumoulin et al., 2017, https://arxiv.org/abs/1610.07629, for its styles

Differences from the papers: one halving of the picture instead of two, two residual blocks instead of five, fewer channels and 3x3 instead of 9x9
convolutions at both ends, because the pictures are small and agents need their details.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rlbench.backbones.encoders._base import Encoder, Kind, at_least_one
from rlbench.backbones.layers.convolution import convolution
from rlbench.errors import UserError

EPSILON = 1e-5
STYLES = "styles are drawn in colours"
"""Start of the error message for observations that are not images of bytes."""
SMALLEST = 3
"""Fewest rows and columns of a picture: with fewer, it would be one pixel high or wide at half the resolution, too few to mirror."""


class Styled(nn.Module):
    """A convolution with mirrored borders, and instance normalisation with a scale and shift for each style."""

    def __init__(self, channels: int, out: int, styles: int, stride: int = 1) -> None:
        """From `channels` to `out` channels."""
        super().__init__()
        self.convolution = convolution(channels, out, 3, "bn", stride)
        self.convolution.padding = (0, 0)
        self.scale = nn.Parameter(torch.ones(styles, out))
        self.shift = nn.Parameter(torch.zeros(styles, out))

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """[B, C, H, W] to [B, out, H / stride, W / stride], in the styles int64 [B]."""
        normal = F.instance_norm(self.convolution(F.pad(x, (1, 1, 1, 1), "reflect")), eps=EPSILON)
        scale, shift = (each[style][..., None, None] for each in (self.scale, self.shift))
        return normal * scale + shift


class Canvas(nn.Module):
    """The layers of a painter."""

    def __init__(self, channels: int, styles: int, width: int, blocks: int) -> None:
        """See `Painter`."""
        super().__init__()
        self.down = nn.ModuleList([
            Styled(channels, width, styles), Styled(width, 2 * width, styles, stride=2),
        ])  # fmt: skip
        self.blocks = nn.ModuleList(
            nn.ModuleList(Styled(2 * width, 2 * width, styles) for _ in range(2))
            for _ in range(blocks)
        )
        self.up = Styled(2 * width, width, styles)
        self.last = nn.Conv2d(width, channels, 3)

    def paint(self, x: Tensor, style: Tensor) -> Tensor:
        """Pictures [B, C, H, W] from 0 to 1, redrawn in the styles int64 [B]."""
        size = x.shape[2:]
        for layer in self.down:
            x = torch.relu(layer(x, style))
        for pair in self.blocks:
            first, second = pair.children()
            x = x + second(torch.relu(first(x, style)), style)
        x = torch.relu(self.up(F.interpolate(x, size=size), style))
        return torch.sigmoid(self.last(F.pad(x, (1, 1, 1, 1), "reflect")))

    def forward(self, x: Tensor) -> Tensor:
        """The pixels of pictures in the first style, [B, C * H * W]."""
        first = torch.zeros(len(x), dtype=torch.long, device=x.device)
        return self.paint(x, first).flatten(1)


KIND = Kind(Canvas, "images", scale=1 / 255)


class Painter(Encoder):
    """An encoder with a method that redraws pictures; its features are the pixels of the first style."""

    layers: Canvas

    def __init__(self, obs_shape: tuple[int, ...], styles: int, width: int, blocks: int) -> None:
        """A network with random weights.

        Args:
            obs_shape: One picture, with its 1 or 3 channels first or last.
            styles: Number of styles.
            width: Channels at the size of the picture; twice as many at half of it.
            blocks: Number of residual blocks.

        Raises:
            UserError: A number is below 1, or observations are not pictures or are too small.
        """
        at_least_one("the painter", styles=styles, width=width, blocks=blocks)
        colours = (1, 3)
        if len(obs_shape) != 3 or not {obs_shape[0], obs_shape[-1]} & {*colours}:
            raise UserError(
                f"observations have the shape {obs_shape}; styles need pictures with 1 or 3 channels, so give a task such as coinrun"
            )
        last = obs_shape[0] not in colours
        rows, columns = obs_shape[:2] if last else obs_shape[1:]
        if min(rows, columns) < SMALLEST:
            raise UserError(
                f"observations have {rows}x{columns} pixels; styles need pictures with {SMALLEST} or more rows and columns, so give a task such as coinrun"
            )
        canvas = Canvas(obs_shape[-1 if last else 0], styles, width, blocks)
        super().__init__(KIND, canvas, obs_shape, last)
        self.styles = styles

    def paint(self, obs: Tensor, style: Tensor) -> Tensor:
        """Pictures [B, ...] with values from 0 to 255, redrawn in the styles int64 [B], as numbers from 0 to 255."""
        made = 255 * self.layers.paint(self.images(obs), style)
        return made.permute(0, 2, 3, 1) if self.channels_last else made
