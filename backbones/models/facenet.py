"""FaceNet: an embedding in which squared distances tell whether two observations have the same identity.

    f(x) on the unit sphere,   d(x, y) = |f(x) - f(y)|^2

    minimise  E[ max(0, d(a, p) - d(a, n) + alpha) ]

over triplets of an anchor a, a positive p of the same class and a negative n of another class. All pairs (a, p) of a batch are used;
`mining` chooses a negative from the batch for each:

    semi-hard   the nearest one that is further away than the positive; the furthest of all if none is
    random      any
    hardest     the nearest

Two observations are judged to have the same identity if their distance is below a threshold. `auc` is the area under the ROC curve
over all thresholds: the probability that a pair of the same class is nearer than a pair of different classes, on classes that
training never saw. With the hardest negatives the embedding may collapse to a point, which shows as a `spread` of 0 and a loss of
alpha.

Schroff et al., 2015, https://arxiv.org/abs/1503.03832, sections 3.1 and 3.2

An example is a set of K observations of one class, and a batch of N sets has N x K of them.

Differences from the paper: the sources are the suite's (`glyph-sets`, `level-sets:GAME`). The loss is the mean over all pairs and not
their sum, so that it does not depend on the size of the batch; Adam takes the place of Adagrad. The paper's semi-hard negatives are
all within the margin; here they may be beyond it, where their loss is 0. With `objective=softmax`, the features of a classifier of the
training classes are compared instead, as in earlier work that the paper describes. An encoder without weights, such as `flatten` with
`embedding_size` None, is measured as it is: distances in pixel space.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from rlbench.backbones.encoders import make_encoder
from rlbench.backbones.models._base import classes_of
from rlbench.backbones.models._embedding import (
    drawn_from,
    embedded,
    optimizer_of,
    set_of,
    squared_distances,
)
from rlbench.backbones.optim import gradient_step
from rlbench.backbones.ranges import SIZE, TWO, Range, check
from rlbench.errors import UserError
from rlbench.experience import Examples
from rlbench.interface import Model
from rlbench.measures import Measure
from rlbench.seeding import drawing_from

PAIRS = 30
"""Pairs of the same class, and as many of different classes, for each class in measurements; 6,000 in all with 100 classes, as in
Labeled Faces in the Wild."""
Mining = Literal["semi-hard", "random", "hardest"]


@dataclass(frozen=True, kw_only=True)
class FaceNetConfig:
    """Settings of FaceNet."""

    encoder: str = "conv4"
    """Encoder of the observations, with options after a colon; see docs/encoders.md."""
    embedding_size: int | None = 128
    """Dimensions of the embedding, a linear map of the encoder's features (paper: d); None: the features themselves."""
    objective: Literal["triplet", "softmax"] = "triplet"
    """Triplets, or cross-entropy of a classifier of the training classes over the embedding before it is normalised."""
    margin: float = 0.2
    """How much further away than the positive a negative should be (paper: alpha)."""
    mining: Mining = "semi-hard"
    """How the negatives are chosen."""
    batch_size: int = 20
    """Classes of a batch."""
    pictures: int = 10
    """Observations of each class in a batch, drawn from its set (about 40 in the paper)."""
    learning_rate: float = 1e-3
    """Step size of Adam."""

    ranges: ClassVar[Mapping[str, Range]] = {
        "batch_size": TWO, "pictures": TWO, "embedding_size": SIZE,
        "margin": Range(lambda x: 0 < x <= 4, "a number above 0, up to 4, the largest squared distance"),
    }  # fmt: skip

    def __post_init__(self) -> None:
        """Refuses settings that are out of range."""
        check(self)


def negatives(distance: Tensor, same: Tensor, mining: Mining, noise: Tensor) -> Tensor:
    """The negative of each pair of an anchor and a positive, int64 [N, N].

    Args:
        distance: Squared distances, [N, N]; its rows are anchors.
        same: Whether two observations have the same class, bool [N, N]; no row is all true.
        mining: How the negative is chosen; see the module.
        noise: Uniform draws from [0, 1), [N, N], for `random`.

    >>> distance = torch.tensor([[0.0, 0.5, 0.4, 0.9], [0.5, 0.0, 0.6, 0.7]])
    >>> same = torch.tensor([[True, True, False, False], [True, True, False, False]])
    >>> negatives(distance, same, "semi-hard", distance)[[0, 1], [1, 0]].tolist()
    [3, 2]
    >>> negatives(distance, same, "hardest", distance)[[0, 1], [1, 0]].tolist()
    [2, 2]
    """
    nearest, order = distance.masked_fill(same, torch.inf).sort(dim=1)
    count = (~same).sum(1, keepdim=True)
    if mining == "semi-hard":
        place = torch.searchsorted(nearest, distance.contiguous(), right=True)
    elif mining == "random":
        place = (noise * count).long()
    else:
        place = torch.zeros_like(order)
    return order.gather(1, place.minimum(count - 1))


def triplet_losses(distance: Tensor, negative: Tensor, margin: float) -> Tensor:
    """Loss of each pair of an anchor and a positive, [N, N].

    Args:
        distance: Squared distances, [N, N]; its rows are anchors.
        negative: See `negatives`.
        margin: See the module.
    """
    return (distance - distance.gather(1, negative) + margin).clamp(min=0)


def area_under_curve(same: NDArray[Any], different: NDArray[Any]) -> float:
    """The probability that a distance in `same` is below one in `different`; ties count half.

    >>> area_under_curve(np.array([1.0, 3.0]), np.array([2.0, 3.0]))
    0.625
    """
    ordered = np.sort(different)
    below, not_above = (np.searchsorted(ordered, same, side) for side in ("left", "right"))
    return 1 - float((below + not_above).mean()) / (2 * len(different))


class FaceNet(Model):
    """FaceNet."""

    Config: ClassVar[type] = FaceNetConfig
    measures = (
        Measure("auc"), Measure("loss", higher_is_better=False), Measure("spread"),
    )  # fmt: skip
    run: ClassVar[Mapping[str, Any]] = {
        "updates": 1_000, "eval_every": 250, "checkpoint_every": 250, "log_every": 50,
    }  # fmt: skip
    config: FaceNetConfig

    def build(self) -> None:
        """Encoder, embedding, classifier if there is one, and their optimiser."""
        config = self.config
        self.encoder = make_encoder(config.encoder, set_of(self.spec, config.pictures))
        size = self.encoder.size
        self.projection: nn.Module = nn.Identity()
        if config.embedding_size is not None:
            size = config.embedding_size
            self.projection = nn.Linear(self.encoder.size, size)
        self.head: nn.Module = nn.Identity()
        if config.objective == "softmax":
            self.head = nn.Linear(size, classes_of(self.spec, "label"))
        every = nn.ModuleList([self.encoder, self.projection, self.head])
        self.optimizer = optimizer_of(every, config.learning_rate)

    def features(self, obs: Tensor) -> Tensor:
        """Embeddings before they are normalised, [..., D], of observations or sets of them."""
        features: Tensor = self.projection(self.encoder(obs).float())
        return features

    def decide(self, obs: Tensor, noise: Tensor | None = None) -> Tensor:
        """Embeddings on the unit sphere, [..., D], of observations or sets of them."""
        return F.normalize(self.features(obs), dim=-1)

    def learn(self, experience: Examples) -> Mapping[str, Tensor]:
        """One step of gradient descent."""
        config = self.config
        drawn = drawn_from(experience["obs"], config.pictures, self.generator).flatten(0, 1)
        label = experience["label"].repeat_interleave(config.pictures)
        with drawing_from(self.generator):  # For encoders with noise.
            features = self.features(drawn)
        sphere = F.normalize(features, dim=-1)
        distance = squared_distances(sphere, sphere)
        if config.objective == "softmax":
            loss = F.cross_entropy(self.head(features), label)
            metrics: dict[str, Tensor] = {}
        else:
            loss, metrics = self._triplets(distance, label[:, None] == label)
        if self.optimizer is not None:
            gradient_step(self.optimizer, loss)
        return {"loss": loss.detach(), "spread": distance.detach().std(), **metrics}

    def _triplets(self, distance: Tensor, same: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The mean loss of all pairs of an anchor and a positive, and the share of pairs whose loss is not 0."""
        if bool(same.all(dim=1).any()):
            raise UserError(
                "all sets of a batch have the same class, so there is no negative; give examples of more classes, such as "
                "--env glyph-sets"
            )
        noise = torch.rand(distance.shape, generator=self.generator, device=distance.device)
        chosen = negatives(distance.detach(), same, self.config.mining, noise)
        losses = triplet_losses(distance, chosen, self.config.margin)
        pairs = same & ~torch.eye(len(same), dtype=torch.bool, device=same.device)
        count = pairs.sum()
        return (losses * pairs).sum() / count, {"active": ((losses > 0) & pairs).sum() / count}

    def measure(self, examples: Examples) -> Mapping[str, Tensor]:
        """Squared distances of pairs of the same class and of different classes, [B, PAIRS] each, and the loss of these triplets, [B]."""
        label = examples["label"]
        other = label[:, None] != label
        if not bool(other.any(dim=1).all()):
            raise UserError(
                "a measurement has sets of one class only; give examples of 2 or more classes"
            )
        sets = embedded(self.decide, examples["obs"])
        classes, pictures = sets.shape[:2]

        def draw(*shape: int) -> Tensor:
            return torch.rand(shape, generator=self.measure_generator, device=sets.device)

        anchor = (draw(classes, PAIRS) * pictures).long()
        positive = (anchor + 1 + (draw(classes, PAIRS) * (pictures - 1)).long()) % pictures
        rank = draw(classes, PAIRS, classes).masked_fill(~other[:, None], -1.0)
        negative = rank.argmax(dim=2), (draw(classes, PAIRS) * pictures).long()
        own = torch.arange(classes, device=sets.device)[:, None]
        same = (sets[own, anchor] - sets[own, positive]).square().sum(-1)
        different = (sets[own, anchor] - sets[negative]).square().sum(-1)
        loss = (same - different + self.config.margin).clamp(min=0).mean(1)
        return {"loss": loss, "same": same, "different": different}

    def summary(self, columns: Mapping[str, Any]) -> Mapping[str, float]:
        """`auc`, and the standard deviation of all distances."""
        same, different = (columns[name].ravel() for name in ("same", "different"))
        spread = float(np.concatenate([same, different]).std())
        return {"auc": area_under_curve(same, different), "spread": spread}
