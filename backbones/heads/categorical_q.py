"""Critics of the distribution of returns, on fixed atoms (C51).

Bellemare et al., 2017, https://arxiv.org/abs/1707.06887, algorithm 1
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from rlbench.backbones.encoders._base import Observations
from rlbench.backbones.heads.q_ensemble import QEnsemble
from rlbench.backbones.layers.mlp import LayerKind
from rlbench.checks import same_shape


class CategoricalQ(QEnsemble):
    """K independent distributions of the return over L atoms; calling it returns their means."""

    atoms: Tensor

    def __init__(
        self,
        observations: Observations,
        action_size: int,
        hidden: Sequence[int],
        members: int,
        *,
        atoms: int,
        value_range: tuple[float, float],
        layers: LayerKind = "mlp",
    ) -> None:
        """`members` networks with `atoms` outputs, the returns evenly spaced on `value_range`."""
        super().__init__(observations, action_size, hidden, members, layers, outputs=atoms)
        self.register_buffer("atoms", torch.linspace(*value_range, atoms))

    def logits(self, obs: Tensor, action: Tensor) -> Tensor:
        """Logits for actions [B, A] or [B, N, A]: [K, B, L] or [K, B, N, L]."""
        return self.outputs(obs, action)

    def forward(self, obs: Tensor, action: Tensor) -> Tensor:
        """Mean returns of actions [B, A] or [B, N, A]: [K, B] or [K, B, N]."""
        return self.logits(obs, action).softmax(-1) @ self.atoms

    def lowest(self, obs: Tensor, action: Tensor) -> Tensor:
        """Probabilities of the member with the smallest mean, [B, N, L], for actions [B, N, A]."""
        probabilities = self.logits(obs, action).softmax(-1)
        member = (probabilities @ self.atoms).argmin(0)[None, ..., None]
        return probabilities.gather(0, member.expand(1, *probabilities.shape[1:]))[0]


def project(
    probabilities: Tensor, reward: Tensor, terminated: Tensor, atoms: Tensor, discount: float
) -> Tensor:
    """The distribution of r + discount * Z on the atoms of Z, [B, L].

    Mass that falls between two atoms is divided between them by distance, and mass beyond the last
    atom goes to the last atom.

    Args:
        probabilities: Probabilities of the atoms after the step, [B, L].
        reward: Rewards, [B].
        terminated: 1.0 where no return follows, [B].
        atoms: Evenly spaced returns, [L].
        discount: Discount of the return after the step.
    """
    same_shape(reward, terminated, probabilities[:, 0])
    low, high, spacing = atoms[0], atoms[-1], atoms[1] - atoms[0]
    moved = reward[:, None] + discount * (1.0 - terminated)[:, None] * atoms
    position = (moved.clamp(low, high) - low) / spacing
    # Hat functions around the atoms: [B, from, to].
    share = (1 - (position[..., None] - torch.arange(len(atoms), device=atoms.device)).abs()).relu()
    return (probabilities[..., None] * share).sum(1)


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy of logits [K, B, L] against one target [B, L]: mean over B, sum over K."""
    same_shape(logits[0], target)
    return -(target * F.log_softmax(logits, -1)).sum(-1).mean(1).sum()
