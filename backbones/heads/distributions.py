"""Distributions over discrete or continuous actions at the end of a network, for on-policy agents.

A head maps features to the parameters of its distribution; samples are in the head's own units: the
index of a discrete action, or an unbounded vector that is clipped to [-1, 1] when it acts.
"""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from rlbench.backbones.layers.noise import gumbel


class Head(nn.Module, ABC):
    """A distribution of actions, given features."""

    out: nn.Linear
    """Layer from features to the parameters that depend on the state, [B, A]."""

    @abstractmethod
    def draw(self, params: Tensor, noise: Tensor) -> Tensor:
        """One sample for each row of parameters; noise is standard normal, [..., A] like the parameters."""

    @abstractmethod
    def log_prob(self, params: Tensor, sample: Tensor) -> Tensor:
        """Log-probability or log-density of samples, [...]."""

    @abstractmethod
    def entropy(self, params: Tensor) -> Tensor:
        """Entropy in nats, [...]."""

    @abstractmethod
    def mode(self, params: Tensor) -> Tensor:
        """The most likely sample."""

    def forward(self, features: Tensor) -> Tensor:
        """Parameters, [..., A]."""
        params: Tensor = self.out(features)
        return params


class Categorical(Head):
    """Discrete actions; parameters are logits, samples int64 indices [...]."""

    def __init__(self, in_size: int, choices: int) -> None:
        """A linear layer from features of length `in_size` to the logits."""
        super().__init__()
        self.out = nn.Linear(in_size, choices)

    def draw(self, params: Tensor, noise: Tensor) -> Tensor:
        """See `Head`."""
        return (params + gumbel(noise)).argmax(-1)

    def log_prob(self, params: Tensor, sample: Tensor) -> Tensor:
        """See `Head`."""
        return params.log_softmax(-1).gather(-1, sample[..., None]).squeeze(-1)

    def entropy(self, params: Tensor) -> Tensor:
        """See `Head`."""
        log_prob = params.log_softmax(-1)
        return -(log_prob.exp() * log_prob).sum(-1)

    def mode(self, params: Tensor) -> Tensor:
        """See `Head`."""
        return params.argmax(-1)


class Gaussian(Head):
    """Continuous actions; parameters are means [..., A], the standard deviation is the same for all states."""

    def __init__(self, in_size: int, action_size: int) -> None:
        """A linear layer from features of length `in_size` to the means; deviations begin at 1."""
        super().__init__()
        self.out = nn.Linear(in_size, action_size)
        self.log_std = nn.Parameter(torch.zeros(action_size))

    def draw(self, params: Tensor, noise: Tensor) -> Tensor:
        """See `Head`."""
        return params + self.log_std.exp() * noise

    def log_prob(self, params: Tensor, sample: Tensor) -> Tensor:
        """See `Head`."""
        noise = (sample - params) * (-self.log_std).exp()
        return (-0.5 * noise.square() - self.log_std - 0.5 * math.log(2 * math.pi)).sum(-1)

    def entropy(self, params: Tensor) -> Tensor:
        """See `Head`."""
        one = (self.log_std + 0.5 * math.log(2 * math.pi * math.e)).sum()
        return one.expand(params.shape[:-1])

    def mode(self, params: Tensor) -> Tensor:
        """See `Head`."""
        return params


def orthogonal(layer: nn.Linear, gain: float) -> nn.Linear:
    """The layer with orthogonal weights (Saxe et al., 2014) times `gain`, and no bias."""
    nn.init.orthogonal_(layer.weight, gain)
    nn.init.zeros_(layer.bias)
    return layer
