"""The layers of MnasNet's search space.

    conv       y = G(relu(N(K x)))                                  k x k, C to C' channels, stride s
    dwconv     y = N(P G(relu(N(D x))))                             D: k x k, depthwise, stride s; P: 1x1, to C' channels
    mbconv e   y = N(P G(relu(N(D relu(N(E x))))))                  E: 1x1, to e C channels

    out = y + x          skip is identity, s = 1 and C = C'
    out = y + pool(x)    skip is pool: mean over 3x3 pixels with stride s; channels are cut off, or zeros are added, to C'
    out = y              otherwise

N is a normalisation, and G squeeze-and-excitation (Hu et al., 2018, https://arxiv.org/abs/1709.01507), which multiplies channels by

    G(h) = h sigmoid(W2 relu(W1 mean(h) + b1) + b2)                 mean over pixels; W1 to max(1, floor(r C)) channels

C is the number of channels of the layer's input and not of the map h. This follows the authors' code, whose parameters and
multiply-adds are the paper's; with the channels of h instead, MnasNet-A1 would have 5.1 million parameters and not 3.9.

Tan et al., 2019, https://arxiv.org/abs/1807.11626, section 4.1. The paper does not define the pooling skip or what
squeeze-and-excitation does in a convolution; both are ours. Pixels outside the map do not count in the pooling's mean.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from rlbench.architecture import EXPANSIONS, Block
from rlbench.backbones.layers.convolution import Norm, convolution, normed_convolution


class SqueezeExcitation(nn.Module):
    """G of the module: maps [B, C, H, W] with each channel multiplied by a number from 0 to 1."""

    def __init__(self, channels: int, squeezed: int) -> None:
        """`squeezed`: channels between the two 1x1 convolutions."""
        super().__init__()
        self.squeeze = convolution(channels, squeezed, 1, "none")
        self.excite = convolution(squeezed, channels, 1, "none")

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to the same shape."""
        means = x.mean((2, 3), keepdim=True)
        gate: Tensor = self.excite(self.squeeze(means).relu()).sigmoid()
        return x * gate


class PoolSkip(nn.Module):
    """The mean over 3x3 pixels, with other numbers of pixels and channels."""

    def __init__(self, out: int, stride: int) -> None:
        """`out`: channels of the output."""
        super().__init__()
        self.out, self.stride = out, stride

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to [B, out, H / stride, W / stride], rounded up."""
        pooled = F.avg_pool2d(x, 3, self.stride, padding=1, count_include_pad=False)
        channels = x.shape[1]
        if self.out <= channels:
            return pooled[:, : self.out]
        return F.pad(pooled, (0, 0, 0, 0, 0, self.out - channels))


class MnasLayer(nn.Module):
    """One layer of a block."""

    def __init__(self, channels: int, block: Block, stride: int, norm: Norm) -> None:
        """`channels`: C of the input, [B, C, H, W]; `stride` is 1 in all layers of a block but the first."""
        super().__init__()
        out, kernel, expansion = block.filters, block.kernel, EXPANSIONS[block.op]
        squeezed = max(1, int(block.se * channels))

        def excitation(width: int) -> list[nn.Module]:
            return [SqueezeExcitation(width, squeezed)] if block.se > 0 else []

        if block.op == "conv":
            conv = normed_convolution(channels, out, kernel, norm, stride)
            self.body = nn.Sequential(conv, *excitation(out))
        else:
            wide = expansion * channels
            expand = [normed_convolution(channels, wide, 1, norm)] if expansion > 1 else []
            self.body = nn.Sequential(
                *expand,
                normed_convolution(wide, wide, kernel, norm, stride, depthwise=True),
                *excitation(wide),
                normed_convolution(wide, out, 1, norm, activation=None),
            )
        self.skip: nn.Module | None = None
        if block.skip == "pool":
            self.skip = PoolSkip(out, stride)
        elif block.skip == "identity" and stride == 1 and channels == out:
            self.skip = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to [B, C', H / stride, W / stride], rounded up."""
        y: Tensor = self.body(x)
        return y if self.skip is None else y + self.skip(x)
