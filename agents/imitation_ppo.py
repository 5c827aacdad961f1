"""PPO that imitates a demonstration seen by another camera, rewarded by the similarity of key points.

    r'_t = p(m | x_{t+1}, y_{t+1})

where x are the agent's own key points and y the key points of the demonstration, at the same time from another camera, and p(m | x, y) is the match
probability of the encoder `pose`, which does not learn. `--pretrained RUN` loads its weights from a run of `pr-vipe`; without it they are
random. The rewards of the environment are not used in training; evaluations use these alone. With `--reward procrustes`
r' is 1 minus the Procrustes distance of the key points in the plane, which depends on the cameras.

Observations have the parts `view` and `demonstration`, key points [K, 2] each, as in the tasks `follow-FAMILY`.

Sun et al., 2020, https://arxiv.org/abs/1912.01001, for the embedding; imitation from observation by the distance of embeddings:
Sermanet et al., 2018, https://arxiv.org/abs/1704.06888

Differences from the papers: the embedding is Pr-VIPE's and the distance its match probability, where the second paper learns an embedding of
pictures by time-contrastive triplets and subtracts squared distances; the policy also reads the angles of its joints.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from gymnasium import Space, spaces
from torch import Tensor, nn

from rlbench.agents.ppo import PPO, PPOConfig
from rlbench.backbones.encoders import acting_encoder
from rlbench.backbones.encoders.pose import PoseEmbedding, drawn
from rlbench.backbones.layers.noise import randn
from rlbench.backbones.ranges import FEW, Range
from rlbench.errors import UserError
from rlbench.experience import Trajectories
from rlbench.interface import Learn
from rlbench.packed import Packed
from rlbench.poses import shape_distances

VIEWS = ("view", "demonstration")
"""Parts of the observations that are compared."""


@dataclass(frozen=True, kw_only=True)
class ImitationPPOConfig(PPOConfig):
    """Settings of PPO and of its rewards."""

    reward: Literal["match", "procrustes"] = "match"
    """What is rewarded; see the module."""
    reward_encoder: str = "pose"
    """The encoder `pose` that compares key points, with options after a colon; its weights do not learn."""
    samples: int = 20
    """Samples of each embedding; a match probability is a mean over all pairs of them."""

    ranges: ClassVar[Mapping[str, Range]] = {"samples": FEW}


class Imitation(nn.Module):
    """The similarity of the key points of two parts of an observation."""

    def __init__(self, space: Space[Any], config: ImitationPPOConfig) -> None:
        """Makes the encoder, if there is one.

        Args:
            space: Space of one observation.
            config: Settings of the agent.

        Raises:
            UserError: The observations lack the parts, or the encoder is not `pose`.
        """
        super().__init__()
        self.space, self.samples = refuse_others(space), config.samples
        self.encoder: nn.Module | None = None
        if config.reward == "match":
            self.encoder = acting_encoder(
                config.reward_encoder, self.space.parts[VIEWS[0]], frozen=True
            )
            self.encoder.eval()
            if not isinstance(self.encoder.layers, PoseEmbedding):
                raise UserError(
                    f"reward_encoder is {config.reward_encoder}; this agent needs the encoder pose, with or without options, such as "
                    "pose:width=256"
                )

    @torch.no_grad()
    def forward(self, obs: Tensor, generator: torch.Generator) -> Tensor:
        """Similarities from 0 to 1, [B], of observations [B, D]; draws samples of embeddings from a generator."""
        parts = self.space.unpack(obs)
        own, shown = (parts[name].unflatten(-1, (-1, 2)) for name in VIEWS)
        if self.encoder is None:
            return 1 - shape_distances(own, shown)
        layers = self.encoder.layers
        assert isinstance(layers, PoseEmbedding)
        gaussians = self.encoder(torch.cat([own, shown]))
        noise = randn((len(gaussians), self.samples, gaussians.shape[1] // 2), generator)
        first, second = drawn(gaussians, noise).chunk(2)
        return layers.match(torch.cdist(first, second)).mean((1, 2))


def refuse_others(space: Space[Any]) -> Packed:
    """The space of observations.

    Raises:
        UserError: It lacks the parts that are compared.
    """
    parts = space.parts if isinstance(space, Packed) else {}
    views = [parts[name] for name in VIEWS if name in parts]
    boxes = [x for x in views if isinstance(x, spaces.Box) and x.shape[1:] == (2,)]
    if not isinstance(space, Packed) or len(boxes) < 2 or boxes[0].shape != boxes[1].shape:
        found = ", ".join(parts) or str(space)
        raise UserError(
            f"the observations are {found}; this agent needs a Dict with the parts view and demonstration, key points [K, 2] each, such as "
            "--env follow-humanoid"
        )
    return space


class ImitationPPO(PPO):
    """PPO rewarded by the similarity of key points."""

    Config: ClassVar[type] = ImitationPPOConfig
    config: ImitationPPOConfig

    def build(self) -> None:
        """PPO's parts, and what computes the rewards."""
        super().build()
        self.imitation = Imitation(self.spec.observation_space, self.config)

    def _learn(self, step: Learn, rollout: Trajectories) -> Mapping[str, Tensor]:
        """An update of PPO on the similarities after each step."""
        after = rollout.final_obs
        reward = self.imitation(after.flatten(0, 1), self.generator).view(after.shape[:2])
        learned = super()._learn(step, replace(rollout, reward=reward))
        return {**learned, "similarity": reward.mean()}
