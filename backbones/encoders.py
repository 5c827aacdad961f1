"""Encoders: observations to features, through one door.

    encoder = make_encoder("impala", (3, 64, 64))
    features = encoder(obs)                # [B, *obs_shape] to [B, encoder.size]

Images come as the environment gives them, with raw values in any dtype and the channels first or last.
"""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rlbench.errors import UserError

EncoderKind = Literal["flatten", "grid", "one-hot-grid", "nature", "impala"]


class Encoder(nn.Module):
    """Layers after the channels were brought to the front and the values into their range."""

    def __init__(
        self,
        layers: nn.Module,
        obs_shape: tuple[int, ...],
        channels_last: bool = False,
        scale: float = 1.0,
        memory_format: torch.memory_format = torch.contiguous_format,
    ) -> None:
        """Finds the number of features by a try.

        Args:
            layers: From [B, C, H, W], or what else an observation is, to [B, size].
            obs_shape: One observation.
            channels_last: Observations are [B, H, W, C].
            scale: What the values are multiplied by.
            memory_format: In which a CPU computes the layers faster.
        """
        super().__init__()
        self.layers = layers
        self.channels_last = channels_last
        self.scale = scale
        self.memory_format = memory_format
        with torch.no_grad():
            self.size = int(self(torch.zeros(1, *obs_shape)).shape[1])
            """Number of features."""

    def forward(self, obs: Tensor) -> Tensor:
        """Features [B, size] of observations [B, ...]."""
        if self.channels_last:
            obs = obs.permute(0, 3, 1, 2)
        on_cpu = obs.device.type == "cpu"
        obs = obs.contiguous(
            memory_format=self.memory_format if on_cpu else torch.contiguous_format
        )
        features: Tensor = self.layers(obs.float() * self.scale)
        return features


def make_encoder(kind: EncoderKind, obs_shape: tuple[int, ...]) -> Encoder:
    """The encoder of a name.

    Args:
        kind: `flatten`: raw values; `grid`: see `grid_layers`, `one-hot-grid`: the same after `OneHot`;
            `nature`: see `nature_layers`, `impala`: see `impala_layers`.
        obs_shape: One observation; an image has its channels (1, 3 or 4) first or last, a grid last.

    Raises:
        UserError: The shape is none that this encoder takes.
    """
    if kind == "flatten":
        return Encoder(nn.Flatten(), obs_shape)
    last = kind.endswith("grid") or obs_shape[0] not in _CHANNELS
    channels = obs_shape[-1] if last else obs_shape[0]
    if len(obs_shape) != 3 or channels not in _CHANNELS:
        raise UserError(
            f"observations have the shape {obs_shape}, but the encoder {kind} takes images with 1, 3 "
            "or 4 channels; give the encoder flatten or an environment with images"
        )
    try:
        if kind == "grid":
            layers = grid_layers(channels)
            return Encoder(layers, obs_shape, last, memory_format=torch.channels_last)
        if kind == "one-hot-grid":
            layers = nn.Sequential(OneHot(), grid_layers(sum(OneHot.sizes)))
            return Encoder(layers, obs_shape, last, memory_format=torch.channels_last)
        if kind == "nature":
            return Encoder(nature_layers(channels), obs_shape, last, scale=1 / 255)
        layers = impala_layers(channels)
        return Encoder(
            layers, obs_shape, last, scale=1 / 255, memory_format=torch.channels_last
        )  # fmt: skip
    except RuntimeError as error:
        raise UserError(
            f"observations have the shape {obs_shape}, too small for the encoder {kind}; give flatten"
        ) from error


_CHANNELS = (1, 3, 4)


def grid_layers(channels: int) -> nn.Module:
    """The network for MiniGrid's grids, [B, C, W, H] of small integers, used as they are.

    Three convolutions of 2x2 with 16, 32 and 32 channels; 288 features of an 11x11 grid
    (Igl et al., 2019, https://arxiv.org/abs/1910.12911, the authors' model `default2`).
    """
    return nn.Sequential(
        nn.Conv2d(channels, 16, 2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 2),
        nn.ReLU(),
        nn.Conv2d(32, 32, 2),
        nn.ReLU(),
        nn.Flatten(),
    )


class OneHot(nn.Module):
    """MiniGrid's types, colours and states [B, 3, W, H] as one-hot channels [B, 21, W, H].

    As numbers they have an order that means nothing, which a network must first see through.
    """

    sizes = (11, 6, 4)
    """How many of each there are; any other number is all zeros."""

    def __init__(self) -> None:
        """Makes the table of all cells: reading it is faster than comparing numbers."""
        super().__init__()
        numbers = torch.cartesian_prod(*(torch.arange(n + 1) for n in self.sizes))
        rows = [torch.eye(n + 1, n)[x] for n, x in zip(self.sizes, numbers.T, strict=True)]
        self.register_buffer("table", torch.cat(rows, dim=1), persistent=False)
        self.register_buffer("most", torch.tensor(self.sizes, dtype=torch.float), persistent=False)
        _, colours, states = (n + 1.0 for n in self.sizes)
        place = torch.tensor([colours * states, states, 1.0])
        self.register_buffer("place", place, persistent=False)
        self.table: Tensor
        self.most: Tensor
        self.place: Tensor

    def forward(self, grid: Tensor) -> Tensor:
        """1.0 where the cell has the channel's number."""
        row = grid.movedim(1, -1).minimum(self.most) @ self.place
        return F.embedding(row.long(), self.table).movedim(-1, 1)


def nature_layers(channels: int) -> nn.Module:
    """The three convolutions of the deep Q-network (Mnih et al., 2015, Nature 518, methods)."""
    return nn.Sequential(
        nn.Conv2d(channels, 32, 8, stride=4),
        nn.ReLU(),
        nn.Conv2d(32, 64, 4, stride=2),
        nn.ReLU(),
        nn.Conv2d(64, 64, 3),
        nn.ReLU(),
        nn.Flatten(),
    )


def impala_layers(channels: int, depths: Sequence[int] = (16, 32, 32)) -> nn.Module:
    """The residual network of IMPALA, without its last linear layer.

    For each depth a convolution, a halving maximum and two residual blocks; a ReLU after the whole
    (Espeholt et al., 2018, https://arxiv.org/abs/1802.01561, figure 3; as CoinRun's authors use it,
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


@torch.no_grad()
def normalise_rows(network: nn.Module) -> None:
    """Draws the linear layers anew: each row a random direction of length 1, biases 0.

    The initialisation of the MiniGrid agents of Igl et al., 2019; convolutions keep theirs.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Linear):
            layer.weight.copy_(F.normalize(torch.randn_like(layer.weight), dim=1))
            if layer.bias is not None:
                layer.bias.zero_()


def batch_normalised(encoder: Encoder, obs_shape: tuple[int, ...]) -> None:
    """Adds batch normalisation after every convolution, always with the statistics of the batch.

    Args:
        encoder: Changed in place.
        obs_shape: Shape of one observation.

    Raises:
        UserError: The encoder has no convolution, or one whose output is a single pixel, for which a
            batch of one observation has no statistics.
    """
    if not _normalise_convolutions(encoder):
        raise UserError(
            "batch_norm needs convolutions, but the encoder has none; leave batch_norm off or use the "
            "encoder nature, impala, grid or one-hot-grid"
        )
    try:
        with torch.no_grad():
            encoder(torch.zeros(1, *obs_shape))
    except ValueError as error:
        raise UserError(
            f"the convolutions reduce observations of shape {obs_shape} to one pixel, too few for "
            "batch_norm; leave batch_norm off or use larger observations"
        ) from error


def _normalise_convolutions(network: nn.Module) -> int:
    """Adds the layers; returns the number of convolutions."""
    found = 0
    for name, layer in list(network.named_children()):
        if isinstance(layer, nn.Conv2d):
            norm = nn.BatchNorm2d(layer.out_channels, track_running_stats=False)
            setattr(network, name, nn.Sequential(layer, norm))
            found += 1
        else:
            found += _normalise_convolutions(layer)
    return found
