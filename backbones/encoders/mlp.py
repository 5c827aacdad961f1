"""Fully connected layers with ReLU over all values of an observation, such as LeNet's layers of 300 and 100 units in work on pruning.

The values of images are divided by 255, as in all encoders of images.

LeCun et al., 1998, "Gradient-based learning applied to document recognition", https://doi.org/10.1109/5.726791, section III.C.4
"""

from math import prod

from torch import Tensor, nn

from rlbench.backbones.encoders._base import Kind
from rlbench.backbones.layers.mlp import MLP
from rlbench.backbones.layers.pooling import whole_numbers

IMAGE_DIMS = 3


class Flat(nn.Module):
    """All values in a row, multiplied by a number, [B, D]."""

    def __init__(self, scale: float) -> None:
        """Multiplies by `scale`."""
        super().__init__()
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """[B, D] of [B, ...]."""
        return x.flatten(1) * self.scale


def mlp_layers(shape: tuple[int, ...], units: str = "256-256") -> nn.Module:
    """Layers over observations of this shape; `units` are their sizes, as in 300-100.

    Raises:
        UserError: `units` are not sizes.
    """
    *hidden, last = whole_numbers("units", units, "256 or 300-100")
    flat = Flat(1 / 255 if len(shape) == IMAGE_DIMS else 1.0)
    return nn.Sequential(flat, *MLP(prod(shape), hidden, last), nn.ReLU(inplace=True))


MLP_KIND = Kind(mlp_layers, "anything", sized=True)
