"""Values of all discrete actions in one pass."""

from collections.abc import Sequence

from torch import Tensor, nn

from rlbench.backbones.encoders._base import Observations, reader, size_of
from rlbench.backbones.heads.networks import mlp
from rlbench.backbones.layers.mlp import MLP


def action_values(
    observations: Observations, actions: int, hidden: Sequence[int], *, duelling: bool
) -> nn.Module:
    """A network from observations [B, ...] to the values of all actions, [B, A].

    Args:
        observations: Length of a vector, or an encoder.
        actions: Number of actions, A.
        hidden: Hidden layer sizes.
        duelling: Whether the network is a `Duelling` one.
    """
    if duelling:
        return Duelling(observations, actions, hidden)
    return mlp(observations, hidden, actions)


class Duelling(nn.Module):
    """Q(s, a) = V(s) + A(s, a) - mean_a' A(s, a') (Wang et al., 2016, equation 9).

    Value and advantages have a last hidden layer each, and share the layers before it.
    """

    def __init__(self, observations: Observations, actions: int, hidden: Sequence[int]) -> None:
        """See `action_values`."""
        super().__init__()
        self.encoder, width = reader(observations), size_of(observations)
        shared, own = hidden[:-1], hidden[-1:]
        self.shared = nn.Sequential()
        if shared:
            self.shared.extend([*MLP(width, shared[:-1], shared[-1]), nn.ReLU()])
            width = shared[-1]
        self.value, self.advantage = MLP(width, own, 1), MLP(width, own, actions)

    def forward(self, obs: Tensor) -> Tensor:
        """Values [B, A] of observations [B, ...]."""
        features = self.shared(self.encoder(obs))
        advantage: Tensor = self.advantage(features)
        value: Tensor = self.value(features)
        return value + advantage - advantage.mean(-1, keepdim=True)
