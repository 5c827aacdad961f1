"""Stochastic policies over a box of actions."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rlbench.backbones.mlp import MLP


class TanhGaussian(nn.Module):
    """Policy tanh(u), u ~ N(mean(s), std(s)): raw samples u and actions in (-1, 1)."""

    def __init__(
        self,
        obs_size: int,
        action_size: int,
        hidden: Sequence[int],
        log_std_bounds: tuple[float, float],
        *,
        smooth: bool = False,
    ) -> None:
        """An MLP with 2A outputs, means and log standard deviations.

        Args:
            obs_size: Length of an observation, D.
            action_size: Length of an action, A.
            hidden: Hidden layer sizes.
            log_std_bounds: Where the log standard deviation stays.
            smooth: Keep it there by tanh instead of a clamp.
        """
        super().__init__()
        self.net = MLP(obs_size, hidden, 2 * action_size)
        self.action_size = action_size
        self.log_std_bounds = log_std_bounds
        self.smooth = smooth

    def forward(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log standard deviation of the raw action, [B, A] each."""
        mean, log_std = self.net(obs).chunk(2, dim=-1)
        low, high = self.log_std_bounds
        if self.smooth:
            return mean, low + 0.5 * (high - low) * (1 + log_std.tanh())
        return mean, log_std.clamp(low, high)

    def sample(self, obs: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """One action each with its log-density, reparameterised.

        Returns:
            Actions, [B, A], and log pi(a | s), [B].
        """
        mean, log_std = self(obs)
        noise = randn(mean.shape, generator)
        raw = mean + log_std.exp() * noise
        return raw.tanh(), _log_density(noise, log_std, raw)

    def raw(self, obs: Tensor, noise: Tensor) -> Tensor:
        """Raw samples u of standard normal noise, N each, reparameterised, [B, N, A]."""
        mean, log_std = self(obs)
        raw: Tensor = mean[:, None] + log_std.exp()[:, None] * noise
        return raw

    def sample_raw(
        self,
        obs: Tensor,
        count: int,
        generator: torch.Generator,
        noise_clip: float | None = None,
    ) -> Tensor:
        """`count` raw samples u each, [B, N, A]; their noise within +-`noise_clip`."""
        noise = randn((len(obs), count, self.action_size), generator)
        if noise_clip is not None:
            noise = noise.clamp_(-noise_clip, noise_clip)
        return self.raw(obs, noise)

    def log_prob_raw(self, obs: Tensor, raw: Tensor) -> Tensor:
        """Log-density of the actions tanh(raw).

        Args:
            obs: Observations, [B, D].
            raw: Raw actions, [B, A] or [B, N, A].

        Returns:
            Log-densities, [B] or [B, N].
        """
        mean, log_std = self(obs)
        if raw.dim() == 3:
            mean, log_std = mean[:, None], log_std[:, None]
        noise = (raw - mean) * (-log_std).exp()
        return _log_density(noise, log_std, raw)


def _log_density(noise: Tensor, log_std: Tensor, raw: Tensor) -> Tensor:
    """Of tanh(raw), where raw = mean + std * noise; sums over the last dimension."""
    log_normal = -0.5 * noise.square() - log_std - 0.5 * math.log(2 * math.pi)
    return (log_normal - log_tanh_slope(raw)).sum(-1)


def log_tanh_slope(raw: Tensor) -> Tensor:
    """log(1 - tanh(u)^2), elementwise, in the form that stays finite for large |u|."""
    return 2.0 * (math.log(2.0) - raw - F.softplus(-2.0 * raw))


def unsquash(action: Tensor, margin: float) -> Tensor:
    """Raw actions u with tanh(u) = action, after moving actions `margin` inside of +-1.

    At +-1 itself the inverse, and with it the density of the action, is infinite.
    """
    return action.clamp(margin - 1, 1 - margin).atanh()


def randn(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Standard normal noise on the generator's own device."""
    return torch.randn(tuple(shape), generator=generator, device=generator.device)
