"""A classifier with a variational information bottleneck (VIB), and its baselines.

Predict the class y of an observation x through a noisy code z, with a penalty on the information in the code:

    minimise  E[ -log p(y | z) ] + beta * E[ KL(q(z | x) | N(0, I)) ],   z ~ q(z | x)

Without the bottleneck the code is one number per unit and the second term is absent; then the usual
baselines remain: weight decay, dropout or nothing. As in the authors' tests, the code keeps its noise when
the model is measured.

Alemi et al., 2017, https://arxiv.org/abs/1612.00410; network, settings and baselines of the supervised task
of Igl et al., 2019, https://arxiv.org/abs/1910.12911, as in the authors' code.
"""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rlbench.backbones.layers.bottleneck import Bottleneck, kl, sample
from rlbench.backbones.layers.noise import randn
from rlbench.backbones.models._base import classes_of, judged, signal_length
from rlbench.backbones.optim import SGD, gradient_step
from rlbench.backbones.ranges import check
from rlbench.experience import Examples
from rlbench.interface import Model, State
from rlbench.measures import Measure

CHANNELS, WINDOW = 10, 11
"""Output channels and kernel size of the convolution over the signal."""


@dataclass(frozen=True, kw_only=True)
class VIBConfig:
    """Settings of the classifier."""

    bottleneck: bool = True
    """Use a noisy code with a penalty of weight beta; without it, the code is a plain layer."""
    beta: float = 1e-3
    """Weight of the code's divergence, in nats, in the loss (paper: beta)."""
    weight_decay: float = 0.0
    """Weight of half the squared norm of all parameters in the loss (1e-3 in the paper)."""
    dropout: float = 0.0
    """Share of the hidden layer's units that dropout sets to 0 in an update (0.2 in the paper)."""
    hidden: int = 1024
    """Units of the hidden layer."""
    code: int = 256
    """Units of the code z."""
    learning_rate: float = 1e-4
    """Step size of stochastic gradient descent."""
    momentum: float = 0.9
    """Momentum of stochastic gradient descent."""
    batch_size: int = 25
    """Signals in one update."""

    def __post_init__(self) -> None:
        """Refuses settings that are out of range."""
        check(self)


class Network(nn.Module):
    """Maps signals to a code, and a code to classes."""

    def __init__(self, length: int, classes: int, config: VIBConfig) -> None:
        """For signals of `length` values."""
        super().__init__()
        self.dropout = config.dropout
        self.convolution = nn.Conv1d(1, CHANNELS, WINDOW)
        self.hidden = nn.Linear(CHANNELS * (length - WINDOW + 1), config.hidden)
        self.code = (Bottleneck if config.bottleneck else nn.Linear)(config.hidden, config.code)
        self.head = nn.Linear(config.code, classes)

    def features(self, signal: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Features [B, hidden] of signals [B, D]; with a generator, dropout is applied."""
        x = self.hidden(F.relu(self.convolution(signal[:, None])).flatten(1))
        if self.dropout and generator is not None:
            kept = torch.rand(x.shape, generator=generator, device=x.device) >= self.dropout
            x = x * kept / (1 - self.dropout)
        return F.relu(x)

    def logits(self, code: Tensor) -> Tensor:
        """Unnormalised log-probabilities, [..., classes], of codes [..., code]."""
        logits: Tensor = self.head(F.relu(code))
        return logits


class VIB(Model):
    """The classifier."""

    Config: ClassVar[type] = VIBConfig
    classifies = True
    measures = (Measure("loss", "nats", higher_is_better=False), Measure("accuracy"))
    run: ClassVar[Mapping[str, Any]] = {
        "updates": 2_000, "eval_every": 500, "checkpoint_every": 500, "log_every": 100,
    }  # fmt: skip
    config: VIBConfig

    def build(self) -> None:
        """The network and its optimiser."""
        config, spec = self.config, self.spec
        length, classes = signal_length(spec, WINDOW), classes_of(spec, "label")
        self.network = Network(length, classes, config)
        self.optimizer = SGD(
            self.network.parameters(), config.learning_rate, config.momentum, config.weight_decay
        )

    @property
    def acting_noise(self) -> tuple[int, ...] | None:
        """The noise of the code."""
        return (self.config.code,) if self.config.bottleneck else None

    def decide(self, obs: Tensor, noise: Tensor | None = None) -> Tensor:
        """Probabilities of the classes, [B, C]; `noise` [B, code] is the noise of the code."""
        return self.logits(obs, noise).softmax(dim=-1)

    def logits(self, obs: Tensor, noise: Tensor | None) -> Tensor:
        """Unnormalised log-probabilities, [B, C]; see `decide`."""
        code = self.network.code(self.network.features(obs))
        if noise is not None:
            mu, sigma = code
            # `sample` checks shapes, which cannot be exported.
            code = mu + sigma * noise
        return self.network.logits(code)

    def scores(self, obs: Tensor, state: State | None = None) -> Tensor:
        """Logits of the classes without noise."""
        shape = self.acting_noise
        return self.logits(obs, None if shape is None else obs.new_zeros((len(obs), *shape)))

    def phase(self) -> Hashable:
        """One: all updates are alike."""
        return "update"

    def learn(self, experience: Examples) -> Mapping[str, Tensor]:
        """One step of gradient descent."""
        code = self.network.code(self.network.features(experience["obs"], self.generator))
        label = experience["label"]
        if not self.config.bottleneck:
            loss = F.cross_entropy(self.network.logits(code), label)
            return {"loss": gradient_step(self.optimizer, loss)}
        mu, sigma = code
        divergence = kl(mu, sigma).mean()
        noisy = sample(mu, sigma, randn((1, *mu.shape), self.generator))[0]
        loss = F.cross_entropy(self.network.logits(noisy), label)
        gradient_step(self.optimizer, loss + self.config.beta * divergence)
        return {"loss": loss.detach(), "kl": divergence.detach(), "sigma": sigma.detach().mean()}

    def measure(self, examples: Examples) -> Mapping[str, Tensor]:
        """Loss, accuracy and predicted class of each example, [B] each; with a bottleneck, from a sampled code."""
        label = examples["label"]
        noise = None
        if self.acting_noise is not None:
            noise = randn((len(examples), *self.acting_noise), self.measure_generator)
        return judged(self.logits(examples["obs"], noise), label)
