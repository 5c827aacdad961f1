"""How new an observation is in its episode, by distances between embeddings."""

from typing import Any

import torch
import torch.nn.functional as F
from gymnasium import Space
from torch import Tensor, nn

from rlbench.backbones.encoders import acting_encoder
from rlbench.experience import Trajectories


class EpisodicNovelty(nn.Module):
    """The squared distance from an embedding to the nearest earlier one of the same episode.

    Embeddings are features of an encoder that does not learn, scaled to length 1; features that are all 0 stay 0. Those of the
    episodes that are still running when a rollout ends are kept for the next one.
    """

    memory: Tensor
    """The last embeddings of each environment, [V, M, D]."""
    valid: Tensor
    """Which of them belong to the episode that is still running, bool [V, M]."""

    def __init__(self, space: Space[Any], encoder: str, envs: int, size: int) -> None:
        """Remembers nothing yet.

        Args:
            space: Space of one observation.
            encoder: Name of the encoder.
            envs: Environments of a rollout, V.
            size: Embeddings that are kept from one rollout to the next, M.
        """
        super().__init__()
        self.encoder = acting_encoder(encoder, space, frozen=True)
        self.register_buffer("memory", torch.zeros(envs, size, self.encoder.size))
        self.register_buffer("valid", torch.zeros(envs, size, dtype=torch.bool))

    @torch.no_grad()
    def forward(self, rollout: Trajectories) -> Tensor:
        """Novelty of the observation after each step, from 0 to 4, [T, V]; the next call continues after this rollout."""
        now, after = (self._embedded(obs) for obs in (rollout.obs, rollout.final_obs))
        size, steps = self.valid.shape[1], now.shape[1]
        over = torch.maximum(rollout.terminated, rollout.truncated).T > 0
        # Episodes of the rollout by number; -1 for what was kept of others.
        ended = over.cumsum(dim=1)
        episode = torch.cat([self.valid.long() - 1, ended - over.long()], dim=1)
        every = torch.cat([self.memory, now], dim=1)
        # Lengths are 1, or 0 of features that are all 0.
        lengths = after.square().sum(-1)[:, :, None] + every.square().sum(-1)[:, None]
        distance = lengths - 2 * after @ every.transpose(1, 2)
        past = torch.ones_like(distance[0], dtype=torch.bool).tril(size)
        same = episode[:, size:, None] == episode[:, None]
        nearest = distance.masked_fill(~(past & same), torch.inf).amin(dim=2)
        self.memory.copy_(every[:, steps:])
        self.valid.copy_((episode == ended[:, -1:])[:, steps:])
        return nearest.clamp(min=0).T

    def _embedded(self, obs: Tensor) -> Tensor:
        """Embeddings [V, T, D] of observations [T, V, ...]."""
        return F.normalize(self.encoder(obs).float(), dim=-1).transpose(0, 1)
