"""Retrieval of poses by the distance of their key points: the baselines of Pr-VIPE that learn nothing.

    l2            |x_1 - x_2| between normalised key points x
    procrustes    the same after the best translation, rotation and scale in the plane

Sun et al., 2020, https://arxiv.org/abs/1912.01001, table 1
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from rlbench.backbones.models._poses import PoseConfig, PoseModel, points_of
from rlbench.backbones.ranges import TWO, Range
from rlbench.experience import Examples
from rlbench.poses import normalised, shape_distances

ROWS = 100
"""Queries that are compared with the index at once, which bounds the memory."""


@dataclass(frozen=True, kw_only=True)
class PoseNearestConfig(PoseConfig):
    """Settings of retrieval by key points."""

    metric: Literal["l2", "procrustes"] = "procrustes"
    """Distance of key points."""
    torso: int = 4
    """Number of points of the torso, which come first: 4 of humanoid and ant, 2 of other robots."""

    ranges: ClassVar[Mapping[str, Range]] = {**PoseConfig.ranges, "torso": TWO}


class PoseNearest(PoseModel):
    """Retrieval by the distance of key points."""

    Config: ClassVar[type] = PoseNearestConfig
    run: ClassVar[Mapping[str, Any]] = {
        "updates": 1, "eval_every": 1, "checkpoint_every": 1, "log_every": 1,
    }  # fmt: skip
    config: PoseNearestConfig

    def build(self) -> None:
        """There are no weights."""
        self.torso = self.config.torso
        points_of(self.spec, self.torso)

    def distances(self, query: Tensor, index: Tensor) -> Tensor:
        """See the module."""
        if self.config.metric == "l2":
            return torch.cdist(query.flatten(1), index.flatten(1))
        return torch.cat([shape_distances(rows[:, None], index) for rows in query.split(ROWS)])

    def learn(self, experience: Examples) -> Mapping[str, Tensor]:
        """The distance between two views of a training pose; nothing changes."""
        views = [self.seen(experience["obs"], self.generator)[0] for _ in range(2)]
        apart = self.distances(*(normalised(view, self.torso) for view in views))
        return {"distance": apart.diagonal().mean()}
