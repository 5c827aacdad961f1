"""Certified robustness: the radius around each test example within which a smoothed classifier cannot change its answer.

Cohen et al., 2019, https://arxiv.org/abs/1902.02918, section 3.2 (algorithm CERTIFY)

Certified examples are also attacked within their radius, by gradient ascent on the loss of the soft smoothed classifier
(Salman et al., 2019, https://arxiv.org/abs/1906.04584, section 2.2). An answer that changes would break its certificate.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from rlbench.backbones.analyses._base import Analysis, Findings, Line, Panel, bootstrap
from rlbench.backbones.analyses._predictor import Predictor
from rlbench.backbones.layers.smoothing import attacked, certificates, noisy_counts
from rlbench.backbones.ranges import INSIDE, PERIOD, POSITIVE, SIZE, Range, check
from rlbench.errors import UserError
from rlbench.experience import Examples

RADII = 41
"""Radii at which the certified accuracy is shown."""
NOISES = 16
"""Draws of the noise in the loss that an attack increases."""


@dataclass(frozen=True, kw_only=True)
class CertifyConfig:
    """Settings of the certificates."""

    sigma: float = 0.5
    """Standard deviation of the noise; values of images are from 0 to 1."""
    choosing: int = 100
    """Draws that choose the class of each example (paper: n_0)."""
    samples: int = 1_000
    """Further draws that certify it (paper: n, 100,000)."""
    alpha: float = 0.001
    """Probability that a certificate is wrong."""
    examples: int = 200
    """Test examples, the first ones."""
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
    runs = ("a run of a classifier on images of bytes, such as classifier or smooth-adversarial",)
    config: CertifyConfig

    def analyse(self, learners: Sequence[Any], examples: Mapping[str, Examples]) -> Findings:
        """See `Analysis`."""
        (model,), (given,), config = learners, examples.values(), self.config
        seen = Predictor(model)
        if not seen.discrete or given["obs"].dtype != torch.uint8:
            raise UserError(
                f"{type(model).__name__} does not classify images of bytes; give {self.runs[0]}"
            )
        batch = given.take(slice(config.examples))
        x, truth = seen.scaled(batch["obs"]), seen.classes(batch).cpu().numpy()
        generator = torch.Generator(x.device).manual_seed(config.seed)

        few, many = (
            noisy_counts(seen.scores, x, config.sigma, n, generator)
            for n in (config.choosing, config.samples)
        )
        answer, radius = certificates(few, many, config.sigma, config.alpha)
        right = np.where(answer == truth, radius, 0.0)
        places = np.linspace(0, max(float(right.max()), config.sigma), RADII)
        reached = (right[:, None] > places) | ((answer == truth)[:, None] & (places == 0))
        mean, low, high = bootstrap(reached.astype(float), np.ones_like(reached, dtype=float))
        numbers = {
            "mean certified radius": float(right.mean()),
            "certified accuracy": float((answer == truth).mean()),
            "abstained": float((answer < 0).mean()),
        }
        sure = answer >= 0
        if config.attack_steps and sure.any():
            kept = torch.from_numpy(np.where(sure, answer, 0)).to(x.device)
            reach = torch.from_numpy(radius).float().to(x.device)
            noise = torch.randn((NOISES, *x[sure].shape), generator=generator, device=x.device)
            moved = attacked(
                seen.scores,
                x[sure],
                kept[sure],
                config.sigma * noise,
                reach[sure],
                config.attack_steps,
            )
            again = noisy_counts(seen.scores, moved, config.sigma, config.samples, generator)
            numbers["broken certificates"] = float((again.argmax(1) != kept[sure]).sum())
        for share in (0.5, 1.0, 1.5):
            at = share * config.sigma
            numbers[f"certified accuracy at {at:g}"] = float((right >= at).mean())
        line = Line("certified accuracy", places.tolist(), mean, low, high)
        panel = Panel("certified accuracy", "radius", [line])
        return Findings(numbers, [panel], {"radius": right, "answer": answer, "label": truth})
