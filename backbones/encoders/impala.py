"""The residual network of IMPALA, the usual encoder for Procgen's games."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rlbench.backbones.encoders._base import Kind


def impala_layers(channels: int, depths: Sequence[int] = (16, 32, 32)) -> nn.Module:
    """The residual network of IMPALA, without its last linear layer.

    For each depth it has a convolution, a max-pooling with stride 2 and two residual blocks; a ReLU ends it
    (Espeholt et al., 2018, https://arxiv.org/abs/1802.01561, figure 3; as used by CoinRun's authors,
    Cobbe et al., 2019, https://arxiv.org/abs/1812.02341).
    """
    layers: list[nn.Module] = []
    for depth in depths:
        layers += [
            nn.Conv2d(channels, depth, 3, padding=1),
            nn.MaxPool2d(3, stride=2, padding=1),
            _Residual(depth),
            _Residual(depth),
        ]
        channels = depth
    return nn.Sequential(*layers, nn.Flatten(), nn.ReLU())


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
