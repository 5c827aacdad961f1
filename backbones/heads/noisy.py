"""A policy and a value that read a code, to which noise can be added.

    e = encoder(s),   code = W e (+ noise),   pi = head(g(code)),   V = linear(g(code))

The deterministic code has no noise, the stochastic one has the Gaussian noise of an information
bottleneck or the noise of dropout; the same heads read both.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import torch
import torch.nn.functional as F
from gymnasium import Space
from torch import Tensor, nn

from rlbench.backbones.encoders import acting_encoder, batch_normalised
from rlbench.backbones.heads.distributions import Head
from rlbench.backbones.layers.bottleneck import Bottleneck, sample
from rlbench.backbones.layers.noise import randn, uniform

Noise = Literal["none", "bottleneck", "dropout"]


@dataclass(frozen=True)
class Code:
    """The code of observations."""

    mean: Tensor
    """The code without noise, [B, Z]."""
    sigma: Tensor | None
    """Standard deviation of the bottleneck's noise, [B, Z]."""


class NoisyActorCritic(nn.Module):
    """Encoder, code and heads; calling it returns policy and value of the deterministic code."""

    def __init__(
        self,
        space: Space[Any],
        make_head: Callable[[int], Head],
        encoder: str,
        hidden: Sequence[int],
        size: int,
        noise: Noise,
        *,
        sigma_offset: float,
        dropout: float,
        slow_mask: bool,
        activation: Literal["tanh", "relu"],
        batch_norm: bool,
        frozen: bool = False,
    ) -> None:
        """Initialises rows of linear layers with length 1, as in the authors' MiniGrid code.

        Args:
            space: Of one observation.
            make_head: Makes the distribution of actions for a number of features.
            encoder: Encoder of observations.
            hidden: Sizes of ReLU layers between encoder and code.
            size: Length of the code, Z.
            noise: Kind of the stochastic code.
            sigma_offset: See `Bottleneck`.
            dropout: Share of units that dropout sets to 0.
            slow_mask: Dropout drops a unit for the whole batch, also in the deterministic code.
            activation: Activation between code and heads (g above).
            batch_norm: Normalise after each convolution, always by the statistics of the batch.
            frozen: Whether the encoder's weights are frozen.
        """
        super().__init__()
        self.encoder = acting_encoder(encoder, space, frozen=frozen)
        if batch_norm:
            batch_normalised(self.encoder, space.shape or ())
        sizes = (self.encoder.size, *hidden)
        self.body = nn.Sequential(
            *(layer for pair in pairwise(sizes) for layer in (nn.Linear(*pair), nn.ReLU()))
        )
        self.bottleneck = (
            Bottleneck(sizes[-1], size, sigma_offset) if noise == "bottleneck" else None
        )
        self.linear = nn.Linear(sizes[-1], size) if self.bottleneck is None else None
        self.activation: nn.Module = nn.Tanh() if activation == "tanh" else nn.ReLU()
        self.head = make_head(size)
        self.value_out = nn.Linear(size, 1)
        normalise_rows(self)
        self.size = size
        self.dropout = dropout if noise == "dropout" else 0.0
        self.slow_mask = slow_mask
        self.register_buffer("mask", torch.ones(size), persistent=True)
        self.mask: Tensor
        """Dropout mask of the deterministic code, [Z]; ones unless it is a slow mask."""

    def code(self, obs: Tensor) -> Code:
        """The code of observations [B, ...]."""
        features = self.body(self.encoder(obs))
        if self.bottleneck is not None:
            return Code(*self.bottleneck(features))
        assert self.linear is not None
        return Code(self.linear(features), None)

    def noisy(self, code: Code, count: int, generator: torch.Generator) -> Tensor:
        """Stochastic codes, [K, B, Z]."""
        shape = (count, *code.mean.shape)
        if code.sigma is not None:
            return sample(code.mean, code.sigma, randn(shape, generator))
        if not self.dropout:
            return code.mean.expand(shape)
        # A slow mask drops a unit for the whole batch, and so does its fast counterpart.
        shared = (count, 1, self.size) if self.slow_mask else shape
        return code.mean * self._mask(_uniform(shared, generator))

    def noisy_by(self, code: Code, noise: Tensor) -> Tensor:
        """One stochastic code per row, [B, Z], from standard normal `noise` [B, Z]."""
        if code.sigma is not None:
            # `sample` checks shapes, which cannot be exported.
            return code.mean + code.sigma * noise
        return code.mean * self._mask(uniform(noise))

    def redraw_mask(self, generator: torch.Generator) -> None:
        """Draws a new slow mask of dropout."""
        self.mask.copy_(self._mask(_uniform((self.size,), generator)))

    def read(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Parameters of the policy, [..., A], and values, [...], for codes [..., Z]."""
        active = self.activation(z)
        return self.head(active), self.value_out(active).squeeze(-1)

    def forward(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """Parameters of the policy and values, for the deterministic code."""
        return self.read(self.code(obs).mean * self.mask)

    def policy(self, obs: Tensor) -> Tensor:
        """Parameters of the policy for the deterministic code."""
        return self(obs)[0]  # type: ignore[no-any-return]

    def value(self, obs: Tensor) -> Tensor:
        """Values of the deterministic code."""
        return self(obs)[1]  # type: ignore[no-any-return]

    def _mask(self, drawn: Tensor) -> Tensor:
        """A mask from uniform numbers: 0 for dropped units, the others scaled to keep the mean."""
        return (drawn >= self.dropout).float() / (1 - self.dropout)


@torch.no_grad()
def normalise_rows(network: nn.Module) -> None:
    """Initialises the linear layers again: each row a random direction of length 1, biases 0.

    The initialisation of the MiniGrid agents of Igl et al., 2019; convolutions keep their weights.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Linear):
            layer.weight.copy_(F.normalize(torch.randn_like(layer.weight), dim=1))
            if layer.bias is not None:
                layer.bias.zero_()


def _uniform(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=generator, device=generator.device)
