"""Prototypical networks: a class is the mean of the embeddings of a few examples of it.

For an episode with N classes, each with S support examples and some queries,

    c_k = 1/S sum over the support x_i of class k of f(x_i)
    p(y = k | x) = softmax_k( -d(f(x), c_k) )

    minimise  E[ -log p(y | x) ]    over the queries

where f is any encoder of the suite and d the squared Euclidean distance, with which p is a linear classifier of f(x): its weights are
2 c_k and its biases -|c_k|^2. New classes need no learning, only their means.

Snell et al., 2017, https://arxiv.org/abs/1703.05175, algorithm 1 and section 2.4

An example is a set of K observations of one class. A batch of N sets is an episode, whose support and queries are drawn from each
set; its sets must be of different classes. In a measurement, `test_episodes` episodes are drawn for every class, with `test_way - 1`
other classes of the same split; `accuracy_5` is the accuracy on the queries of this class with 5 support examples.

Differences from the paper: the sources are the suite's (`glyph-sets`). Batch normalisation uses its running statistics in
measurements, so that a prediction depends on its support and its query alone; with the statistics of the episode, which other
implementations use, it would also depend on the other queries. `scale` multiplies the negative distances, because the softmax of
cosines, which are at most 1, is otherwise never confident; with 1 both distances are as in the paper. An encoder without weights, such as
`flatten`, is measured as it is: prototypes in pixel space.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from rlbench.backbones.encoders import make_encoder
from rlbench.backbones.models._base import right
from rlbench.backbones.models._embedding import (
    drawn_from,
    embedded,
    optimizer_of,
    set_of,
    squared_distances,
)
from rlbench.backbones.optim import gradient_step
from rlbench.backbones.ranges import POSITIVE, SIZE, TWO, Range, check
from rlbench.errors import UserError
from rlbench.experience import Examples
from rlbench.interface import Model
from rlbench.measures import Measure
from rlbench.seeding import drawing_from

SHOTS = (1, 5)
"""Support examples of each class in measurements, as in the paper's table 1."""
Distance = Literal["euclidean", "cosine"]


@dataclass(frozen=True, kw_only=True)
class PrototypicalConfig:
    """Settings of prototypical networks."""

    encoder: str = "conv4"
    """Encoder of the observations (paper: f), with options after a colon; see docs/encoders.md."""
    distance: Distance = "euclidean"
    """Squared Euclidean distance, or minus the cosine (paper: d)."""
    scale: float = 1.0
    """Factor of the negative distances."""
    batch_size: int = 20
    """Classes of a training episode (paper: N_C, 60 on Omniglot)."""
    shot: int = 5
    """Support examples of each class in training (paper: N_S)."""
    query: int = 5
    """Queries of each class in training (paper: N_Q)."""
    test_way: int = 5
    """Classes of an episode in measurements."""
    test_query: int = 15
    """Queries of each class in measurements; fewer if the sets are too small."""
    test_episodes: int = 10
    """Episodes for each class in measurements."""
    learning_rate: float = 1e-3
    """Step size of Adam."""
    halving_updates: int | None = 2_000
    """The step size is halved each time this number of updates has passed; None: it is constant."""

    ranges: ClassVar[Mapping[str, Range]] = {
        "batch_size": TWO,
        "test_way": TWO,
        "scale": POSITIVE,
    } | dict.fromkeys(("shot", "query", "test_query", "test_episodes", "halving_updates"), SIZE)

    def __post_init__(self) -> None:
        """Refuses settings that are out of range."""
        check(self)


def prototypes(support: Tensor) -> Tensor:
    """Mean embedding of each class, [N, D], of support examples [N, S, D]."""
    return support.mean(dim=1)


def logits(query: Tensor, centres: Tensor, distance: Distance, scale: float) -> Tensor:
    """Unnormalised log-probabilities of the classes, [M, N].

    Args:
        query: Embeddings, [M, D].
        centres: Prototypes, [N, D].
        distance: See the module.
        scale: Factor of the negative distances.

    >>> logits(torch.tensor([[1.0, 0.0]]), torch.tensor([[3.0, 0.0], [0.0, 2.0]]), "euclidean", 2.0)
    tensor([[ -8., -10.]])
    >>> logits(torch.tensor([[1.0, 0.0]]), torch.tensor([[3.0, 0.0], [0.0, 2.0]]), "cosine", 2.0)
    tensor([[2., 0.]])
    """
    if distance == "euclidean":
        return -scale * squared_distances(query, centres)
    return scale * F.normalize(query, dim=1) @ F.normalize(centres, dim=1).T


class Prototypical(Model):
    """Prototypical networks."""

    Config: ClassVar[type] = PrototypicalConfig
    measures = (
        Measure("accuracy_5"), Measure("accuracy_1"), Measure("loss", "nats", higher_is_better=False),
    )  # fmt: skip
    run: ClassVar[Mapping[str, Any]] = {
        "updates": 1_000, "eval_every": 250, "checkpoint_every": 250, "log_every": 50,
    }  # fmt: skip
    config: PrototypicalConfig

    def build(self) -> None:
        """Encoder and its optimiser."""
        config = self.config
        space = set_of(self.spec, max(config.shot + config.query, max(SHOTS) + 1))
        self.encoder = make_encoder(config.encoder, space)
        self.optimizer = optimizer_of(self.encoder, config.learning_rate)
        self.updates = 0

    def decide(self, obs: Tensor, noise: Tensor | None = None) -> Tensor:
        """Embeddings, [..., D], of observations or sets of them."""
        embedding: Tensor = self.encoder(obs).float()
        return embedding

    def learn(self, experience: Examples) -> Mapping[str, Tensor]:
        """One step of gradient descent on an episode."""
        config, label = self.config, experience["label"]
        if len(label.unique()) < len(label):
            raise UserError(
                "two sets of an episode have the same class; give examples with one set for each class, such as --env "
                "glyph-sets"
            )
        drawn = drawn_from(experience["obs"], config.shot + config.query, self.generator)
        with drawing_from(self.generator):  # For encoders with noise.
            embedding = self.decide(drawn)
        support, query = embedding.split([config.shot, config.query], dim=1)
        found = logits(query.flatten(0, 1), prototypes(support), config.distance, config.scale)
        target = torch.arange(len(label), device=label.device).repeat_interleave(config.query)
        loss = F.cross_entropy(found, target)
        if self.optimizer is not None:
            if config.halving_updates is not None:
                halvings = self.updates // config.halving_updates
                self.optimizer.learning_rate.fill_(config.learning_rate * 0.5**halvings)
            gradient_step(self.optimizer, loss)
        self.updates += 1
        return {"loss": loss.detach(), "accuracy": right(found.detach(), target).mean()}

    def measure(self, examples: Examples) -> Mapping[str, Tensor]:
        """Accuracy by number of support examples, and loss with the largest number, on the queries of each class, [B] each."""
        config = self.config
        if len(examples) < config.test_way:
            raise UserError(
                f"test_way is {config.test_way}, but only {len(examples)} classes are measured; give fewer, or more examples"
            )
        sets = embedded(self.decide, examples["obs"])
        found = [self._episodes(sets) for _ in range(config.test_episodes)]
        return {name: torch.stack([x[name] for x in found]).mean(0) for name in found[0]}

    def _episodes(self, sets: Tensor) -> dict[str, Tensor]:
        """Measures of an episode for each class, [B] each, of embeddings [B, K, D]."""
        config, drawing = self.config, self.measure_generator
        classes, pictures = sets.shape[:2]
        drawn = drawn_from(sets, pictures, drawing)
        query = drawn[:, max(SHOTS) :][:, : config.test_query]
        # The class itself comes first, then others at random.
        noise = torch.rand((classes, classes), generator=drawing, device=sets.device)
        taking_part = noise.fill_diagonal_(-1.0).argsort(dim=1)[:, : config.test_way]
        measured = {}
        for shot in SHOTS:
            every = logits(
                query.flatten(0, 1), prototypes(drawn[:, :shot]), config.distance, config.scale
            )
            own = every.unflatten(0, query.shape[:2]).gather(
                2, taking_part[:, None].expand(-1, query.shape[1], -1)
            )
            target = torch.zeros_like(own[..., 0], dtype=torch.int64)
            measured[f"accuracy_{shot}"] = right(own, target).mean(1)
            loss = F.cross_entropy(own.transpose(1, 2), target, reduction="none").mean(1)
        return measured | {"loss": loss}
