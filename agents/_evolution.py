"""Evolution strategies for learned rules: antithetic perturbations of a rule are compared in pairs.

Salimans et al., 2017, https://arxiv.org/abs/1703.03864; ranking within pairs: Jackson et al., 2023,
https://arxiv.org/abs/2310.02782, release
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call, vmap

from rlbench.agents._lifetimes import Read
from rlbench.agents._rule import Rule

Noise = Mapping[str, Tensor]
"""Perturbations of each parameter of a rule for P pairs, [P, ...] each."""


def draw_noise(rule: Rule, pairs: int, generator: torch.Generator) -> Noise:
    """Standard normal perturbations of a rule for `pairs` pairs (P)."""
    return {
        name: torch.randn((pairs, *x.shape), generator=generator, device=generator.device)
        for name, x in rule.named_parameters()
    }


def changed_rules(rule: Rule, noise: Noise, scale: float) -> Read:
    """A rule for each of 2 P agents: P with the perturbations added, then P with them subtracted."""
    many = {
        name: torch.cat([x + scale * noise[name], x - scale * noise[name]])
        for name, x in rule.named_parameters()
    }
    return many_rules(rule, many)


def slopes(noise: Noise, first: Tensor, second: Tensor, scale: float) -> tuple[Tensor, ...]:
    """Estimated gradients of a loss, the negative win rate within pairs, for each parameter of a rule.

    Args:
        noise: The perturbations.
        first: Fitness of the agents whose rules have the perturbations added, [P].
        second: Fitness of the agents whose rules have them subtracted, [P].
        scale: Standard deviation of the perturbations.
    """
    better = (first - second).sign() / (2 * scale)
    return tuple(-(better.view(-1, *(1,) * (x.dim() - 1)) * x).mean(0) for x in noise.values())


def many_rules(rule: Rule, parameters: Mapping[str, Tensor]) -> Read:
    """A separate rule for each of N agents, from parameters [N, ...]."""

    def one(parameters: Mapping[str, Tensor], discount: float, *columns: Tensor) -> Any:
        reward, over, *rest = columns
        return functional_call(rule, dict(parameters), (reward, over, discount, *rest))

    def read(reward: Tensor, over: Tensor, discount: float, *rest: Tensor) -> tuple[Tensor, Tensor]:
        dims = (0, None, *(1,) * (2 + len(rest)))
        found: tuple[Tensor, Tensor] = vmap(one, in_dims=dims, out_dims=1)(
            parameters, discount, reward, over, *rest
        )
        return found

    return read
