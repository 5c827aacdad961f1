"""SmoothAdv: a classifier that is trained on adversarial examples of its smoothed form, so that more of its answers can be certified.

The smoothed classifier g answers what the base classifier f answers most often for x + e with e ~ N(0, sigma^2 I); see `layers/smoothing.py`. With the
same m draws e_1, ..., e_m in all of the following,

    J(x') = -log( 1/m sum_i p(y | x' + e_i) )                                            the loss of the soft smoothed classifier
    x_adv = x + d,   d <- projected( d + 2 epsilon / T  grad J / |grad J| ),   T steps from d = 0,   |d| <= epsilon, 0 <= x + d <= 1
    minimise  E[ 1/m sum_i -log p(y | x_adv + e_i) ]

epsilon rises linearly from 0 in the first `warmup_updates`. `attack=gaussian` trains with the noise alone (Cohen et al.), `attack=none` without noise.

Salman et al., 2019, https://arxiv.org/abs/1906.04584, algorithm 1 (SmoothAdv-PGD); noise alone: Cohen et al., 2019,
https://arxiv.org/abs/1902.02918

Measures: `accuracy` and `loss` without noise; `smoothed`, the accuracy of g, and `radius`, the mean certified radius with wrong and
abstained answers counted as 0, both with `samples` draws. `rlbench analyse certify` measures both with more draws, for any classifier.

Differences from the paper: small images and networks, and the step size of the classifier of this suite. A gradient that is 0 gives no step.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from rlbench.backbones.layers.smoothing import (
    attacked,
    certificates,
    noisy_counts,
)
from rlbench.backbones.models._base import input_space, judged, normalises_over_batches, right
from rlbench.backbones.models.classifier import Classifier, ClassifierConfig
from rlbench.backbones.optim import gradient_step, one_cycle
from rlbench.backbones.ranges import FEW, NOT_NEGATIVE, PERIOD, POSITIVE, Range, check
from rlbench.errors import UserError
from rlbench.experience import Examples
from rlbench.measures import Measure
from rlbench.seeding import drawing_from

CHOOSING = 100
"""Draws that choose the class of a certificate (paper: n_0)."""
ALPHA = 0.001
"""Probability that a certificate is wrong."""


@dataclass(frozen=True, kw_only=True)
class SmoothAdversarialConfig(ClassifierConfig):
    """Settings of SmoothAdv."""

    encoder: str = "resnet:units=1,width=16,norm=gn"
    """Encoder of the observations, with options after a colon; see docs/encoders.md."""
    attack: Literal["smoothed", "gaussian", "none"] = "smoothed"
    """Training on adversarial examples of the smoothed classifier, with noise alone, or without noise."""
    sigma: float = 0.5
    """Standard deviation of the noise; values of images are from 0 to 1."""
    noises: int = 2
    """Draws of the noise for each example (paper: m)."""
    attack_steps: int = 2
    """Steps of the attack (paper: T)."""
    radius: float = 0.5
    """Largest Euclidean norm of the attack (paper: epsilon)."""
    warmup_updates: int = 0
    """Updates in which this norm rises from 0; by default a tenth of the run."""
    samples: int = 200
    """Draws that certify an answer in evaluations."""

    ranges: ClassVar[Mapping[str, Range]] = {
        **ClassifierConfig.ranges,
        "sigma": POSITIVE, "noises": FEW, "attack_steps": FEW, "radius": NOT_NEGATIVE, "warmup_updates": PERIOD,
    }  # fmt: skip

    def __post_init__(self) -> None:
        """Refuses settings that are out of range."""
        check(self)


class SmoothAdversarial(Classifier):
    """SmoothAdv."""

    Config: ClassVar[type] = SmoothAdversarialConfig
    measures = (
        Measure("radius", "mean certified radius"), Measure("smoothed", "accuracy under noise"), Measure("accuracy"),
        Measure("loss", "nats", higher_is_better=False),
    )  # fmt: skip
    config: SmoothAdversarialConfig

    def build(self) -> None:
        """See `Classifier`."""
        super().build()
        space = input_space(self.spec)
        if space.dtype != np.uint8:
            raise UserError(
                f"observations are {space}, but SmoothAdv keeps attacks within values from 0 to 255; give a source of images of bytes, "
                "such as --env digits"
            )
        if normalises_over_batches(self.encoder):
            raise UserError(
                f"the encoder {self.config.encoder} normalises over a batch, but an attack needs the gradient of each example alone; "
                "give norm=gn"
            )

    @classmethod
    def preset(cls, task: str, updates: int) -> dict[str, Any]:
        """One cycle over the whole run, in the first tenth of which the attack grows."""
        return {**super().preset(task, updates), "warmup_updates": updates // 10}

    def scaled_logits(self, x: Tensor) -> Tensor:
        """Logits [B, C] of observations whose values are from 0 to 1."""
        return self.scores(255 * x)

    def learn(self, experience: Examples) -> Mapping[str, Tensor]:
        """One step of gradient descent on noisy, attacked examples."""
        config, label = self.config, experience[self.config.label]
        if config.cycle_updates is not None:
            share = one_cycle(self.updates / config.cycle_updates)
            self.optimizer.learning_rate = config.learning_rate * share
        x = experience["obs"].float() / 255
        count = 1 if config.attack == "none" else config.noises
        sigma = 0.0 if config.attack == "none" else config.sigma
        drawing: Any = {"generator": self.generator, "device": x.device}
        noise = sigma * torch.randn((count, *x.shape), **drawing)
        with drawing_from(self.generator):
            if config.attack == "smoothed":
                x = self._attacked(x, noise, label)
            logits = self._each(x, noise)
            losses = F.cross_entropy(logits.flatten(0, 1), label.repeat(count), reduction="none")
        loss = gradient_step(self.optimizer, losses.mean())
        self.updates += 1
        return {"loss": loss, "accuracy": right(logits.detach(), label.expand(count, -1)).mean()}

    def _each(self, x: Tensor, noise: Tensor) -> Tensor:
        """Logits with each noise, [m, B, C]."""
        logits: Tensor = self.scaled_logits((x + noise).flatten(0, 1)).unflatten(0, noise.shape[:2])
        return logits

    def _attacked(self, x: Tensor, noise: Tensor, label: Tensor) -> Tensor:
        """Adversarial examples of the smoothed classifier with these noises."""
        config = self.config
        grown = min(1.0, (self.updates + 1) / max(config.warmup_updates, 1))
        radius = torch.full((len(x),), config.radius * grown, device=x.device)
        return attacked(self.scaled_logits, x, label, noise, radius, config.attack_steps)

    def measure(self, examples: Examples) -> Mapping[str, Tensor]:
        """As in a classifier, with the accuracy under noise and the certified radius of each example, [B] each."""
        config, obs, label = self.config, examples["obs"], examples[self.config.label]
        x = obs.float() / 255
        few, many = (
            noisy_counts(self.scaled_logits, x, config.sigma, n, self.measure_generator)
            for n in (CHOOSING, config.samples)
        )
        answer, radius = certificates(few, many, config.sigma, ALPHA)
        certified = torch.from_numpy(np.where(answer == label.cpu().numpy(), radius, 0.0)).float()
        return {
            **judged(self.scores(obs), label),
            "smoothed": (many.argmax(dim=1) == label).float(),
            "radius": certified.to(obs.device),
        }
