"""What all encoders have in common: raw observations in, features out."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from rlbench.errors import UserError

CHANNELS = (1, 3, 4)
"""Numbers of channels by which an image is recognised."""


@dataclass(frozen=True)
class Kind:
    """One kind of encoder, as its module declares it."""

    layers: Callable[..., nn.Module]
    """Makes the layers from [B, C, H, W] to [B, size], given C and the options of the kind."""
    takes: Literal["anything", "grids", "images"]
    """Observations: arrays of any shape, given to the layers as they are; grids with their channels last;
    images with their channels first or last."""
    scale: float = 1.0
    """What the values are multiplied by."""
    memory_format: torch.memory_format = torch.contiguous_format
    """In which a CPU computes the layers faster."""


class Encoder(nn.Module):
    """Layers after the channels were brought to the front and the values into their range."""

    def __init__(
        self, kind: Kind, layers: nn.Module, obs_shape: tuple[int, ...], channels_last: bool
    ) -> None:
        """Finds the number of features with a trial pass.

        Args:
            kind: Where the layers come from.
            layers: From [B, C, H, W], or whatever else an observation is, to [B, size].
            obs_shape: One observation.
            channels_last: Observations are [B, H, W, C].
        """
        super().__init__()
        self.layers = layers
        self.channels_last = channels_last
        self.kind = kind
        # A trial is no experience: statistics of batches stay as they are, and one pixel is enough.
        self.eval()
        with torch.no_grad():
            self.size = int(self(torch.zeros(1, *obs_shape)).shape[1])
            """Number of features."""
        self.train()

    def forward(self, obs: Tensor) -> Tensor:
        """Features [B, size] of observations [B, ...]."""
        if self.channels_last:
            obs = obs.permute(0, 3, 1, 2)
        on_cpu = obs.device.type == "cpu"
        obs = obs.contiguous(
            memory_format=self.kind.memory_format if on_cpu else torch.contiguous_format
        )
        features: Tensor = self.layers(obs.float() * self.kind.scale)
        return features


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
