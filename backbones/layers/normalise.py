"""Normalisation of observations and rewards."""

from typing import Any

import torch
from gymnasium import Space
from torch import Tensor, nn

from rlbench.errors import UserError
from rlbench.experience import Trajectories
from rlbench.interface import Spec
from rlbench.packed import not_vectors

_EPSILON = 1e-3  # TD3+BC and CORL.
_ROUNDING = 4 * torch.finfo(torch.float32).eps


def _never_varied(mean: Tensor, std: Tensor) -> Tensor:
    """Whether deviations are only the rounding errors of a constant, which may be 0; bool [D]."""
    return std <= _ROUNDING * (mean.abs() + _EPSILON)


class ObsNormaliser(nn.Module):
    """(s - mean) / (std + 1e-3) with the statistics of a data set; 0 for components that never varied.

    TD3+BC and CORL divide such a component by 1e-3, which also gives 0 on the data. But if it varies when
    the agent acts, it is by far the largest input, and its weights were never trained.

    The statistics are buffers, so a checkpoint restores them in an agent that was built without data.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, spec: Spec, size: int, *, enabled: bool = True) -> None:
        """Takes the statistics from `spec`; the identity if it has none or not `enabled`."""
        super().__init__()
        mean, scale = torch.zeros(size), torch.ones(size)
        if enabled and spec.obs_mean is not None and spec.obs_std is not None:
            mean, std = spec.obs_mean.float(), spec.obs_std.float()
            scale = (1 / (std + _EPSILON)).masked_fill(_never_varied(mean, std), 0.0)
        self.register_buffer("mean", mean)
        self.register_buffer("scale", scale)

    def forward(self, obs: Tensor) -> Tensor:
        """Normalised observations, of the same shape."""
        return (obs - self.mean) * self.scale


def obs_normaliser(spec: Spec, *, enabled: bool) -> nn.Module:
    """An `ObsNormaliser` for vectors; images and texts stay as they are, because their encoder reads them."""
    space = spec.observation_space
    shape = space.shape or ()
    return (
        ObsNormaliser(spec, shape[0], enabled=enabled)
        if len(shape) == 1 and not not_vectors(space)
        else nn.Identity()
    )


class _Moments(nn.Module):
    """Running mean and variance of all inputs so far (Chan et al., 1979)."""

    mean: Tensor
    variance: Tensor
    count: Tensor

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("variance", torch.ones(shape))
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))

    def update(self, x: Tensor) -> None:
        """Includes a batch [N, ...] of any dtype; the first one replaces mean 0 and variance 1."""
        x = x.float()
        rows = len(x)
        share = (rows / (self.count + rows)).float()
        shift = x.mean(0) - self.mean
        new = x.var(0, correction=0) + (1 - share) * shift.square()
        self.variance.lerp_(new, share)
        self.mean.lerp_(x.mean(0), share)
        self.count += rows


class RunningNormaliser(nn.Module):
    """(s - mean) / std within +-10, with running statistics that are part of a checkpoint.

    A component that has not varied so far becomes 0, as in `ObsNormaliser`.
    """

    def __init__(self, space: Space[Any], *, enabled: bool) -> None:
        """The identity unless `enabled`, and until the first update.

        Raises:
            UserError: The observations have an image or a text, which must not be normalised.
        """
        super().__init__()
        if enabled and (what := not_vectors(space)):
            raise UserError(
                f"normalise_obs is on, but the observations are {what}; give --no-normalise-obs"
            )
        self.enabled = enabled
        self.moments = _Moments((space.shape or ()) if enabled else ())

    def forward(self, obs: Tensor) -> Tensor:
        """Normalised observations, of the same shape."""
        if not self.enabled:
            return obs
        mean, variance = self.moments.mean, self.moments.variance
        scale = (variance + 1e-8).rsqrt().masked_fill(_never_varied(mean, variance.sqrt()), 0.0)
        return ((obs - mean) * scale).clamp(-10.0, 10.0)

    def update(self, obs: Tensor) -> None:
        """Includes the observations of a rollout, [T, V, ...]."""
        if self.enabled:
            self.moments.update(obs.flatten(0, 1))


class RewardScaler(nn.Module):
    """Rewards divided by the running deviation of discounted returns, within +-10.

    Engstrom et al., 2020, https://arxiv.org/abs/2005.12729, section 3
    """

    returns: Tensor

    def __init__(self, envs: int, *, enabled: bool) -> None:
        """The identity unless `enabled`."""
        super().__init__()
        self.enabled = enabled
        self.moments = _Moments(())
        self.register_buffer("returns", torch.zeros(envs))

    def forward(self, rollout: Trajectories, discount: float) -> Tensor:
        """Includes the rewards of a rollout and returns them scaled, [T, V]."""
        if not self.enabled:
            return rollout.reward
        so_far = []
        for reward, terminated, truncated in zip(
            rollout.reward, rollout.terminated, rollout.truncated, strict=True
        ):
            self.returns.mul_(discount).add_(reward)
            so_far.append(self.returns.clone())
            self.returns.mul_(1 - torch.maximum(terminated, truncated))
        self.moments.update(torch.stack(so_far).flatten())
        scaled = rollout.reward * (self.moments.variance + 1e-8).rsqrt()
        return scaled.clamp(-10.0, 10.0)
