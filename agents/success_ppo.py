"""PPO that is rewarded by a classifier of success in place of the environment.

    r'_t = max( log p(success | s_{t+1}) / log(1 / eps), -1 ),   eps = 0.001

from -1 to 0, where p are the probabilities of the encoder `classes`, a trained classifier that does not learn: `--reward-encoder classes:RUN` loads it from a run of
`mixmatch` or `classifier`, which may have learned from a few labelled observations. The rewards of the environment are not used in training;
evaluations use these alone.

Singh et al., 2019, https://arxiv.org/abs/1904.07854, for the logarithm of the probability of success as a reward; Berthelot et al., 2019,
https://arxiv.org/abs/1905.02249, for a classifier from few labels

Differences from the papers: the classifier is trained before the run and not during it, so a policy can find observations that it mistakes for success. As no
reward is positive, it gains nothing by staying there if episodes end with success. The logarithm is bounded and scaled.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from rlbench.agents.ppo import PPO, PPOConfig
from rlbench.backbones.encoders import acting_encoder
from rlbench.backbones.encoders.classes import Classes
from rlbench.backbones.ranges import PERIOD, Range
from rlbench.errors import UserError
from rlbench.experience import Trajectories
from rlbench.interface import Learn

LEAST = 1e-3
"""Probabilities below this one count as equal (eps)."""


@dataclass(frozen=True, kw_only=True)
class SuccessPPOConfig(PPOConfig):
    """Settings of PPO and of its rewards."""

    reward_encoder: str = ""
    """The encoder `classes` whose probability is the reward: classes:RUN; its weights do not learn. It must be given."""
    success: int = 1
    """Number of the class that stands for success."""

    ranges: ClassVar[Mapping[str, Range]] = {"success": PERIOD}


def success_reward(success: Tensor) -> Tensor:
    """Rewards from -1 to 0 for probabilities of success, of any shape.

    >>> success_reward(torch.tensor([1.0, 0.1, 0.0]))
    tensor([ 0.0000, -0.3333, -1.0000])
    """
    return success.clamp(min=LEAST).log() / -math.log(LEAST)


class SuccessPPO(PPO):
    """PPO rewarded by a classifier of success."""

    Config: ClassVar[type] = SuccessPPOConfig
    config: SuccessPPOConfig

    def build(self) -> None:
        """PPO's parts, and the classifier."""
        config = self.config
        super().build()
        if not config.reward_encoder:
            raise UserError(
                "no classifier is given; give --reward-encoder classes:RUN with a run of mixmatch or classifier on such observations"
            )
        self.classifier = acting_encoder(config.reward_encoder, self.spec.observation_space)
        self.classifier.eval()
        if not isinstance(self.classifier.layers, Classes):
            raise UserError(
                f"reward_encoder is {config.reward_encoder}; this agent needs the encoder classes, such as classes:RUN with a run of mixmatch"
            )
        if config.success >= self.classifier.size:
            raise UserError(
                f"success is class {config.success}, but the classifier has the classes 0 to {self.classifier.size - 1}; give one of them"
            )

    @torch.no_grad()
    def success(self, obs: Tensor) -> Tensor:
        """Probabilities of success, [B], of observations [B, ...]."""
        probabilities: Tensor = self.classifier(obs)
        return probabilities[:, self.config.success]

    def _learn(self, step: Learn, rollout: Trajectories) -> Mapping[str, Tensor]:
        """An update of PPO on rewards from the probabilities of success after each step."""
        after = rollout.final_obs
        success = self.success(after.flatten(0, 1)).view(after.shape[:2])
        learned = super()._learn(step, replace(rollout, reward=success_reward(success)))
        return {**learned, "success": success.mean()}
