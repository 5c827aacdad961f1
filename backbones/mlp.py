"""Multi-layer perceptrons."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn


class MLP(nn.Sequential):
    """Linear layers with ReLU between them, none after the last: [..., in] to [..., out]."""

    def __init__(self, in_size: int, hidden: Sequence[int], out_size: int) -> None:
        """Layers of sizes in_size, *hidden, out_size, initialised as PyTorch does."""
        layers: list[nn.Module] = []
        for fan_in, fan_out in pairwise((in_size, *hidden, out_size)):
            # In place: on a CPU the memory of a second output costs more than the ReLU.
            layers += [nn.Linear(fan_in, fan_out), nn.ReLU(inplace=True)]
        super().__init__(*layers[:-1])


def expand_over(obs: Tensor, samples: Tensor) -> Tensor:
    """Observations [B, D] as [B, N, D] where there are N samples each, else as they are."""
    return obs[:, None].expand(-1, samples.shape[1], -1) if samples.dim() == 3 else obs


class QEnsemble(nn.Module):
    """K state-action values Q(s, a), independent networks."""

    def __init__(
        self, obs_size: int, action_size: int, hidden: Sequence[int], members: int
    ) -> None:
        """`members` networks with the same hidden sizes."""
        super().__init__()
        self.members = nn.ModuleList(
            MLP(obs_size + action_size, hidden, 1) for _ in range(members)
        )

    def forward(self, obs: Tensor, action: Tensor) -> Tensor:
        """Values of actions.

        Args:
            obs: Observations, [B, D].
            action: One action each, [B, A], or N each, [B, N, A].

        Returns:
            Values, [K, B] or [K, B, N].
        """
        x = torch.cat([expand_over(obs, action), action], dim=-1)
        return torch.stack([member(x) for member in self.members]).squeeze(-1)
