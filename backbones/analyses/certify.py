"""Certified robustness: the radius around each test example within which a smoothed classifier cannot change its answer.

An agent with discrete actions is a classifier of observations; what is certified is that it keeps the action that it takes without noise.

Cohen et al., 2019, https://arxiv.org/abs/1902.02918, section 3.2 (algorithm CERTIFY)

Certified examples are also attacked within their radius, by gradient ascent on the loss of the soft smoothed classifier
(Salman et al., 2019, https://arxiv.org/abs/1906.04584, section 2.2). An answer that changes would break its certificate.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from rlbench.backbones.analyses._base import Analysis, Findings, Line, Panel, bootstrap
from rlbench.backbones.analyses._predictor import Predictor
from rlbench.backbones.layers.attacks import Scores
from rlbench.backbones.layers.smoothing import attacked, certificates, noisy_counts
from rlbench.backbones.ranges import INSIDE, PERIOD, POSITIVE, SIZE, Range, check
from rlbench.errors import UserError
from rlbench.experience import Examples
from rlbench.interface import Agent

RADII = 41
"""Radii at which the certified accuracy is shown."""
NOISES = 16
"""Draws of the noise in the loss that an attack increases."""


@dataclass(frozen=True, kw_only=True)
class CertifyConfig:
    """Settings of the certificates."""

    sigma: float = 0.5
    """Standard deviation of the noise. Values of images are from 0 to 1; other values have their standard deviation as the unit."""
    choosing: int = 100
    """Draws that choose the class of each example (paper: n_0)."""
    samples: int = 1_000
    """Further draws that certify it (paper: n, 100,000)."""
    alpha: float = 0.001
    """Probability that a certificate is wrong."""
    examples: int = 200
    """Test examples of a model, the first ones, or observations of an agent."""
    attack_steps: int = 10
    """Steps of the attack on certified examples, each with 16 draws of the noise; 0: no attack."""
    seed: int = 0
    """Seed of the noise."""

    ranges: ClassVar[Mapping[str, Range]] = {
        "sigma": POSITIVE, "choosing": SIZE, "samples": SIZE, "alpha": INSIDE, "examples": SIZE,
        "attack_steps": PERIOD,
    }  # fmt: skip

    def __post_init__(self) -> None:
        """Refuses settings that are out of range."""
        check(self)


class Certify(Analysis):
    """Certified accuracy by radius."""

    Config: ClassVar[type] = CertifyConfig
    runs = ("a run of a classifier, or of an agent with discrete actions and without a memory",)
    agents = True
    config: CertifyConfig

    def analyse(self, learners: Sequence[Any], examples: Mapping[str, Examples]) -> Findings:
        """See `Analysis`."""
        (learner,), config = learners, self.config
        seen = Predictor(learner)
        if not seen.discrete:
            raise UserError(
                f"{type(learner).__name__} has no classes or discrete actions; give {self.runs[0]}"
            )
        if isinstance(learner, Agent):
            obs, truth, share = self.observations(config.examples), None, "agreement"
            if learner.act(obs[:1]).state is not None:
                raise UserError(f"{type(learner).__name__} has a memory; give {self.runs[0]}")
        else:
            (given,), share = examples.values(), "accuracy"
            batch = given.take(slice(config.examples))
            obs, truth = batch["obs"], seen.classes(batch)
        logits, x = _measured(seen, obs)
        wanted = (logits(x).argmax(dim=1) if truth is None else truth).cpu().numpy()
        generator = torch.Generator(x.device).manual_seed(config.seed)
        few, many = (
            noisy_counts(logits, x, config.sigma, n, generator)
            for n in (config.choosing, config.samples)
        )
        answer, radius = certificates(few, many, config.sigma, config.alpha)
        right = np.where(answer == wanted, radius, 0.0)
        places = np.linspace(0, max(float(right.max()), config.sigma), RADII)
        reached = (right[:, None] > places) | ((answer == wanted)[:, None] & (places == 0))
        mean, low, high = bootstrap(reached.astype(float), np.ones_like(reached, dtype=float))
        numbers = {
            "mean certified radius": float(right.mean()),
            f"certified {share}": float((answer == wanted).mean()),
            "abstained": float((answer < 0).mean()),
        }
        sure = answer >= 0
        if config.attack_steps and sure.any():
            kept = torch.from_numpy(np.where(sure, answer, 0)).to(x.device)[sure]
            reach = torch.from_numpy(radius).float().to(x.device)[sure]
            noise = config.sigma * torch.randn(
                (NOISES, *x[sure].shape), generator=generator, device=x.device
            )
            moved = attacked(
                logits, x[sure], kept, noise, reach, config.attack_steps, bounded=seen.images
            )
            again = noisy_counts(logits, moved, config.sigma, config.samples, generator)
            numbers["broken certificates"] = float((again.argmax(1) != kept).sum())
        for part in (0.5, 1.0, 1.5):
            at = part * config.sigma
            numbers[f"certified {share} at {at:g}"] = float((right >= at).mean())
        line = Line(f"certified {share}", places.tolist(), mean, low, high)
        panel = Panel(f"certified {share}", "radius", [line])
        return Findings(numbers, [panel], {"radius": right, "answer": answer, "label": wanted})


def _measured(seen: Predictor, obs: Tensor) -> tuple[Scores, Tensor]:
    """Logits as a function of inputs in the unit of the noise, and these inputs, [B, ...].

    Images have values from 0 to 1; the unit of other values is their standard deviation, and values that never change stay as they are.
    """
    x = seen.scaled(obs)
    seen.check_numeric(obs)
    if seen.images:
        return seen.scores, x
    unit, first = x.std(dim=0, correction=0), x[0]
    varies = unit > 0

    def logits(z: Tensor) -> Tensor:
        return seen.scores(torch.where(varies, unit * z, first))

    return logits, x / torch.where(varies, unit, 1.0)
