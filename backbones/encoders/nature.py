"""The convolutions of the deep Q-network (Mnih et al., 2015, Nature 518, methods)."""

from torch import nn

from rlbench.backbones.encoders._base import Kind


def nature_layers(channels: int) -> nn.Module:
    """Three convolutions of 8x8, 4x4 and 3x3 with strides 4, 2 and 1."""
    return nn.Sequential(
        nn.Conv2d(channels, 32, 8, stride=4),
        nn.ReLU(),
        nn.Conv2d(32, 64, 4, stride=2),
        nn.ReLU(),
        nn.Conv2d(64, 64, 3),
        nn.ReLU(),
        nn.Flatten(),
    )


NATURE = Kind(nature_layers, "images", scale=1 / 255)
