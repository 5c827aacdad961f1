"""Small networks that read a code, a map [B, C, H, W], for a picture or for numbers."""

from torch import nn


def picture_readout(channels: int, width: int, doublings: int, out: int) -> nn.Sequential:
    """Maps [B, out, H 2^n, W 2^n] of codes [B, channels, H, W], by 3x3 convolutions at every size but the largest.

    The last doubling rearranges channels into pixels (Shi et al., 2016, https://arxiv.org/abs/1609.05158), so that no convolution runs at the
    largest size.

    Args:
        channels: Channels of the code.
        width: Channels of the convolutions in between.
        doublings: n.
        out: Channels of the result.
    """
    layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
    for _ in range(doublings - 1):
        layers += [nn.Upsample(scale_factor=2), nn.Conv2d(width, width, 3, padding=1), nn.ReLU()]
    factor = 2 if doublings else 1
    last = nn.Conv2d(width, factor**2 * out, 3, padding=1)
    return nn.Sequential(*layers, last, nn.PixelShuffle(factor))


def vector_readout(channels: int, width: int, pixels: int, out: int) -> nn.Sequential:
    """Numbers [B, out] of codes [B, channels, H, W]: a 3x3 convolution and a hidden layer of four times its width.

    Args:
        channels: Channels of the code.
        width: Channels of the convolution.
        pixels: H W.
        out: How many numbers there are.
    """
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(), nn.Flatten(),
        nn.Linear(width * pixels, 4 * width), nn.ReLU(), nn.Linear(4 * width, out),
    )  # fmt: skip
