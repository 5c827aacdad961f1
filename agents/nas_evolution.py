"""Regularised evolution: the oldest members of a population are replaced by mutants of good ones.

    repeat:  draw S members with replacement, take the one with the highest reward
             change one token, drawn uniformly, to another value, drawn uniformly
             add the result to the population, and remove the oldest member

The population begins with P random sequences. Because every member dies of age, a sequence that was only lucky once does
not stay.

Real et al., 2019, https://arxiv.org/abs/1802.01548, algorithm 1

Differences from the paper: a batch of B sequences is drawn from the same population and evaluated in parallel; with
`--envs 1` the two are the same. The paper's own settings, P = 100 and S = 25, are for 20,000 sequences. The mutation
changes one token instead of an operation or an input of a cell.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from rlbench.agents._search import Proposer
from rlbench.backbones.ranges import check


@dataclass(frozen=True, kw_only=True)
class NASEvolutionConfig:
    """Settings of regularised evolution."""

    envs: int = 20
    """Number of environments in parallel: sequences in one update."""
    population: int = 50
    """Number of members (paper: P)."""
    tournament: int = 10
    """Members among which the best one is mutated (paper: S)."""

    def __post_init__(self) -> None:
        """Refuses settings that are out of range."""
        check(self)


class NASEvolution(Proposer):
    """Regularised evolution of sequences."""

    Config: ClassVar[type] = NASEvolutionConfig
    config: NASEvolutionConfig

    def build(self) -> None:
        """An empty population, and the first random sequences."""
        super().build()
        size = self.config.population
        self.members = torch.zeros(size, len(self.choices), dtype=torch.int64, device=self.device)
        self.rewards = torch.zeros(size, device=self.device)
        self.born = 0
        (self.mutable,) = torch.nonzero(self.choices > 1, as_tuple=True)

    def judge(self, tokens: Tensor, reward: Tensor) -> None:
        """Adds sequences in the place of the oldest members."""
        for sequence, value in zip(tokens, reward, strict=True):
            oldest = self.born % len(self.members)
            self.members[oldest], self.rewards[oldest] = sequence, value
            self.born += 1

    def propose(self) -> Tensor:
        """Random sequences until the population is complete, then mutants of winners."""
        alive = min(self.born, len(self.members))
        fresh = min(len(self.members) - alive, self.config.envs)
        drawn = torch.full((self.config.envs - fresh, self.config.tournament), alive)
        contestants = self.draw(drawn.to(self.device))
        best = self.rewards[contestants].argmax(1, keepdim=True)
        winners = self.members[contestants.gather(1, best).squeeze(1)]
        return torch.cat([self.random(fresh), self.mutated(winners)])

    def mutated(self, tokens: Tensor) -> Tensor:
        """Sequences [N, L] with one token changed in each."""
        rows = torch.arange(len(tokens), device=self.device)
        drawn = self.draw(torch.full_like(rows, len(self.mutable)))
        places = self.mutable[drawn]
        choices = self.choices[places]
        shift = 1 + self.draw(choices - 1)
        changed = tokens.clone()
        changed[rows, places] = (tokens[rows, places] + shift) % choices
        return changed
