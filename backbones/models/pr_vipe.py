"""Pr-VIPE: a probabilistic embedding of poses that does not depend on the view.

Two views of a pose have nearby embeddings, views of poses that differ in space do not, and views that fit several poses have large
standard deviations. With the match probability m of the encoder `pose`, smoothed, the distance of two views is

    D(x_1, x_2) = -log( 0.9 p(m | x_1, x_2) + 0.05 )

and the loss of a batch, in which the positive p of the anchor a is another view of its pose,

    L = mean max(0, D(a, p) - D(a, n) + alpha)  +  w_p mean D(a, p)  +  w_k mean KL( N(mu, sigma^2) || N(0, I) )

where the first mean is over the triplets whose loss is not 0. Negatives n are views of poses that do not match: after alignment in space, the
mean distance of their points is kappa or more, in units of the torso. Of these a triplet has the semi-hard one, the nearest one that is
further away than the positive. Every view is from a new random camera. `_poses.py` has the measures of retrieval across views.

`ambiguity` is the correlation, over queries, of the mean standard deviation of the embedding with the number of views of other poses
whose key points are within kappa in the plane.

Sun et al., 2020, https://arxiv.org/abs/1912.01001

Differences from the paper: poses of robots, and no detected key points; Adam takes the place of Adagrad, without a moving average of the
weights; alignment has no scale, because poses are in units of the torso; the index is compared by the means, not by samples. Baselines
with the same network are objectives: `distance` embeds points on the unit sphere and compares squared distances, without variances,
with the same triplets; `lifting` predicts the points in space relative to the camera, and compares predictions after alignment.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rlbench.backbones.encoders import make_encoder
from rlbench.backbones.encoders.pose import PoseEmbedding, drawn
from rlbench.backbones.layers.noise import randn
from rlbench.backbones.models._embedding import squared_distances
from rlbench.backbones.models._poses import PoseConfig, PoseModel, points_of
from rlbench.backbones.optim import Adam, gradient_step
from rlbench.backbones.ranges import BELOW_ONE, FEW, NOT_NEGATIVE, Range
from rlbench.checks import same_shape
from rlbench.errors import UserError
from rlbench.experience import Examples
from rlbench.poses import nearest_rotation_traces, normalised, pair_errors
from rlbench.seeding import drawing_from

SMOOTHING = 0.1
"""Share of a fair coin in a match probability, as in the authors' code."""
SMALLEST = 1e-6
"""Smallest standard deviation and distance whose logarithm or root is taken."""
ROWS = 100
"""Queries that are compared with the index at once, which bounds the memory."""


@dataclass(frozen=True, kw_only=True)
class PrVIPEConfig(PoseConfig):
    """Settings of Pr-VIPE."""

    encoder: str = "pose"
    """The encoder `pose`, with options after a colon, as in pose:width=256; its `size` is that of the embedding, its `torso` the number of
    points of the torso: 4 of humanoid and ant, 2 of other robots."""
    objective: Literal["probability", "distance", "lifting"] = "probability"
    """Pr-VIPE, or a baseline with the same network; see the module."""
    samples: int = 20
    """Samples of each embedding; a match probability is a mean over all pairs of them (paper: K)."""
    margin: float = math.log(2)
    """How much further away than the positive a negative should be (paper: alpha); at most 4 with distances on the unit sphere."""
    positive_weight: float = 0.005
    """Weight of the distance of positive pairs (paper: w_p)."""
    prior_weight: float = 0.001
    """Weight of the divergence from the unit Gaussian (paper: w_k)."""
    keypoint_dropout: float = 0.0
    """Probability with which a key point outside the torso is hidden in training: it is moved to the middle of the torso."""
    learning_rate: float = 1e-3
    """Step size of Adam."""

    ranges: ClassVar[Mapping[str, Range]] = {
        **PoseConfig.ranges, "samples": FEW, "keypoint_dropout": BELOW_ONE, "positive_weight": NOT_NEGATIVE, "prior_weight": NOT_NEGATIVE,
        "margin": Range(lambda x: 0 < x <= 4, "a number above 0, up to 4"),
    }  # fmt: skip


def match_distances(probability: Tensor) -> Tensor:
    """Distances of views with match probabilities of any shape.

    >>> match_distances(torch.tensor([1.0, 0.5, 0.0])).exp()
    tensor([ 1.0526,  2.0000, 20.0000])
    """
    return -((1 - SMOOTHING) * probability + SMOOTHING / 2).log()


def triplet_losses(distance: Tensor, negative: Tensor, margin: float) -> Tensor:
    """Loss of each anchor with its semi-hard negative, [N]; 0 if it has none.

    >>> distance = torch.tensor([[1.0, 0.5, 1.5], [3.0, 1.0, 1.2], [0.0, 0.0, 1.0]])
    >>> triplet_losses(distance, ~torch.eye(3, dtype=torch.bool), 1.0)
    tensor([0.5000, 0.8000, 0.0000])

    Args:
        distance: From anchors to positives, [N, N]; the anchor's own positive is on the diagonal.
        negative: Whether a positive is of a pose that does not match the anchor's, bool [N, N].
        margin: See the module.
    """
    same_shape(distance, negative)
    positive = distance.diagonal()
    allowed = negative & (distance > positive[:, None])
    nearest = distance.masked_fill(~allowed, torch.inf).amin(1)
    return (positive - nearest + margin).clamp(min=0)


def mean_of_active(losses: Tensor) -> Tensor:
    """The mean of the losses that are not 0; 0 if there is none."""
    return losses.sum() / (losses > 0).sum().clamp(min=1)


def divergences(gaussians: Tensor) -> Tensor:
    """KL( N(mu, sigma^2) || N(0, I) ) of each embedding in nats, [B], from means and standard deviations [B, 2 D].

    >>> divergences(torch.tensor([[1.0, 0.0, 1.0, 1.0]]))
    tensor([0.5000])
    """
    mean, std = gaussians.chunk(2, dim=-1)
    logs = std.clamp(min=SMALLEST).log()
    return (0.5 * (mean.square() + std.square() - 1) - logs).sum(-1)


class PrVIPE(PoseModel):
    """Pr-VIPE."""

    Config: ClassVar[type] = PrVIPEConfig
    column = "embedding"
    run: ClassVar[Mapping[str, Any]] = {
        "updates": 1_000, "eval_every": 250, "checkpoint_every": 250, "log_every": 50,
    }  # fmt: skip
    config: PrVIPEConfig

    def build(self) -> None:
        """Encoder, readout of points if they are predicted, and the optimiser of what the objective uses."""
        config = self.config
        count = points_of(self.spec, 2)
        self.encoder = make_encoder(config.encoder, (count, 2))
        embedding = self.embedding
        self.torso = embedding.torso
        self.readout: nn.Module = nn.Identity()
        learned: list[nn.Module] = [self.encoder]
        if config.objective == "lifting":
            self.readout = nn.Sequential(
                nn.Linear(embedding.width, 3 * count), nn.Unflatten(1, (count, 3))
            )
            learned = [embedding.trunk, self.readout]
        elif config.objective == "distance":
            learned = [embedding.trunk, embedding.mean]
        parameters = [x for module in learned for x in module.parameters()]
        self.optimizer = Adam(parameters, config.learning_rate)

    @property
    def embedding(self) -> PoseEmbedding:
        """The layers of the encoder.

        Raises:
            UserError: It is another encoder.
        """
        layers = self.encoder.layers
        if not isinstance(layers, PoseEmbedding):
            raise UserError(
                f"encoder is {self.config.encoder}; this model needs the encoder pose, with or without options, such as pose:width=256"
            )
        return layers

    def compared(self, view: Tensor) -> Tensor:
        """Means and standard deviations, [B, 2 D], points on the unit sphere, [B, D], or predicted poses, [B, K, 3]."""
        if self.config.objective == "probability":
            gaussians: Tensor = self.encoder(view)
            return gaussians
        features = self.embedding.features(view)
        if self.config.objective == "distance":
            return F.normalize(self.embedding.mean(features), dim=-1)
        predicted: Tensor = self.readout(features)
        return predicted

    def distances(self, query: Tensor, index: Tensor) -> Tensor:
        """Distances of means, of points on the sphere, or of poses after alignment."""
        if self.config.objective == "lifting":
            x, y = (poses - poses.mean(1, keepdim=True) for poses in (query, index))
            return torch.cat([alignment_residuals(rows, y) for rows in x.split(ROWS)])
        size = query.shape[1] // (2 if self.config.objective == "probability" else 1)
        return torch.cdist(query[:, :size], index[:, :size])

    def learn(self, experience: Examples) -> Mapping[str, Tensor]:
        """One step of gradient descent on two views of each pose."""
        config, poses = self.config, experience["obs"]
        views, cameras = zip(*(self.seen(poses, self.generator) for _ in range(2)), strict=True)
        with drawing_from(self.generator):
            found = self.compared(self._hidden(torch.cat(views)))
        in_torsos = normalised(poses, self.torso)
        metrics: dict[str, Tensor] = {}
        if config.objective == "lifting":
            loss = F.mse_loss(found, torch.cat([in_torsos @ camera.mT for camera in cameras]))
        else:
            negative = pair_errors(in_torsos) >= config.kappa
            distance = self._embedding_distances(found)
            losses = triplet_losses(distance, negative, config.margin)
            loss = mean_of_active(losses)
            metrics = {"active": (losses > 0).float().mean(), "positive": distance.diagonal().mean()}  # fmt: skip
        if config.objective == "probability":
            prior = divergences(found).mean()
            loss = loss + config.positive_weight * metrics["positive"] + config.prior_weight * prior
            metrics |= {"prior": prior, "std": found.chunk(2, dim=1)[1].mean()}
        gradient_step(self.optimizer, loss)
        return {"loss": loss.detach(), **{name: x.detach() for name, x in metrics.items()}}

    def _embedding_distances(self, found: Tensor) -> Tensor:
        """Distances between the first and the second views of all poses, [N, N], from results of `compared` for both."""
        if self.config.objective == "distance":
            return squared_distances(*found.chunk(2))
        count, samples = len(found) // 2, self.config.samples
        noise = randn((len(found), samples, found.shape[1] // 2), self.generator)
        first, second = drawn(found, noise).flatten(0, 1).chunk(2)
        apart = squared_distances(first, second).clamp(min=SMALLEST**2).sqrt()
        probability = self.embedding.match(apart).view(count, samples, count, samples)
        return match_distances(probability.mean((1, 3)))

    def _hidden(self, views: Tensor) -> Tensor:
        """Key points of which some are hidden."""
        if not self.config.keypoint_dropout:
            return views
        noise = torch.rand(views.shape[:2], generator=self.generator, device=views.device)
        hidden = noise < self.config.keypoint_dropout
        hidden[:, : self.torso] = False
        return normalised(views, self.torso).masked_fill(hidden[..., None], 0.0)

    def measure(self, examples: Examples) -> Mapping[str, Tensor]:
        """See `PoseModel`; also the embeddings of both views, [B, 2, ...]."""
        found = super().measure(examples)
        embedding = self.compared(found["views"].flatten(0, 1)).unflatten(0, (-1, 2))
        return {**found, "embedding": embedding}

    def summary(self, columns: Mapping[str, Any]) -> Mapping[str, float]:
        """See `PoseModel`; also `ambiguity`, with the objective `probability`."""
        found = dict(super().summary(columns))
        if self.config.objective == "probability":
            query, index = torch.from_numpy(columns["views"]).unbind(1)
            std = torch.from_numpy(columns["embedding"])[:, 0].chunk(2, dim=1)[1].mean(1)
            near = mean_point_distances(query, index) <= self.config.kappa
            found["ambiguity"] = correlation(std, near.fill_diagonal_(False).sum(1).float())
        return found


def alignment_residuals(first: Tensor, second: Tensor) -> Tensor:
    """Root of the sum of squared distances between the points of all pairs of poses after the best rotation, [N, M].

    Args:
        first: Poses with their middle at 0, [N, K, 3].
        second: The same, [M, K, 3].
    """
    traces = nearest_rotation_traces(torch.einsum("nki,mkj->nmij", first, second))
    squares = first.square().sum((1, 2))[:, None] + second.square().sum((1, 2))
    return (squares - 2 * traces).clamp(min=0).sqrt()


def mean_point_distances(first: Tensor, second: Tensor) -> Tensor:
    """Mean distances between the key points of all pairs of views, [N, M] of [N, K, 2] and [M, K, 2]."""
    total = sum(torch.cdist(x, y) for x, y in zip(first.unbind(1), second.unbind(1), strict=True))
    return torch.as_tensor(total) / first.shape[1]


def correlation(x: Tensor, y: Tensor) -> float:
    """Pearson's correlation; 0 if either is constant.

    >>> round(correlation(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([2.0, 4.0, 7.0])), 3)
    0.993
    """
    x, y = x - x.mean(), y - y.mean()
    return float((x @ y) / (x.norm() * y.norm()).clamp(min=1e-12))
