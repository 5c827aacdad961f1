"""The bandit that chooses the settings of each agent in LPG's meta-training.

A new agent is assigned the combination c of settings with probability softmax_c((R_c + rho / sqrt(n_c)) / tau),
where R_c is the mean of the last ten returns of agents with c, and n_c is the number of such agents plus one.

Oh et al., 2020, https://arxiv.org/abs/2007.08794, section 3.3; constants from jjgarau/LPG
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from rlbench.state import capture, restore

TEMPERATURE, BONUS, MEMORY = 0.1, 0.2, 10
"""tau, rho, and the number of returns that are kept."""


def combination(
    arm: Tensor, rates: Sequence[float], weights: Sequence[float]
) -> tuple[Tensor, Tensor]:
    """Step sizes and prediction weights, [N] each, of the combinations `arm`, int64 [N]."""
    # Not torch.tensor, whose copy to a GPU cannot be captured in a CUDA graph.
    rate, weight = (
        torch.stack([torch.full((), x, device=arm.device) for x in values])
        for values in (rates, weights)
    )
    return rate[arm // len(weights)], weight[arm % len(weights)]


class Bandit:
    """A bandit that chooses among C combinations of settings."""

    def __init__(self, arms: int, device: torch.device) -> None:
        """Starts without returns.

        Args:
            arms: Number of combinations, C.
            device: Device of all tensors.
        """
        self.returns = torch.zeros((arms, MEMORY), device=device)
        self.trials = torch.zeros(arms, dtype=torch.int64, device=device)

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Draws the combinations of `count` new agents, int64 [count]."""
        kept = self.trials.clamp(max=MEMORY)
        mean = self.returns.sum(1) / kept.clamp(min=1)
        weight = (mean + BONUS * (self.trials + 1.0).rsqrt()) / TEMPERATURE
        return torch.multinomial(weight.softmax(0), count, replacement=True, generator=generator)

    def record(self, arms: Tensor, returns: Tensor) -> None:
        """Records the returns [M] of agents that used the combinations `arms`, int64 [M]."""
        for arm, value in zip(arms.tolist(), returns.unbind(), strict=True):
            self.returns[arm, self.trials[arm] % MEMORY] = value
            self.trials[arm] += 1

    def state_dict(self) -> dict[str, Any]:
        """Returns and trials."""
        return capture(self)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues from `state_dict`."""
        restore(self, state)
