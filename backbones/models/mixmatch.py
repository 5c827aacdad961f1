"""MixMatch: a classifier from few labelled and many unlabelled examples.

For each batch X of labelled and U of unlabelled examples,

    q_u = sharpen( mean over k = 1..K of p(. | augmented_k(u)), T ),    sharpen(p, T)_c = p_c^(1/T) / sum_c' p_c'^(1/T)

is the guessed label of u and of all its K augmented copies. With W all augmented examples and their labels in a random order, each labelled
and each unlabelled example is mixed with another one of W (MixUp),

    x' = l x + (1 - l) w,   q' = l q_x + (1 - l) q_w,     l = max(l*, 1 - l*),   l* ~ Beta(alpha, alpha)

and the network minimises, with C classes,

    mean over X' of -sum_c q'_c log p(c | x')    +    lambda_U mean over U' of 1/C sum_c (q'_c - p(c | x'))^2

lambda_U rises linearly from 0. No gradient flows through the guesses. Measurements use a moving average of the weights.

Berthelot et al., 2019, https://arxiv.org/abs/1905.02249, sections 3.1 to 3.5; MixUp: https://arxiv.org/abs/1710.09412

An example has a labelled observation (`obs`, and the column of its class) and an unlabelled one (`unlabelled`); see the source
`digits-labelled-L`.

Differences from the paper: the network reads all mixed examples in one pass, so batch normalisation sees labelled and unlabelled ones
together (the paper's code interleaves batches to the same end); no flips, because left and right matter in observations of agents.
With `unlabelled_weight` 0, unlabelled examples are left out altogether, as the baseline of supervised learning with MixUp.
"""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from gymnasium import spaces
from torch import Tensor, nn

from rlbench.backbones.encoders import make_encoder
from rlbench.backbones.layers.augment import shifted
from rlbench.backbones.models._base import (
    classes_of,
    input_space,
    judged,
    normalises_over_batches,
    right,
)
from rlbench.backbones.optim import AdamW, gradient_step, polyak
from rlbench.backbones.ranges import COUNT, FEW, NOT_NEGATIVE, POSITIVE, Range, check
from rlbench.backbones.spaces import CHANNELS
from rlbench.checks import same_shape
from rlbench.errors import UserError
from rlbench.experience import Examples
from rlbench.interface import Model, State
from rlbench.measures import Measure
from rlbench.seeding import drawing_from


@dataclass(frozen=True, kw_only=True)
class MixMatchConfig:
    """Settings of MixMatch."""

    encoder: str = "resnet:units=1,width=16,norm=bn"
    """Encoder of the observations, with options after a colon; see docs/encoders.md."""
    label: str = "label"
    """The column of classes to predict."""
    copies: int = 2
    """Augmented copies of each unlabelled example (paper: K)."""
    temperature: float = 0.5
    """Temperature that sharpens guessed labels (paper: T); 1: they do not change."""
    mixing: float = 0.75
    """Both parameters of the beta distribution of MixUp (paper: alpha); 0: examples are not mixed."""
    unlabelled_weight: float = 75.0
    """Largest weight of the unlabelled examples (paper: lambda_U); 0: they are left out."""
    ramp_updates: int = 500
    """Updates in which this weight rises from 0; by default a quarter of the run."""
    shift: int = 1
    """Augmented images are shifted by at most this many pixels along each axis; 0: there is no augmentation, as for vectors."""
    average: float = 0.999
    """Share of its last value that the moving average of the weights keeps in each update."""
    learning_rate: float = 2e-3
    """Step size of Adam."""
    decay: float = 0.02
    """Weight decay of matrices and kernels: in each update they shrink by this share times the step size."""
    batch_size: int = 32
    """Labelled, and as many unlabelled, examples in one update."""

    ranges: ClassVar[Mapping[str, Range]] = {
        "copies": FEW, "temperature": POSITIVE, "unlabelled_weight": NOT_NEGATIVE, "ramp_updates": COUNT,
        "mixing": NOT_NEGATIVE, "shift": Range(lambda x: 0 <= x <= 1_000, "0 or more, up to 1,000"),
        "average": Range(lambda x: 0 <= x < 1, "0 or more and below 1"), "decay": NOT_NEGATIVE,
    }  # fmt: skip

    def __post_init__(self) -> None:
        """Refuses settings that are out of range."""
        check(self)


def sharpen(p: Tensor, temperature: float) -> Tensor:
    """Probabilities [..., C] to the power of 1 / `temperature`, normalised.

    >>> sharpen(torch.tensor([0.8, 0.2]), 0.5)
    tensor([0.9412, 0.0588])
    """
    return (p.clamp(min=1e-30).log() / temperature).softmax(dim=-1)


def mix(one: Tensor, other: Tensor, share: Tensor) -> Tensor:
    """`share` of each row of `one` and the rest of `other`, [N, ...]; `share` is [N]."""
    same_shape(one, other)
    weight = share.view(-1, *[1] * (one.dim() - 1))
    return weight * one + (1 - weight) * other


class MixMatch(Model):
    """MixMatch."""

    Config: ClassVar[type] = MixMatchConfig
    classifies = True
    measures = (Measure("accuracy"), Measure("loss", "nats", higher_is_better=False))
    run: ClassVar[Mapping[str, Any]] = {
        "updates": 2_000, "eval_every": 500, "checkpoint_every": 500, "log_every": 100,
    }  # fmt: skip
    config: MixMatchConfig

    def build(self) -> None:
        """The network, its moving average and its optimiser."""
        config, spec = self.config, self.spec
        self.classes, space = classes_of(spec, config.label), input_space(spec)
        if not isinstance(other := spec.get("unlabelled"), spaces.Box) or other != space:
            raise UserError(
                f"the examples have the columns {', '.join(spec)}; mixmatch also reads unlabelled observations, with the space of "
                "`obs`, from a column 'unlabelled', as in --env digits-labelled-20"
            )
        if config.shift and len(space.shape or ()) != 3:
            raise UserError(
                f"shift is {config.shift}, but observations have the shape {space.shape}, which is not an image; give --shift 0"
            )
        encoder = make_encoder(config.encoder, space)
        if config.batch_size == 1 and normalises_over_batches(encoder):
            raise UserError(
                f"batch_size is 1, but the encoder {config.encoder} normalises over a batch; give 2 or more, or norm=gn"
            )
        self.channels_last = (space.shape or (1,))[0] not in CHANNELS
        self.network = nn.Sequential(encoder, nn.Linear(encoder.size, self.classes))
        self.averaged = deepcopy(self.network).requires_grad_(False)
        self.optimizer = AdamW(self.network.parameters(), config.learning_rate, decay=config.decay)
        self.updates = 0

    @classmethod
    def preset(cls, task: str, updates: int) -> dict[str, Any]:
        """The weight of unlabelled examples rises over a quarter of the run."""
        return {"ramp_updates": max(updates // 4, 1)}

    @property
    def whole(self) -> nn.Sequential:
        """Encoder and head with the averaged weights."""
        return self.averaged

    def decide(self, obs: Tensor, noise: Tensor | None = None) -> Tensor:
        """Probabilities of the classes from the averaged weights, [B, C]."""
        return self.scores(obs).softmax(dim=-1)

    def scores(self, obs: Tensor, state: State | None = None) -> Tensor:
        """Logits of the classes."""
        logits: Tensor = self.averaged(obs)
        return logits

    def learn(self, experience: Examples) -> Mapping[str, Tensor]:
        """One step of gradient descent, and one of the moving average."""
        config, generator = self.config, self.generator
        label = experience[config.label]
        known = F.one_hot(label.long(), self.classes).float()
        with drawing_from(generator):  # For encoders with noise.
            images, labels = [self._augmented(experience["obs"])], [known]
            if config.unlabelled_weight:
                copies = [self._augmented(experience["unlabelled"]) for _ in range(config.copies)]
                images, labels = images + copies, labels + [self._guess(copies)] * config.copies
            mixed, wanted = self._mixed(torch.cat(images), torch.cat(labels))
            logits = self.network(mixed)
        count = len(label)
        supervised = F.cross_entropy(logits[:count], wanted[:count])
        ramp = min(self.updates / config.ramp_updates, 1.0)
        loss, metrics = supervised, {}
        if config.unlabelled_weight:
            guessed = (logits[count:].softmax(dim=-1) - wanted[count:]).square().mean()
            loss = supervised + ramp * config.unlabelled_weight * guessed
            metrics["unlabelled_loss"] = guessed.detach()
        gradient_step(self.optimizer, loss)
        polyak(self.averaged, self.network, 1 - config.average)
        self.updates += 1
        accuracy = right(logits[:count].detach(), label).mean()
        return {"loss": loss.detach(), "labelled_loss": supervised.detach(), "accuracy": accuracy, **metrics}  # fmt: skip

    def _augmented(self, obs: Tensor) -> Tensor:
        """Observations as numbers, shifted at random, [B, ...]."""
        shift = self.config.shift
        if not shift:
            return obs.float()
        drawing: Any = {"generator": self.generator, "device": obs.device}
        offsets = torch.randint(-shift, shift + 1, (len(obs), 2), **drawing)
        return shifted(obs.float(), offsets, channels_last=self.channels_last)

    @torch.no_grad()
    def _guess(self, copies: list[Tensor]) -> Tensor:
        """The sharpened mean of the predictions for the copies of each example, [B, C]."""
        p = self.network(torch.cat(copies)).softmax(dim=-1).unflatten(0, (len(copies), -1))
        return sharpen(p.mean(dim=0), self.config.temperature)

    def _mixed(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Each image, and its label, mixed with those of a random one."""
        alpha = self.config.mixing
        if not alpha:
            return images, labels
        drawing: Any = {"generator": self.generator, "device": images.device}
        order = torch.randperm(len(images), **drawing)
        # A ratio of gamma variables has a beta distribution.
        shape = torch.full((2, len(images)), alpha, device=images.device)
        gamma = torch._standard_gamma(shape, generator=self.generator)
        share = gamma[0] / gamma.sum(dim=0).clamp(min=1e-30)
        share = torch.maximum(share, 1 - share)
        return mix(images, images[order], share), mix(labels, labels[order], share)

    def measure(self, examples: Examples) -> Mapping[str, Tensor]:
        """Accuracy (1 if right), loss and predicted class of each example from the averaged weights, [B] each."""
        return judged(self.averaged(examples["obs"]), examples[self.config.label])
