"""Pr-VIPE's encoder: from key points in the plane to a Gaussian embedding of the pose in space.

    N(mu, diag sigma^2),   p(m | z_1, z_2) = sigmoid(-a |z_1 - z_2| + b),   p(m | x_1, x_2) = E[ p(m | z_1, z_2) ]

The features are mu and sigma. The expected match probability m of two observations is the mean over samples z of both embeddings. The
network is a linear layer, then residual blocks of two linear layers, each with batch normalisation, ReLU and dropout; mu and sigma are
linear in its features, and sigma = ELU + 1. The numbers a > 0 and b are learned.

Sun et al., 2020, https://arxiv.org/abs/1912.01001, section 3

Key points are normalised first (`rlbench.poses`), so they may be in pixels or any other unit.
"""

from warnings import catch_warnings, simplefilter

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rlbench.backbones.encoders._base import Kind, at_least_one
from rlbench.backbones.ranges import BELOW_ONE, within
from rlbench.errors import UserError
from rlbench.poses import normalised

RAW_SCALE, OFFSET = -0.65, -0.5
"""Initial values of a before ELU + 1 and of b, as in the authors' code."""


class PoseEmbedding(nn.Module):
    """A Gaussian embedding of key points [B, K, 2]."""

    def __init__(
        self,
        channels: int,
        size: int = 16,
        width: int = 1_024,
        blocks: int = 2,
        dropout: float = 0.3,
        torso: int = 4,
    ) -> None:
        """Makes the network.

        Args:
            channels: Not used: the number of key points is found when they are first read.
            size: Dimensions of the embedding.
            width: Units of each layer.
            blocks: Number of residual blocks.
            dropout: Probability with which units are dropped in training.
            torso: Number of points of the torso, which come first; two or more.
        """
        super().__init__()
        at_least_one("pose", size=size, width=width, blocks=blocks)
        within("pose", BELOW_ONE, dropout=dropout)
        if torso < 2:
            raise UserError(
                f"torso of pose is {torso}; give 2 or more points, so that the torso has a size"
            )
        self.torso, self.width = torso, width
        with catch_warnings():
            simplefilter("ignore", UserWarning)  # PyTorch warns that lazy modules may change.
            first = nn.LazyLinear(width)
        self.trunk = nn.Sequential(
            nn.Flatten(), *_layer(first, width, dropout), *(_Block(width, dropout) for _ in range(blocks))
        )  # fmt: skip
        self.mean, self.std = nn.Linear(width, size), nn.Linear(width, size)
        self.raw_scale = nn.Parameter(torch.tensor(RAW_SCALE))
        self.offset = nn.Parameter(torch.tensor(OFFSET))

    def features(self, points: Tensor) -> Tensor:
        """Outputs of the last block, [B, width].

        Raises:
            UserError: The observations are not key points, or fewer than the torso has.
        """
        if points.dim() != 3 or points.shape[2] != 2 or points.shape[1] < self.torso:
            raise UserError(
                f"observations have the shape {list(points.shape[1:])}, but the encoder pose reads key points [K, 2], the {self.torso} of "
                "the torso first; give another encoder, such as flatten"
            )
        found: Tensor = self.trunk(normalised(points, self.torso))
        return found

    def forward(self, points: Tensor) -> Tensor:
        """Means and standard deviations of the embeddings, [B, 2 size]."""
        features = self.features(points)
        return torch.cat([self.mean(features), F.elu(self.std(features)) + 1], -1)

    def match(self, distance: Tensor) -> Tensor:
        """Match probabilities at distances between samples, of any shape."""
        return torch.sigmoid(self.offset - (F.elu(self.raw_scale) + 1) * distance)


def drawn(gaussians: Tensor, noise: Tensor) -> Tensor:
    """Samples [B, S, D] of embeddings.

    Args:
        gaussians: Means and standard deviations, [B, 2 D].
        noise: Standard normal, [B, S, D].
    """
    mean, std = gaussians[:, None].chunk(2, dim=-1)
    return mean + std * noise


class _Block(nn.Module):
    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            *_layer(nn.Linear(width, width), width, dropout),
            *_layer(nn.Linear(width, width), width, dropout),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.inner(x)
        return out


def _layer(linear: nn.Linear, width: int, dropout: float) -> tuple[nn.Module, ...]:
    return linear, nn.BatchNorm1d(width), nn.ReLU(inplace=True), nn.Dropout(dropout)


POSE = Kind(PoseEmbedding, "anything")
