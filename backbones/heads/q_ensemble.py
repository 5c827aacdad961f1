"""State-action values of independent networks."""

from collections.abc import Iterable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from rlbench.backbones.encoders._base import Observations, reader, size_of
from rlbench.backbones.layers.mlp import LAYERS, LayerKind, Network


class QEnsemble(nn.Module):
    """K state-action values Q(s, a), independent networks."""

    def __init__(
        self,
        observations: Observations,
        action_size: int,
        hidden: Sequence[int],
        members: int,
        layers: LayerKind = "mlp",
        outputs: int = 1,
    ) -> None:
        """`members` networks with the same hidden sizes and numbers of outputs, after one encoder."""
        super().__init__()
        self.reader, obs_size = reader(observations), size_of(observations)
        self.members = nn.ModuleList(
            LAYERS[layers](obs_size + action_size, hidden, outputs) for _ in range(members)
        )

    def forward(self, obs: Tensor, action: Tensor) -> Tensor:
        """Values of actions.

        Args:
            obs: Observations, [B, D], or [B, ...] with an encoder.
            action: One action each, [B, A], or N each, [B, N, A].

        Returns:
            Values, [K, B] or [K, B, N].
        """
        return self.outputs(obs, action).squeeze(-1)

    def outputs(self, obs: Tensor, action: Tensor) -> Tensor:
        """Outputs of the networks, [K, B, out] or [K, B, N, out]; arguments as in `forward`."""
        members, obs = cast("Iterable[Network]", self.members), self.reader(obs)
        return torch.stack([member.conditioned(obs, action) for member in members])

    def first(self, obs: Tensor, action: Tensor) -> Tensor:
        """Values of the first member alone, [B] or [B, N]; arguments as in `forward`."""
        member = cast("Network", self.members[0])
        return member.conditioned(self.reader(obs), action).squeeze(-1)
