"""The bandit that chooses the settings of each agent in LPG's meta-training.

An agent that begins gets the combination c of settings with probability softmax_c((R_c + rho / sqrt(n_c)) / tau),
where R_c is the mean of the last ten returns of agents with c, and n_c their number plus one.

Oh et al., 2020, https://arxiv.org/abs/2007.08794, section 3.3; constants from jjgarau/LPG
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from rlbench.state import capture, restore

TEMPERATURE, BONUS, MEMORY = 0.1, 0.2, 10
"""tau, rho, and the number of returns that are kept."""


class Bandit:
    """Returns so far of each of C combinations."""

    def __init__(self, arms: int, device: torch.device) -> None:
        """No returns yet."""
        self.returns = torch.zeros((arms, MEMORY), device=device)
        self.trials = torch.zeros(arms, dtype=torch.int64, device=device)

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Combinations of agents that begin, int64 [count]."""
        kept = self.trials.clamp(max=MEMORY)
        mean = self.returns.sum(1) / kept.clamp(min=1)
        weight = (mean + BONUS * (self.trials + 1.0).rsqrt()) / TEMPERATURE
        return torch.multinomial(weight.softmax(0), count, replacement=True, generator=generator)

    def record(self, arms: Tensor, returns: Tensor) -> None:
        """Keeps the returns [M] of agents that lived with combinations int64 [M]."""
        for arm, value in zip(arms.tolist(), returns.unbind(), strict=True):
            self.returns[arm, self.trials[arm] % MEMORY] = value
            self.trials[arm] += 1

    def state_dict(self) -> dict[str, Any]:
        """Returns and trials."""
        return capture(self)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues from `state_dict`."""
        restore(self, state)
