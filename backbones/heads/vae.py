"""A conditional variational autoencoder of actions: a model of the data's actions in each state."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rlbench.backbones.encoders._base import Observations, reader, size_of
from rlbench.backbones.layers.mlp import MLP
from rlbench.backbones.layers.noise import randn
from rlbench.checks import same_shape

LATENT_CLIP = 0.5
"""Behaviour samples come from latents within this bound (BCQ's and BEAR's authors' code)."""


class ActionVAE(nn.Module):
    """Encoder (s, a) to a latent Gaussian, decoder (s, z) to a raw action u; the action is tanh(u).

    As in BCQ and BEAR: 2A latent dimensions, log standard deviation of the latent in [-4, 15].
    """

    def __init__(self, observations: Observations, action_size: int, hidden: Sequence[int]) -> None:
        """Encoder and decoder with the same hidden sizes."""
        super().__init__()
        self.latent_size = 2 * action_size
        self.reader, obs_size = reader(observations), size_of(observations)
        self.encoder = MLP(obs_size + action_size, hidden, 2 * self.latent_size)
        self.decoder = MLP(obs_size + self.latent_size, hidden, action_size)

    def forward(
        self, obs: Tensor, action: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Reconstruction of actions [B, A] through a sampled latent.

        Returns:
            Reconstructed actions, [B, A]; mean and log standard deviation of the latent, [B, 2A].
        """
        mean, log_std = self.encoder.conditioned(self.reader(obs), action).chunk(2, dim=-1)
        log_std = log_std.clamp(-4.0, 15.0)
        latent = mean + log_std.exp() * randn(mean.shape, generator)
        return self.decode_raw(obs, latent).tanh(), mean, log_std

    def decode_raw(self, obs: Tensor, latent: Tensor) -> Tensor:
        """Raw actions of latents: [B, 2A] to [B, A], or N each, [B, N, 2A] to [B, N, A]."""
        return self.decoder.conditioned(self.reader(obs), latent)

    @torch.no_grad()
    def sample_raw(
        self, obs: Tensor, count: int, clip: float, generator: torch.Generator
    ) -> Tensor:
        """`count` raw actions of each state, [B, N, A], from latents within +-`clip`."""
        latent = randn((len(obs), count, self.latent_size), generator).clamp(-clip, clip)
        return self.decode_raw(obs, latent)


def vae_loss(reconstruction: Tensor, action: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """Mean squared error plus half the mean KL divergence of the latent from N(0, 1).

    Args:
        reconstruction: Decoded actions, [B, A].
        action: Actions of the data, [B, A].
        mean: Mean of the latent, [B, L].
        log_std: Log standard deviation of the latent, [B, L].
    """
    same_shape(reconstruction, action)
    same_shape(mean, log_std)
    error = (reconstruction - action).square().mean()
    divergence = 0.5 * (mean.square() + (2 * log_std).exp() - 1 - 2 * log_std)
    return error + 0.5 * divergence.mean()
