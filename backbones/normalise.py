"""Observations brought to zero mean and unit variance."""

import torch
from torch import Tensor, nn

from rlbench.interface import Spec

_EPSILON = 1e-3  # TD3+BC and CORL; keeps constant columns finite.


class ObsNormaliser(nn.Module):
    """(s - mean) / (std + 1e-3) with the statistics of a data set.

    They are buffers, so a checkpoint carries them to an agent that was built without data.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, spec: Spec, size: int, *, enabled: bool = True) -> None:
        """Takes the statistics from `spec`; the identity where it has none or not `enabled`."""
        super().__init__()
        mean, scale = torch.zeros(size), torch.ones(size)
        if enabled and spec.obs_mean is not None and spec.obs_std is not None:
            mean, scale = spec.obs_mean.float(), 1 / (spec.obs_std.float() + _EPSILON)
        self.register_buffer("mean", mean)
        self.register_buffer("scale", scale)

    def forward(self, obs: Tensor) -> Tensor:
        """Normalised observations, of the same shape."""
        return (obs - self.mean) * self.scale
