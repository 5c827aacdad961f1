"""Local search: moves to a neighbour, a sequence with one other token, as long as that improves the reward.

    start at a random sequence
    repeat:  evaluate the neighbours in random order, and move to the first that is better
             if none is, start again at a random sequence

White et al., 2021, https://arxiv.org/abs/2005.02960, find it competitive on small search spaces with little noise.

Differences from this description: B neighbours are evaluated in parallel, and the best of the first B that contain an
improvement is taken; likewise a start is the best of B random sequences if no neighbours are left for them. With
`--envs 1` the two are the same.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from rlbench.agents._search import Proposer
from rlbench.backbones.ranges import check


@dataclass(frozen=True, kw_only=True)
class NASLocalConfig:
    """Settings of local search."""

    envs: int = 20
    """Number of environments in parallel: sequences in one update."""

    def __post_init__(self) -> None:
        """Refuses settings that are out of range."""
        check(self)


class NASLocal(Proposer):
    """Local search with restarts."""

    Config: ClassVar[type] = NASLocalConfig
    config: NASLocalConfig

    def build(self) -> None:
        """No neighbours yet: the first sequences are starts."""
        super().build()
        self.centre, self.centre_reward = self.best.clone(), self.best_reward.clone()
        self.moves = int((self.choices - 1).sum())
        """Number of neighbours of a sequence, N."""
        self.order = torch.arange(self.moves, device=self.device)
        self.tried = self.moves
        self.pending = 0
        """Number of neighbours among the proposals; they come first."""

    def judge(self, tokens: Tensor, reward: Tensor) -> None:
        """Moves to the best neighbour if it is an improvement; restarts if no neighbour is left."""
        near, far = reward[: self.pending], reward[self.pending :]
        self.tried += len(near)
        if len(near) and near.max() > self.centre_reward:
            self._move(tokens, reward, int(near.argmax()))
        elif len(far):
            self._move(tokens, reward, self.pending + int(far.argmax()))

    def propose(self) -> Tensor:
        """The next neighbours, and random sequences if there are too few."""
        moves = self.order[self.tried : self.tried + self.config.envs]
        self.pending = len(moves)
        return torch.cat([self.neighbours(moves), self.random(self.config.envs - len(moves))])

    def neighbours(self, moves: Tensor) -> Tensor:
        """Neighbours of the centre, [M, L]: numbers from 0 to N - 1, int64 [M], to sequences."""
        lasts = (self.choices - 1).cumsum(0)
        places = torch.searchsorted(lasts, moves, right=True)
        shift = lasts[places] - moves  # From 1 to the number of choices minus 1.
        rows, tokens = (
            torch.arange(len(moves), device=self.device),
            self.centre.repeat(len(moves), 1),
        )
        tokens[rows, places] = (tokens[rows, places] + shift) % self.choices[places]
        return tokens

    def _move(self, tokens: Tensor, reward: Tensor, row: int) -> None:
        self.centre, self.centre_reward = tokens[row].clone(), reward[row].clone()
        generator, device = self.generator, self.device
        self.order, self.tried = torch.randperm(self.moves, generator=generator, device=device), 0
