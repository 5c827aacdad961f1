"""A policy and a value in one network, for agents that learn from their own steps."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch.nn.functional as F
from gymnasium import Space
from gymnasium.spaces import Box
from torch import Tensor, nn

from rlbench.backbones.encoders import acting_encoder
from rlbench.backbones.heads.distributions import Head, orthogonal
from rlbench.backbones.memories import acting_memory
from rlbench.backbones.spaces import vector_size
from rlbench.interface import State


class ActorCritic(nn.Module):
    """Tanh networks of policy and value; a single one for both after an encoder with weights."""

    def __init__(
        self,
        space: Space[Any],
        make_head: Callable[[int], Head],
        encoder: str | None,
        hidden: Sequence[int],
        *,
        frozen: bool = False,
    ) -> None:
        """Orthogonal weights, with gains as in PPO's first release (Dhariwal et al., 2017).

        Args:
            space: Of one observation.
            make_head: Makes the distribution of actions for a number of features.
            encoder: Encoder of images; None for vectors.
            hidden: Hidden layer sizes.
            frozen: Whether the encoder's weights are frozen.
        """
        super().__init__()
        self.encoder = None if encoder is None else acting_encoder(encoder, space, frozen=frozen)
        in_size = vector_size(space) if self.encoder is None else self.encoder.size
        self.policy_body = TanhLayers((in_size, *hidden))
        has_weights = self.encoder is not None and len(self.encoder.state_dict()) > 0
        self.value_body = None if has_weights else TanhLayers((in_size, *hidden))
        width = (in_size, *hidden)[-1]
        self.head = make_head(width)
        orthogonal(self.head.out, 0.01)
        self.value_out = orthogonal(nn.Linear(width, 1), 1.0)

    def forward(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """Parameters of the distribution, [B, A], and values, [B]."""
        read = self._read(obs)
        features = self.policy_body(read)
        in_value = features if self.value_body is None else self.value_body(read)
        return self.head(features), self.value_out(in_value).squeeze(-1)

    def policy(self, obs: Tensor) -> Tensor:
        """Parameters of the distribution alone."""
        params: Tensor = self.head(self.policy_body(self._read(obs)))
        return params

    def value(self, obs: Tensor) -> Tensor:
        """Values alone."""
        body = self.policy_body if self.value_body is None else self.value_body
        value: Tensor = self.value_out(body(self._read(obs))).squeeze(-1)
        return value

    def _read(self, obs: Tensor) -> Tensor:
        read: Tensor = obs if self.encoder is None else self.encoder(obs)
        return read


class RecurrentActorCritic(ActorCritic):
    """Policy and value of the output of a memory over the observations so far.

    Called like `ActorCritic`, with the memory's features [B, H] in place of observations.
    """

    def __init__(
        self,
        space: Space[Any],
        make_head: Callable[[int], Head],
        encoder: str | None,
        hidden: Sequence[int],
        memory: str,
        memory_size: int,
        *,
        frozen: bool = False,
    ) -> None:
        """See `ActorCritic`; `memory` is a name, and the memory gives features of length `memory_size`, H."""
        super().__init__(Box(-np.inf, np.inf, (memory_size,)), make_head, None, hidden)
        self.obs_encoder = (
            None if encoder is None else acting_encoder(encoder, space, frozen=frozen)
        )
        in_size = vector_size(space) if self.obs_encoder is None else self.obs_encoder.size
        self.memory = acting_memory(memory, in_size, memory_size)

    def remember(self, obs: Tensor, state: State) -> tuple[Tensor, State]:
        """Features [B, H] of observations [B, ...] and the memory's state after them."""
        return self.memory.step(obs if self.obs_encoder is None else self.obs_encoder(obs), state)

    def unroll(self, obs: Tensor, state: State, reset: Tensor) -> tuple[Tensor, State]:
        """Features [T, B, H] of observations [T, B, ...], and the memory's state; see `Memory.unroll`."""
        x = obs if self.obs_encoder is None else self.obs_encoder(obs)
        return self.memory.unroll(x, state, reset)


class TanhLayers(nn.Module):
    """Linear layers, each followed by tanh."""

    def __init__(self, sizes: Sequence[int]) -> None:
        """`sizes`: the size of the input, then the size of each layer."""
        super().__init__()
        self.layers = nn.ModuleList(
            orthogonal(nn.Linear(fan_in, fan_out), 2**0.5) for fan_in, fan_out in pairwise(sizes)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Features of the last size."""
        for layer in self.layers:
            # For one observation, calling a layer as a module takes longer than the matrix product.
            x = F.linear(x, layer.weight, layer.bias).tanh()  # type: ignore[arg-type]
        return x
