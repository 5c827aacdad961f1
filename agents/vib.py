"""A classifier with a variational information bottleneck (VIB), and its rivals.

Learn the right forecasts of the data through a noisy code z of the observation that pays for what it
tells:

    minimise  E[ -sum_c y_c log p(c | z) ] + beta * E[ KL(q(z | x) | N(0, I)) ],   z ~ q(z | x)

Here x is an observation and y, the action of the data, the right probabilities of the classes. Without
the bottleneck the code is one number per unit and the second term is absent; then the usual rivals
remain: weight decay, dropout or nothing.

Alemi et al., 2017, https://arxiv.org/abs/1612.00410; network, settings and rivals of the supervised task
of Igl et al., 2019, https://arxiv.org/abs/1910.12911, as in the authors' code.

Differences from the paper: batches are drawn with replacement, not epoch by epoch.
"""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from gymnasium import Space, spaces
from torch import Tensor, nn

from rlbench.backbones.layers.bottleneck import Bottleneck, kl, sample
from rlbench.backbones.layers.noise import randn
from rlbench.backbones.optim import SGD, gradient_step
from rlbench.backbones.ranges import check
from rlbench.backbones.spaces import vector_size
from rlbench.checks import same_shape
from rlbench.errors import UserError
from rlbench.interface import Action, Agent, Spec, State, Transitions
from rlbench.seeding import derive, initialising

CHANNELS, WINDOW = 10, 11
"""Of the convolution over the signal."""


@dataclass(frozen=True, kw_only=True)
class VIBConfig:
    """Settings of the classifier."""

    bottleneck: bool = True
    """Code with noise, for which beta is paid; without it, a plain layer."""
    beta: float = 1e-3
    """The paper's beta: weight of the divergence of the code, in nats, beside the loss."""
    weight_decay: float = 0.0
    """Weight of half the squared norm of all parameters in the loss (1e-3 in the paper)."""
    dropout: float = 0.0
    """Share of the units of the hidden layer that an update leaves out (0.2 in the paper)."""
    hidden: int = 1024
    """Units of the hidden layer."""
    code: int = 256
    """Units of the code z."""
    learning_rate: float = 1e-4
    """Step size of stochastic gradient descent."""
    momentum: float = 0.9
    """Of stochastic gradient descent."""
    batch_size: int = 25
    """Signals in one update."""

    def __post_init__(self) -> None:
        """Refuses settings that are out of range."""
        check(self)


class Classifier(nn.Module):
    """Signals to a code, and a code to classes."""

    def __init__(self, length: int, classes: int, config: VIBConfig) -> None:
        """For signals of `length` values."""
        super().__init__()
        self.dropout = config.dropout
        self.convolution = nn.Conv1d(1, CHANNELS, WINDOW)
        self.hidden = nn.Linear(CHANNELS * (length - WINDOW + 1), config.hidden)
        self.code = (Bottleneck if config.bottleneck else nn.Linear)(config.hidden, config.code)
        self.head = nn.Linear(config.code, classes)

    def features(self, signal: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Features [B, hidden] of signals [B, D], some left out where there is a generator."""
        x = self.hidden(F.relu(self.convolution(signal[:, None])).flatten(1))
        if self.dropout and generator is not None:
            kept = torch.rand(x.shape, generator=generator, device=x.device) >= self.dropout
            x = x * kept / (1 - self.dropout)
        return F.relu(x)

    def logits(self, code: Tensor) -> Tensor:
        """Unnormalised log-probabilities, [..., classes], of codes [..., code]."""
        logits: Tensor = self.head(F.relu(code))
        return logits


def cross_entropy(logits: Tensor, forecast: Tensor) -> Tensor:
    """Mean over the batch in nats; `logits` and right probabilities `forecast` are [B, classes]."""
    same_shape(logits, forecast)
    return -(forecast * logits.log_softmax(dim=-1)).sum(dim=-1).mean()


class VIB(Agent):
    """The classifier."""

    Config: ClassVar[type] = VIBConfig
    consumes = Transitions
    config: VIBConfig

    def __init__(
        self,
        config: VIBConfig,
        spec: Spec,
        *,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        """See `Agent`."""
        super().__init__(config, spec, seed=seed, device=device)
        length, classes = vector_size(spec.observation_space), _classes(spec.action_space)
        if length < WINDOW:
            raise UserError(
                f"observations have {length} values; this agent needs a signal of {WINDOW} or more"
            )
        with initialising(derive(seed, "weights")):
            self.network = Classifier(length, classes, config)
        self.network.to(self.device)
        self.optimizer = SGD(
            self.network.parameters(), config.learning_rate, config.momentum, config.weight_decay
        )

    @torch.no_grad()
    def act(self, obs: Tensor, *, explore: bool = False, state: State | None = None) -> Action:
        """Probabilities of the classes, [B, classes]; with a bottleneck those of a sampled code."""
        if self.acting_noise is None:
            return Action(self.decide(obs))
        return Action(self.decide(obs, randn((len(obs), *self.acting_noise), self.act_generator)))

    @property
    def acting_noise(self) -> tuple[int, ...] | None:
        """As in the authors' tests, the code keeps its noise."""
        return (self.config.code,) if self.config.bottleneck else None

    def decide(self, obs: Tensor, noise: Tensor | None = None) -> Tensor:
        """Probabilities of the classes, [B, classes]; `noise` [B, code] is that of the code."""
        code = self.network.code(self.network.features(obs))
        if noise is not None:
            mu, sigma = code
            # `sample` checks shapes, which cannot be exported.
            code = mu + sigma * noise
        return self.network.logits(code).softmax(dim=-1)

    def phase(self) -> Hashable:
        """One: all updates are alike."""
        return "update"

    def learn(self, experience: Transitions) -> Mapping[str, Tensor]:
        """One step towards the right forecasts."""
        code = self.network.code(self.network.features(experience.obs, self.generator))
        if not self.config.bottleneck:
            loss = cross_entropy(self.network.logits(code), experience.action)
            return {"loss": gradient_step(self.optimizer, loss)}
        mu, sigma = code
        divergence = kl(mu, sigma).mean()
        noisy = sample(mu, sigma, randn((1, *mu.shape), self.generator))[0]
        loss = cross_entropy(self.network.logits(noisy), experience.action)
        gradient_step(self.optimizer, loss + self.config.beta * divergence)
        return {"loss": loss.detach(), "kl": divergence.detach(), "sigma": sigma.detach().mean()}


def _classes(space: Space[Any]) -> int:
    """Number of classes; a UserError for an action space that is no forecast."""
    if (
        not isinstance(space, spaces.Box)
        or len(space.shape) != 1
        or (space.low != 0).any()
        or (space.high != 1).any()
    ):
        raise UserError(
            f"the action space is {space}; this agent needs a Box from 0 to 1, a probability for "
            "each class, as in the task signals-2"
        )
    return int(space.shape[0])
