"""Nearest neighbours within an episode: the baseline of one-shot learning that learns nothing between episodes.

    y_t = the most frequent class among the k nearest of x_1, ..., x_{t-1}

by the distance of their pixels; if classes are equally frequent, the one with the nearest drawing wins. With fewer than
k drawings all of them vote, and the first step answers class 0.

The baseline of Santoro et al., 2016, https://arxiv.org/abs/1605.06065, table 1.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from rlbench.backbones.models.one_shot import INSTANCES, accuracies, episodes_of
from rlbench.backbones.ranges import check
from rlbench.experience import Examples
from rlbench.interface import Model
from rlbench.measures import Measure


@dataclass(frozen=True, kw_only=True)
class NearestConfig:
    """Settings of nearest neighbours."""

    neighbours: int = 1
    """Drawings that vote (paper: k)."""
    batch_size: int = 16
    """Episodes in one update, which only measures them."""

    def __post_init__(self) -> None:
        """Refuses settings that are out of range."""
        check(self)


def nearest(obs: Tensor, label: Tensor, classes: int, neighbours: int) -> Tensor:
    """Predicted classes, int64 [B, T].

    Args:
        obs: Drawings, [B, T, D].
        label: Their classes, int64 [B, T]; those before a step vote.
        classes: Number of classes.
        neighbours: Drawings that vote, k.
    """
    steps = obs.shape[1]
    later = torch.ones(steps, steps, dtype=torch.bool, device=obs.device).triu()
    distance = torch.cdist(obs, obs).masked_fill(later, torch.inf)
    closest, who = distance.topk(min(neighbours, steps), largest=False)
    vote = F.one_hot(label[:, None].expand(-1, steps, -1).gather(2, who), classes).float()
    vote = vote * closest.isfinite()[..., None]
    # A bonus too small to outvote a drawing decides ties for the nearest.
    bonus = 0.5 ** torch.arange(1, vote.shape[2] + 1, device=obs.device)
    return (vote * (1 + bonus[:, None] / 2)).sum(2).argmax(-1)


class Nearest(Model):
    """Nearest neighbours."""

    Config: ClassVar[type] = NearestConfig
    measures = tuple(Measure(f"instance_{k}") for k in (2, *(k for k in INSTANCES if k != 2)))
    run: ClassVar[Mapping[str, Any]] = {
        "updates": 1, "eval_every": 1, "checkpoint_every": 1, "log_every": 1,
    }  # fmt: skip
    config: NearestConfig

    def build(self) -> None:
        """There are no weights."""
        _, self.classes = episodes_of(self.spec)

    def learn(self, experience: Examples) -> Mapping[str, Tensor]:
        """Accuracy on the training episodes; nothing changes."""
        return {name: x.mean() for name, x in self.measure(experience).items()}

    def measure(self, examples: Examples) -> Mapping[str, Tensor]:
        """Accuracy by instance of each episode, [B] each."""
        label = examples["label"]
        predicted = nearest(examples["obs"], label, self.classes, self.config.neighbours)
        return accuracies((predicted == label).float(), label, self.classes)
