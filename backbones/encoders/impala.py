"""The residual network of IMPALA, the usual encoder for Procgen's games."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rlbench.backbones.encoders._base import Kind
from rlbench.backbones.layers.convolution import Norm, normalised
from rlbench.backbones.layers.pooling import LEVELS, Head, make_head


def impala_layers(
    channels: int,
    depths: Sequence[int] = (16, 32, 32),
    norm: Norm = "none",
    head: Head = "flatten",
    levels: str = LEVELS,
) -> "Impala":
    """The residual network of IMPALA, without its last linear layer.

    For each depth it has a convolution, a max-pooling with stride 2 and two residual blocks; a ReLU ends it
    (Espeholt et al., 2018, https://arxiv.org/abs/1802.01561, figure 3; as used by CoinRun's authors,
    Cobbe et al., 2019, https://arxiv.org/abs/1812.02341).

    Args:
        channels: Channels of an image.
        depths: Channels of each section.
        norm: After every convolution; the paper has none.
        head: After the ReLU; see `layers/pooling.py`.
        levels: See `make_head`.
    """
    return normalised(Impala(channels, depths, make_head(head, levels)), norm)


class Impala(nn.Sequential):
    """A convolution, a max-pooling and two residual blocks for each depth; a ReLU and a head."""

    def __init__(self, channels: int, depths: Sequence[int], head: nn.Module) -> None:
        """See `impala_layers`."""
        layers: list[nn.Module] = []
        for depth in depths:
            layers += [
                nn.Conv2d(channels, depth, 3, padding=1),
                nn.MaxPool2d(3, stride=2, padding=1),
                _Residual(depth),
                _Residual(depth),
            ]
            channels = depth
        super().__init__(*layers, nn.ReLU(), head)
        self.strides = tuple(2 ** (section + 1) for section in range(len(depths)))

    def maps(self, x: Tensor) -> list[Tensor]:
        """Output of each section, [B, C, H, W] with strides 2, 4, 8; the last one after the ReLU."""
        found = []
        for i, layer in enumerate([*self][:-1]):
            x = layer(x)
            if i % 4 == 3:  # The second residual block.
                found.append(x)
        return [*found[:-1], x]


class _Residual(nn.Module):
    """x + conv(relu(conv(relu(x)))), shapes unchanged."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.second(F.relu(self.first(F.relu(x))))
        return out


IMPALA = Kind(impala_layers, "images", scale=1 / 255, memory_format=torch.channels_last)
