"""Runs a classifier of actions as a policy: its return, and what noise and attacks on its observations cost.

A model that learned from the observations and actions of an agent (`rlbench data examples RUN`) chooses the action that it predicts. With
`sigma` it acts as a smoothed policy: it takes the action that it predicts most often for observations with Gaussian noise, and the radius within
which no change of the observation can change that action is certified at every step (Cohen et al., 2019, https://arxiv.org/abs/1902.02918). With
`attack`, every observation is first perturbed by up to this distance against the most probable action, by gradient ascent on its loss
(Salman et al., 2019, https://arxiv.org/abs/1906.04584, section 2.2).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from rlbench.backbones.analyses._base import Analysis, Array, Findings
from rlbench.backbones.layers.smoothing import attacked, certificates, noisy_counts
from rlbench.backbones.ranges import COUNT, NOT_NEGATIVE, PERIOD, SIZE, Range, check
from rlbench.errors import UserError
from rlbench.experience import Examples

ALPHA = 0.001
"""Probability that a certificate is wrong."""
NOISES = 16
"""Draws of the noise in the loss that an attack increases."""


@dataclass(frozen=True, kw_only=True)
class ActingConfig:
    """Settings of the episodes."""

    task: str = ""
    """Task whose observations and actions the model knows."""
    episodes: int = 100
    """Episodes that are played."""
    sigma: float = 0.0
    """Standard deviation of the noise; values of images are from 0 to 1. 0: the model acts without noise."""
    choosing: int = 20
    """Draws of the noise that choose an action."""
    samples: int = 100
    """Further draws that certify it."""
    attack: float = 0.0
    """Largest distance by which an attack perturbs an observation; 0: no attack."""
    attack_steps: int = 5
    """Steps of the attack."""

    ranges: ClassVar[Mapping[str, Range]] = {
        "episodes": COUNT, "sigma": NOT_NEGATIVE, "choosing": SIZE, "samples": SIZE, "attack": NOT_NEGATIVE, "attack_steps": PERIOD,
    }  # fmt: skip

    def __post_init__(self) -> None:
        """Refuses settings that are out of range."""
        check(self)
        if not self.task:
            raise UserError("no task is given; give --task, such as minigrid-empty-5")


class Acting(Analysis):
    """Returns of a classifier of actions."""

    Config: ClassVar[type] = ActingConfig
    runs = (
        "a run of a model whose classes are actions, such as classifier on a file of `rlbench data examples`",
    )
    config: ActingConfig

    def analyse(self, learners: Sequence[Any], examples: Mapping[str, Examples]) -> Findings:
        """See `Analysis`."""
        (model,), config = learners, self.config
        scale = 255.0 if model.spec["obs"].dtype == np.uint8 else 1.0
        generator = torch.Generator(model.device).manual_seed(0)
        radii: list[Array] = []

        def logits(x: Tensor) -> Tensor:
            probability: Tensor = model.decide(scale * x)
            return (probability + 1e-30).log()

        def act(obs: Tensor) -> Tensor:
            x = obs.float() / scale
            if config.attack:
                x = self._against(logits, x, generator, bounded=scale != 1)
            if not config.sigma:
                return logits(x).argmax(dim=1)
            few, many = (
                noisy_counts(logits, x, config.sigma, n, generator)
                for n in (config.choosing, config.samples)
            )
            radii.append(certificates(few, many, config.sigma, ALPHA)[1])
            return few.argmax(dim=1)

        columns = dict(self.play(config.task, config.episodes, False, act))
        numbers = {name: float(x.mean()) for name, x in columns.items() if name != "seed"}
        if radii:
            every = np.concatenate(radii)
            numbers |= {
                "certified radius": float(every.mean()),
                "certified steps": float((every > 0).mean()),
            }
        return Findings(numbers, columns=columns)

    def _against(
        self, logits: Any, x: Tensor, generator: torch.Generator, *, bounded: bool
    ) -> Tensor:
        """Observations perturbed against the action that the policy would take."""
        config = self.config
        draws = NOISES if config.sigma else 1
        noise = config.sigma * torch.randn((draws, *x.shape), generator=generator, device=x.device)
        mean = logits((x + noise).flatten(0, 1)).softmax(dim=1).unflatten(0, (draws, -1)).mean(0)
        radius = torch.full((len(x),), config.attack, device=x.device)
        return attacked(
            logits, x, mean.argmax(dim=1), noise, radius, config.attack_steps, bounded=bounded
        )
