"""A classifier: an encoder with a linear head.

    minimise  E[ -log p(y | x) ],    p(. | x) = softmax(W f(x) + b)

where f is any encoder of the suite, x is `obs` and y a column of classes. It is trained by gradient descent with
momentum and weight decay, and a step size that rises and falls once ("one cycle").

He et al., 2016, https://arxiv.org/abs/1512.03385, section 4.2, for optimiser and weight decay;
Smith & Topin, 2019, https://arxiv.org/abs/1708.07120, for the step size. In He et al. it falls in steps instead.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from rlbench.backbones.encoders import make_encoder
from rlbench.backbones.models._base import (
    classes_of,
    input_space,
    judged,
    normalises_over_batches,
    right,
)
from rlbench.backbones.optim import SGD, gradient_step, one_cycle
from rlbench.backbones.ranges import Range, check
from rlbench.errors import UserError
from rlbench.experience import Examples
from rlbench.interface import Model, State
from rlbench.measures import Measure
from rlbench.seeding import drawing_from


@dataclass(frozen=True, kw_only=True)
class ClassifierConfig:
    """Settings of the classifier."""

    encoder: str = "resnet20:norm=bn"
    """Encoder of the observations, with options after a colon; see docs/encoders.md."""
    label: str = "label"
    """The column of classes to predict."""
    learning_rate: float = 0.1
    """Largest step size of gradient descent."""
    momentum: float = 0.9
    """Momentum of gradient descent."""
    weight_decay: float = 1e-4
    """This times half the squared norm of all parameters is added to the loss."""
    batch_size: int = 64
    """Examples in one update."""
    cycle_updates: int | None = None
    """Updates in which the step size rises and falls once; by default the whole run. None in code: constant."""

    ranges: ClassVar[Mapping[str, Range]] = {
        "learning_rate": Range(lambda x: 0 <= x <= 10, "a number from 0 to 10")
    }

    def __post_init__(self) -> None:
        """Refuses settings that are out of range."""
        check(self)


class Classifier(Model):
    """The classifier."""

    Config: ClassVar[type] = ClassifierConfig
    classifies = True
    measures: ClassVar[tuple[Measure, ...]] = (
        Measure("accuracy"), Measure("loss", "nats", higher_is_better=False),
    )  # fmt: skip
    run: ClassVar[Mapping[str, Any]] = {
        "updates": 2_000, "eval_every": 500, "checkpoint_every": 500, "log_every": 100,
    }  # fmt: skip
    config: ClassifierConfig

    def build(self) -> None:
        """Encoder, head and their optimiser."""
        config, spec = self.config, self.spec
        classes, space = classes_of(spec, config.label), input_space(spec)
        self.encoder = make_encoder(config.encoder, space)
        self.head = nn.Linear(self.encoder.size, classes)
        if config.batch_size == 1 and normalises_over_batches(self.encoder):
            raise UserError(
                f"batch_size is 1, but the encoder {config.encoder} normalises over a batch; give 2 or more, "
                "or norm=gn"
            )
        self.optimizer = SGD(
            [*self.encoder.parameters(), *self.head.parameters()],
            config.learning_rate, config.momentum, config.weight_decay,
        )  # fmt: skip
        self.updates = 0

    @classmethod
    def preset(cls, task: str, updates: int) -> dict[str, Any]:
        """One cycle over the whole run."""
        return {"cycle_updates": updates}

    @property
    def whole(self) -> nn.Sequential:
        """Encoder and head."""
        return nn.Sequential(self.encoder, self.head)

    def scores(self, obs: Tensor, state: State | None = None) -> Tensor:
        """Unnormalised log-probabilities, [B, C], of observations [B, ...]."""
        logits: Tensor = self.head(self.encoder(obs))
        return logits

    def decide(self, obs: Tensor, noise: Tensor | None = None) -> Tensor:
        """Probabilities of the classes, [B, C]."""
        return self.scores(obs).softmax(dim=-1)

    def learn(self, experience: Examples) -> Mapping[str, Tensor]:
        """One step of gradient descent."""
        if self.config.cycle_updates is not None:
            progress = self.updates / self.config.cycle_updates
            self.optimizer.learning_rate = self.config.learning_rate * one_cycle(progress)
        self.updates += 1
        label = experience[self.config.label]
        with drawing_from(self.generator):
            logits = self.scores(experience["obs"])
        loss = gradient_step(self.optimizer, F.cross_entropy(logits, label))
        return {"loss": loss, "accuracy": right(logits.detach(), label).mean()}

    def measure(self, examples: Examples) -> Mapping[str, Tensor]:
        """Accuracy (1 if right), loss and predicted class of each example, [B] each."""
        label = examples[self.config.label]
        return judged(self.scores(examples["obs"]), label)
