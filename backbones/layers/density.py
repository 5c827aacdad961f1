"""Images as discrete values, and how much a model of their density learns from one of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import Space, spaces
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap

from rlbench.backbones.layers.pixels import log_probability
from rlbench.backbones.optim import Adam
from rlbench.backbones.spaces import CHANNELS
from rlbench.errors import Unsuited, UserError
from rlbench.packed import not_vectors

BYTES = 256
EPSILON = 3e-5
"""Keeps the step from growing without bounds for weights whose gradients are small."""
AT_ONCE = 128
"""Images of which gains are computed at once."""


@dataclass(frozen=True)
class Values:
    """Observations as whole numbers from 0 to `levels` - 1, one for each channel of each pixel."""

    shape: tuple[int, int, int]
    """Channels, rows and columns."""
    levels: int
    """Number of values."""
    scaled: bool
    """Whether a value is brightness, 0 to 255, in equal steps; otherwise it is the number of a category."""
    channels_last: bool
    """Whether observations are [H, W, C]; without channels they are [H, W]."""
    axes: int
    """Axes of an observation, 2 or 3."""

    @classmethod
    def of(cls, space: Space[Any], levels: int | None, *, quantise: bool) -> "Values":
        """The values of a space.

        Args:
            space: Space of one observation.
            levels: Number of values; None: as many as the space has.
            quantise: Whether fewer levels than bytes have are equal steps of brightness.

        Raises:
            UserError: Observations are not images of whole numbers, or have other values.
        """
        shape = tuple(space.shape or ())
        whole = isinstance(space, spaces.MultiDiscrete) or np.issubdtype(
            space.dtype or np.float32, np.integer
        )
        if not whole or len(shape) not in (2, 3):
            raise UserError(
                f"observations are {not_vectors(space) or space}; this model needs images of whole numbers, [H, W] or with channels first or last, such as "
                "--env digits"
            )
        least, most = _bounds(space)
        is_bytes = (least, most) == (0, BYTES - 1)
        if least != 0 or most >= 2**16:
            raise UserError(
                f"the values of observations are from {least} to {most}; this model needs whole numbers from 0 to at most {2**16 - 1:,}"
            )
        levels = most + 1 if levels is None else levels
        if not 2 <= levels <= most + 1:
            raise UserError(
                f"levels is {levels}, but observations have values from 0 to {most}; give 2 to {most + 1}"
            )
        if levels <= most and not is_bytes:
            raise UserError(
                f"levels is {levels}, but observations have values from 0 to {most}, which only bytes may exceed; leave levels out"
            )
        last = len(shape) == 3 and not (shape[0] in CHANNELS and shape[2] not in CHANNELS)
        if len(shape) == 2:
            shape = (1, *shape)
        channels, rows, columns = (shape[2], *shape[:2]) if last else shape
        return cls(
            (channels, rows, columns), levels, is_bytes and quantise, last, len(space.shape or ())
        )

    def read(self, obs: Tensor) -> Tensor:
        """Values int64 [B, C, H, W] of observations [B, ...].

        Raises:
            Unsuited: A category is not from 0 to `levels` - 1.
        """
        x = obs[:, None] if self.axes == 2 else obs.movedim(3, 1) if self.channels_last else obs
        x = x.long()
        if self.scaled:
            return x * self.levels // BYTES
        if x.numel() and not (int(x.min()) >= 0 and int(x.max()) < self.levels):
            raise Unsuited(
                f"an observation has values from {int(x.min())} to {int(x.max())}, but levels is {self.levels}, so that categories are 0 to "
                f"{self.levels - 1}; give more levels, or --quantise for brightness"
            )
        return x

    def observed(self, x: Tensor) -> Tensor:
        """Observations [B, ...] of values [B, C, H, W]: those that `read` gives the same values."""
        if self.scaled:
            # Rounded up, so that the lowest value of a step is not below it.
            x = -(-x * (BYTES - 1) // (self.levels - 1))
        x = x[:, 0] if self.axes == 2 else x.movedim(1, 3) if self.channels_last else x
        return x.to(torch.uint8) if self.levels <= BYTES else x


def _bounds(space: Space[Any]) -> tuple[int, int]:
    """Smallest and largest value of a space of whole numbers."""
    if isinstance(space, spaces.MultiDiscrete):
        return int(space.start.min()), int((space.start + space.nvec).max()) - 1
    assert isinstance(space, spaces.Box)
    return int(space.low.min()), int(space.high.max())


def prediction_gain(network: nn.Module, optimizer: Adam, x: Tensor, step: float) -> Tensor:
    """How much one step of RMSProp on each image alone would raise its own log-probability, in nats, [B].

        gain(x) = log p(x; theta + step g / (sqrt(v) + epsilon)) - log p(x; theta),   g = grad log p(x; theta) / D

    Ostrovski et al., 2017, https://arxiv.org/abs/1703.01310, section 3.1. The network does not change.

    Args:
        network: Logits [B, C, levels, H, W] of values; see `PixelNetwork`.
        optimizer: The optimiser that trained it on the mean of -log p(x) / D, whose second moments are v.
        x: Values, int64 [B, C, H, W], of which each image has D.
        step: Step size.
    """
    names = [name for name, _ in network.named_parameters()]
    weights = {name: p.detach() for name, p in network.named_parameters()}
    each = zip(names, optimizer.second_moments, strict=True)
    sizes = {name: step / (x[0].numel() * (v.sqrt() + EPSILON)) for name, v in each}

    def log_p(weights: Mapping[str, Tensor], x: Tensor) -> Tensor:
        return log_probability(functional_call(network, dict(weights), (x[None],)), x[None])[0]

    def gain(x: Tensor) -> Tensor:
        gradients, before = grad_and_value(log_p)(weights, x)
        after = {name: p + sizes[name] * gradients[name] for name, p in weights.items()}
        gained: Tensor = log_p(after, x) - before
        return gained

    found: Tensor = vmap(gain, chunk_size=AT_ONCE)(x)
    return found.detach()
