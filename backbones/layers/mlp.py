"""Multi-layer perceptrons, plain and residual."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rlbench.errors import UserError


class Network(nn.Sequential):
    """Layers from vectors to vectors, of which the first is linear: [..., in] to [..., out]."""

    def conditioned(self, obs: Tensor, x: Tensor) -> Tensor:
        """The output for observations joined with a second input.

        Args:
            obs: Observations, [B, D].
            x: One vector each, [B, X], or N each, [B, N, X].

        Returns:
            Outputs, [B, out] or [B, N, out].
        """
        if x.dim() == 2:
            joined: Tensor = self(torch.cat([obs, x], dim=-1))
            return joined
        # The observation's part of the first layer, computed once and not for each of the N.
        first, *rest = self
        assert isinstance(first, nn.Linear)
        obs_weight, x_weight = first.weight.split([obs.shape[-1], x.shape[-1]], dim=1)
        out = F.linear(x, x_weight).add_(F.linear(obs, obs_weight, first.bias)[:, None])
        for layer in rest:
            out = layer(out)
        return out


class MLP(Network):
    """Linear layers with ReLU between them, none after the last."""

    def __init__(self, in_size: int, hidden: Sequence[int], out_size: int) -> None:
        """Layers of sizes in_size, *hidden, out_size, initialised as PyTorch does."""
        layers: list[nn.Module] = []
        for fan_in, fan_out in pairwise((in_size, *hidden, out_size)):
            # In place: on a CPU the memory of a second output costs more than the ReLU.
            layers += [nn.Linear(fan_in, fan_out), nn.ReLU(inplace=True)]
        super().__init__(*layers[:-1])


class NormedMLP(Network):
    """An MLP with LayerNorm before each ReLU.

    It bounds how far values extrapolate beyond the data, which keeps Q-learning from diverging there
    (Ball et al., 2023, https://arxiv.org/abs/2302.02948, section 4.2).
    """

    def __init__(self, in_size: int, hidden: Sequence[int], out_size: int) -> None:
        """Layers of sizes in_size, *hidden, out_size."""
        layers: list[nn.Module] = []
        for fan_in, fan_out in pairwise((in_size, *hidden)):
            layers += [nn.Linear(fan_in, fan_out), nn.LayerNorm(fan_out), nn.ReLU(inplace=True)]
        super().__init__(*layers, nn.Linear(hidden[-1], out_size))


class ResidualMLP(Network):
    """A normalised, bounded first layer, then residual blocks: the network of CRR's authors.

    Linear, LayerNorm, tanh; for each further hidden size x = LayerNorm(x + Linear(ReLU(Linear(x))));
    Linear.
    """

    def __init__(self, in_size: int, hidden: Sequence[int], out_size: int) -> None:
        """One block for each hidden size after the first; all sizes are the same."""
        width, *blocks = hidden
        if any(size != width for size in blocks):
            raise UserError(
                f"hidden is {tuple(hidden)}; residual layers need sizes that are all the same"
            )
        super().__init__(
            nn.Linear(in_size, width),
            nn.LayerNorm(width),
            nn.Tanh(),
            *(_Block(width) for _ in blocks),
            nn.Linear(width, out_size),
        )


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = MLP(width, (width,), width)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        normed: Tensor = self.norm(x + self.inner(x))
        return normed


LayerKind = Literal["mlp", "normed", "residual"]
LAYERS: dict[LayerKind, type[MLP] | type[NormedMLP] | type[ResidualMLP]] = {
    "mlp": MLP,
    "normed": NormedMLP,
    "residual": ResidualMLP,
}
