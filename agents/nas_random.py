"""Random search: every token is drawn uniformly, and the best sequence is kept.

The baseline that a search must beat. Li & Talwalkar, 2019, https://arxiv.org/abs/1902.07638, show how strong it is for
network architectures.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from rlbench.agents._search import Proposer
from rlbench.backbones.ranges import check


@dataclass(frozen=True, kw_only=True)
class NASRandomConfig:
    """Settings of random search."""

    envs: int = 20
    """Number of environments in parallel: sequences in one update."""

    def __post_init__(self) -> None:
        """Refuses settings that are out of range."""
        check(self)


class NASRandom(Proposer):
    """Uniformly random sequences."""

    Config: ClassVar[type] = NASRandomConfig
    config: NASRandomConfig

    def judge(self, tokens: Tensor, reward: Tensor) -> None:
        """Learns nothing."""

    def propose(self) -> Tensor:
        """New random sequences."""
        return self.random(self.config.envs)
