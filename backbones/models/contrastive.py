"""Contrastive predictive coding, and its Wasserstein form: features that identify an observation's partner among many.

For B pairs (x_i, y_i), such as two moments of an episode, with the critic f(x, y) = g(x)^T h(y),

    minimise  1/B sum_i ( -f(x_i, y_i) + log sum_j exp f(x_i, y_j) )

which is a classification of the true y among the B of the batch. Its negative plus log B is a lower bound of the mutual information
I(x; y) in nats, which can never exceed log B: if the pairs have more in common, some of it does not help (`objective=cpc`).

With `objective=wpc` the same is minimised over critics that are 1-Lipschitz, which makes it a form of the Wasserstein dependency measure: the
distance between p(x, y) and p(x) p(y) does not saturate. The constraint is a penalty,

    + weight * mean of max(0, |grad f(z)| - 1)^2,     z = u (x_i, y_i) + (1 - u) (x_i, y_j),   u ~ U(0, 1)

with the gradient with respect to both observations, whose values are scaled to [0, 1] if they are images.

CPC: van den Oord et al., 2018, https://arxiv.org/abs/1807.03748; WPC: Ozair et al., 2019, https://arxiv.org/abs/1903.11780, section 4

Measures: `accuracy`, of the classification among `batch_size` examples; `information`, the bound. If the examples have a column `factors` of
F classes each, a linear classifier for each factor reads the standardised features g(x), without an effect on them, and
`probe` is the mean of their accuracies, `probe_f` those of single factors.

Differences from the papers: no autoregressive network, as in both papers' experiments with single images; the penalty is one-sided, because a
Lipschitz constant is only an upper bound. g and h have the same architecture and separate weights.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from gymnasium import Space, spaces
from torch import Tensor, nn

from rlbench.backbones.encoders import make_encoder
from rlbench.backbones.models._base import input_space, normalises_over_batches, right
from rlbench.backbones.optim import Adam, gradient_step
from rlbench.backbones.ranges import NOT_NEGATIVE, SIZE, TWO, Range, check
from rlbench.errors import UserError
from rlbench.experience import Examples
from rlbench.interface import Model
from rlbench.measures import Measure
from rlbench.seeding import drawing_from

MOST_CLASSES = 1_000
"""Largest number of classes of a factor."""
PROBE_RATE = 1e-2
"""Step size of the linear classifiers, which keep up with features that change."""


@dataclass(frozen=True, kw_only=True)
class ContrastiveConfig:
    """Settings of contrastive learning."""

    objective: Literal["cpc", "wpc"] = "wpc"
    """The loss: cpc without, wpc with the Lipschitz constraint on the critic."""
    encoder: str = "mlp:units=256-256"
    """Encoder of both observations, with options after a colon; see docs/encoders.md."""
    embedding_size: int = 64
    """Dimensions of g(x) and h(y), linear maps of the encoders' features."""
    lipschitz_weight: float = 10.0
    """Weight of the penalty of wpc."""
    learning_rate: float = 3e-4
    """Step size of Adam."""
    batch_size: int = 64
    """Pairs in one update, and candidates of the classification."""

    ranges: ClassVar[Mapping[str, Range]] = {"batch_size": TWO, "embedding_size": SIZE, "lipschitz_weight": NOT_NEGATIVE}  # fmt: skip

    def __post_init__(self) -> None:
        """Refuses settings that are out of range."""
        check(self)


def contrastive_losses(critic: Tensor) -> Tensor:
    """The loss of each pair, [B], from the critic f(x_i, y_j), [B, B]."""
    return F.cross_entropy(
        critic, torch.arange(len(critic), device=critic.device), reduction="none"
    )


def lipschitz_penalty(gradients: tuple[Tensor, ...]) -> Tensor:
    """The mean over rows of max(0, norm - 1)^2, where the norm is over all values of all gradients [B, ...] of a row.

    >>> lipschitz_penalty((torch.tensor([[3.0], [0.0]]), torch.tensor([[4.0], [0.5]]))).item()
    8.0
    """
    squares = torch.stack([x.flatten(1).square().sum(1) for x in gradients]).sum(0)
    # The root has no gradient at 0.
    return (squares.clamp(min=1e-12).sqrt() - 1).clamp(min=0).square().mean()


def factors_of(fields: Mapping[str, Space[Any]]) -> tuple[int, int]:
    """The number of factors and of the classes of each; zeros without a column `factors`.

    Raises:
        UserError: The column holds something else.
    """
    space = fields.get("factors")
    if space is None:
        return 0, 0
    shape = space.shape or ()
    whole = isinstance(space, spaces.Box) and np.issubdtype(space.dtype, np.integer)
    if not whole or len(shape) != 1 or space.low.min() < 0 or space.high.max() >= MOST_CLASSES:  # type: ignore[attr-defined]
        raise UserError(
            f"the column 'factors' is {space}; give [F] classes for each example, whole numbers from 0 to {MOST_CLASSES - 1}"
        )
    return shape[0], int(space.high.max()) + 1  # type: ignore[attr-defined]


class Contrastive(Model):
    """CPC and WPC."""

    Config: ClassVar[type] = ContrastiveConfig
    measures = (Measure("accuracy"), Measure("information", "nats"))
    run: ClassVar[Mapping[str, Any]] = {
        "updates": 1_000, "eval_every": 250, "checkpoint_every": 250, "log_every": 50,
    }  # fmt: skip
    config: ContrastiveConfig

    def build(self) -> None:
        """Networks of both observations, the linear classifiers, and their optimisers."""
        config, space = self.config, input_space(self.spec)
        if self.spec.get("next_obs") != space:
            raise UserError(
                f"the examples have the columns {', '.join(self.spec)}; contrastive needs pairs of observations, `obs` and `next_obs` of "
                "the same space, as in --env digit-grids-9"
            )
        self.encoder, self.other_encoder = (make_encoder(config.encoder, space) for _ in range(2))
        if normalises_over_batches(self.encoder) and config.objective == "wpc":
            raise UserError(
                f"the encoder {config.encoder} normalises over a batch, but wpc needs the gradient of each example alone; give "
                "norm=gn or norm=none"
            )
        self.embedding, self.other_embedding = (
            nn.Linear(self.encoder.size, config.embedding_size) for _ in range(2)
        )
        both = (self.encoder, self.other_encoder, self.embedding, self.other_embedding)
        self.optimizer = Adam([p for x in both for p in x.parameters()], config.learning_rate)
        # Images are bytes, and their Lipschitz constant is that for values up to 1.
        self._scale = 255.0 if space.dtype == np.uint8 else 1.0
        self.factors, self.classes = factors_of(self.spec)
        self.probe: nn.Sequential | None = None
        if self.factors:
            outputs = self.factors * self.classes
            standardised = nn.BatchNorm1d(config.embedding_size, affine=False)
            self.probe = nn.Sequential(standardised, nn.Linear(config.embedding_size, outputs))
            self.probe_optimizer = Adam(self.probe.parameters(), PROBE_RATE)

    def features(self, obs: Tensor) -> Tensor:
        """g(x), [B, D]."""
        features: Tensor = self.embedding(self.encoder(obs).float())
        return features

    def other_features(self, obs: Tensor) -> Tensor:
        """h(y), [B, D]."""
        features: Tensor = self.other_embedding(self.other_encoder(obs).float())
        return features

    def decide(self, obs: Tensor, noise: Tensor | None = None) -> Tensor:
        """Features g(x), [B, D]."""
        return self.features(obs)

    def learn(self, experience: Examples) -> Mapping[str, Tensor]:
        """One step of gradient descent."""
        x, y = experience["obs"], experience["next_obs"]
        with drawing_from(self.generator):  # For encoders with noise.
            one, other = self.features(x), self.other_features(y)
            losses = contrastive_losses(one @ other.T)
            loss, metrics = losses.mean(), {}
            if self.config.objective == "wpc":
                penalty = self._penalty(x, y)
                metrics["penalty"] = penalty.detach()
                loss = loss + self.config.lipschitz_weight * penalty
        gradient_step(self.optimizer, loss)
        if self.probe is not None:
            logits = self._probed(one.detach())
            cross = F.cross_entropy(logits.flatten(0, 1), experience["factors"].long().flatten())
            metrics["probe_loss"] = gradient_step(self.probe_optimizer, cross)
        return {"loss": loss.detach(), "information": math.log(len(x)) - losses.detach().mean(), **metrics}  # fmt: skip

    def _penalty(self, x: Tensor, y: Tensor) -> Tensor:
        """The penalty between the pairs and the same x with other y."""
        drawing: Any = {"generator": self.generator, "device": x.device}
        # A shift of the rows, so that no pair stays as it is.
        shift = int(torch.randint(1, len(x), (), **drawing))
        share = torch.rand((len(x), *[1] * (y.dim() - 1)), **drawing)
        at_x = (x.float() / self._scale).requires_grad_()
        at_y = ((share * y + (1 - share) * y.roll(shift, 0)) / self._scale).requires_grad_()
        values = self.features(at_x * self._scale) * self.other_features(at_y * self._scale)
        gradients = torch.autograd.grad(values.sum(), (at_x, at_y), create_graph=True)
        return lipschitz_penalty(gradients)

    def _probed(self, features: Tensor) -> Tensor:
        """Logits of the factors, [B, F, C]."""
        assert self.probe is not None
        logits: Tensor = self.probe(features).unflatten(1, (self.factors, self.classes))
        return logits

    def measure(self, examples: Examples) -> Mapping[str, Tensor]:
        """Whether each y was recognised among `batch_size` candidates, and the bound, [B] each; accuracies of the linear classifiers."""
        one, other = self.features(examples["obs"]), self.other_features(examples["next_obs"])
        critic, count = one @ other.T, len(one)
        candidates = min(self.config.batch_size, count)
        # The candidates of each row are its own and the following rows.
        columns = torch.arange(count, device=critic.device)[:, None] + torch.arange(candidates, device=critic.device)  # fmt: skip
        critic = critic.gather(1, columns % count)
        own = torch.zeros(count, dtype=torch.long, device=critic.device)
        found = {
            "accuracy": right(critic, own),
            "information": math.log(candidates) - F.cross_entropy(critic, own, reduction="none"),
        }
        if self.probe is not None:
            accuracies = right(self._probed(one), examples["factors"])
            found["probe"] = accuracies.mean(dim=1)
            found |= {f"probe_{k}": x for k, x in enumerate(accuracies.unbind(1))}
        return found
