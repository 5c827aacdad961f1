"""A learned supermask: a network with random weights learns which of them to leave out, and none is trained.

    minimise over m  E[ loss of the network with the weights  W = b . w,   b ~ Bernoulli(sigmoid(m)) ]

where w are initial weights that never change and m a score for each of them. The gradient passes the draws as if b were sigmoid(m). With
`constants`, w are the standard deviation of the layer's initial weights with their signs. With `rescale`, each layer is multiplied by the number of its weights divided by the
number of those that are drawn. Biases are left out.

Zhou et al., 2019, https://arxiv.org/abs/1905.01067, section 5.1

Measures: `accuracy` and `loss` of the mean probabilities with `samples` masks. The metric `kept` is the share of weights that are drawn.

Differences from the paper: small networks.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from rlbench.backbones.encoders import make_encoder
from rlbench.backbones.models._base import (
    classes_of,
    input_space,
    normalises_over_batches,
    right,
)
from rlbench.backbones.optim import SGD, gradient_step
from rlbench.backbones.ranges import SIZE, Range, check
from rlbench.errors import UserError
from rlbench.experience import Examples
from rlbench.interface import Model, State
from rlbench.measures import Measure
from rlbench.seeding import drawing_from


@dataclass(frozen=True, kw_only=True)
class SupermaskConfig:
    """Settings of a learned supermask."""

    encoder: str = "mlp:units=300-100"
    """Encoder of the observations, with options after a colon; its weights do not learn."""
    label: str = "label"
    """The column of classes to predict."""
    constants: bool = True
    """Whether all weights of a layer have the same magnitude."""
    rescale: bool = True
    """Whether the weights that are drawn are multiplied so that their sum does not depend on their number."""
    samples: int = 10
    """Masks drawn in an evaluation."""
    learning_rate: float = 100.0
    """Step size of gradient descent on the scores."""
    momentum: float = 0.9
    """Momentum of gradient descent."""
    batch_size: int = 250
    """Examples in one update."""

    ranges: ClassVar[Mapping[str, Range]] = {
        "samples": SIZE, "learning_rate": Range(lambda x: 0 <= x <= 1e6, "a number from 0 to 10^6"),
    }  # fmt: skip

    def __post_init__(self) -> None:
        """Refuses settings that are out of range."""
        check(self)


def drawn_weights(weight: Tensor, scores: Tensor, noise: Tensor, *, rescale: bool) -> Tensor:
    """Weights with those that are not drawn at 0; the gradient for the scores is that of their probabilities.

    Args:
        weight: Weights that do not learn.
        scores: m, of the same shape.
        noise: Uniform draws from [0, 1), of the same shape; a weight is drawn if its probability is larger.
        rescale: See the module.

    >>> drawn_weights(torch.tensor([1.0, 2.0]), torch.zeros(2), torch.tensor([0.2, 0.7]), rescale=True)
    tensor([2., 0.])
    """
    probability = scores.sigmoid()
    drawn = (noise < probability).to(weight.dtype)
    through = drawn + probability - probability.detach()
    if rescale:
        through = through * (drawn.numel() / drawn.sum().clamp(min=1))
    return weight * through


class Supermask(Model):
    """A learned supermask."""

    Config: ClassVar[type] = SupermaskConfig
    classifies = True
    measures = (Measure("accuracy"), Measure("loss", "nats", higher_is_better=False))
    run: ClassVar[Mapping[str, Any]] = {
        "updates": 1_000, "eval_every": 250, "checkpoint_every": 250, "log_every": 50,
    }  # fmt: skip
    config: SupermaskConfig

    def build(self) -> None:
        """The network, the scores and their optimiser."""
        config = self.config
        encoder = make_encoder(config.encoder, input_space(self.spec))
        if normalises_over_batches(encoder):
            raise UserError(
                f"the encoder {config.encoder} normalises over a batch, whose statistics change with the mask; give norm=none or norm=gn"
            )
        head = nn.Linear(encoder.size, classes_of(self.spec, config.label))
        self.network = nn.Sequential(encoder, head).requires_grad_(False)
        with torch.no_grad():
            for name, x in self.network.named_parameters():
                if name.endswith("bias"):
                    x.zero_()
                elif config.constants and x.dim() > 1:
                    x.copy_(x.std() * x.sign())
        masked = {n: x for n, x in self.network.named_parameters() if x.dim() > 1}
        self.masked = tuple(masked)
        self.mask_scores = nn.ParameterList([torch.zeros_like(x) for x in masked.values()])
        self.optimizer = SGD(self.mask_scores.parameters(), config.learning_rate, config.momentum)

    def logits(self, obs: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Logits [B, C] with one mask, and the share of the weights that are drawn."""
        network = dict(self.network.named_parameters())
        weights, drawn, count = {}, [], 0
        for name, scores in zip(self.masked, self.mask_scores, strict=True):
            noise = torch.rand(scores.shape, generator=generator, device=scores.device)
            weights[name] = drawn_weights(network[name], scores, noise, rescale=self.config.rescale)
            drawn.append((noise < scores.sigmoid()).sum())
            count += scores.numel()
        logits: Tensor = functional_call(self.network, weights, (obs,))
        return logits, torch.stack(drawn).sum() / count

    def decide(self, obs: Tensor, noise: Tensor | None = None) -> Tensor:
        """Probabilities of the classes with the weights whose probability is above one half, [B, C]."""
        return self.scores(obs).softmax(dim=-1)

    def scores(self, obs: Tensor, state: State | None = None) -> Tensor:
        """Logits of the classes with these weights."""
        network = dict(self.network.named_parameters())
        weights = {
            name: drawn_weights(
                network[name], x, torch.full_like(x, 0.5), rescale=self.config.rescale
            )
            for name, x in zip(self.masked, self.mask_scores, strict=True)
        }
        logits: Tensor = functional_call(self.network, weights, (obs,))
        return logits

    def learn(self, experience: Examples) -> Mapping[str, Tensor]:
        """One step of gradient descent on the scores."""
        label = experience[self.config.label]
        with drawing_from(self.generator):  # For encoders with noise.
            logits, kept = self.logits(experience["obs"], self.generator)
        loss = gradient_step(self.optimizer, F.cross_entropy(logits, label))
        return {"loss": loss, "accuracy": right(logits.detach(), label).mean(), "kept": kept}

    def measure(self, examples: Examples) -> Mapping[str, Tensor]:
        """Accuracy (1 if right) and loss of the mean probabilities with several masks, [B] each."""
        obs, label = examples["obs"], examples[self.config.label]
        every = [
            self.logits(obs, self.measure_generator)[0].softmax(dim=-1)
            for _ in range(self.config.samples)
        ]
        mean = torch.stack(every).mean(dim=0)
        return {
            "accuracy": right(mean, label),
            "loss": F.nll_loss(mean.clamp(min=1e-30).log(), label, reduction="none"),
            "prediction": mean.argmax(dim=-1),
        }
