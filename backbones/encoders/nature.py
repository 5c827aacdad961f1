"""The convolutions of the deep Q-network (Mnih et al., 2015, Nature 518, methods)."""

from torch import nn

from rlbench.backbones.encoders._base import Kind
from rlbench.backbones.layers.convolution import Norm, normalised
from rlbench.backbones.layers.pooling import LEVELS, Head, make_head
from rlbench.errors import UserError


def nature_layers(
    channels: int,
    norm: Norm = "none",
    head: Head = "flatten",
    levels: str = LEVELS,
    width: float = 1.0,
) -> nn.Module:
    """Three convolutions of 8x8, 4x4 and 3x3 with strides 4, 2 and 1.

    Args:
        channels: Channels of an image.
        norm: After every convolution; the paper has none.
        head: See `layers/pooling.py`; the paper's is `flatten`.
        levels: See `make_head`.
        width: Multiplier of the numbers of filters, which are rounded.

    Raises:
        UserError: A convolution would have no filter.
    """
    few, many = round(32 * width), round(64 * width)
    if few < 1:
        raise UserError(f"width of nature is {width}; give a number above 0.02")
    made = nn.Sequential(
        nn.Conv2d(channels, few, 8, stride=4),
        nn.ReLU(),
        nn.Conv2d(few, many, 4, stride=2),
        nn.ReLU(),
        nn.Conv2d(many, many, 3),
        nn.ReLU(),
        make_head(head, levels),
    )
    return normalised(made, norm)


NATURE = Kind(nature_layers, "images", scale=1 / 255)
