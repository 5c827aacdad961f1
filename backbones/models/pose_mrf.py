"""Pose by a ConvNet and a Markov random field (MRF) that are trained together: key points as the peaks of heat maps.

A part detector gives a heat map p_A for each key point A, in which other limbs that look alike cause false peaks. The spatial model removes
peaks at which the other key points are not where they should be. It multiplies the messages of all key points v,

    p'_A = 1/Z  p_A  prod_{v != A} (p_{A|v} * p_v + b_{v->A})

where * is a convolution and p_{A|v} a kernel with the probability of each displacement of A from v. It is a network with the layers

    log e_A = log p_A + sum_{v != A} log( SoftPlus(e_{A|v}) * p_v + SoftPlus(b_{v->A}) ),    SoftPlus(x) = 1/beta log(1 + exp(beta x))

with beta = 5, and p'_A is the softmax of log e_A over all positions. Kernels cover every displacement between two cells of the maps. They start as
the histogram of the displacements in the training examples.

    minimise  the mean over visible key points of the cross-entropy of p_A or p'_A and the target, 3x3 binomial weights around the true cell

There are three stages: the detector alone, whose updates also count the displacements; the spatial model alone, on heat maps without
gradients; then both together. With `stages`, training can end after the first or the second one.

Measures: `pck`, the share of correct key points: of all visible ones, those at most 1.5 cells away from the middle of their predicted
cell; `error`, the mean distance in pixels; `detector_pck`, the same as `pck` for the maps of the detector; `clean_pck` and `clean_error` on the
column `clean`, if there is one; `pck_0`, ..., of each key point.

Tompson et al., 2014, https://arxiv.org/abs/1406.2984

Differences from the paper: frames of 64 pixels and heat maps of 16x16 cells, with smaller networks over the suite's encoders, whose
convolutions are 3x3 and not 5x5; no local contrast normalisation and no heat map of a torso as input. Heat maps are probabilities, trained by
cross-entropies instead of squared errors, so the ReLU of p_v is not needed. The factor of a key point on itself is its own heat map, and
the biases b are maps, as messages from near the border lack mass. Adam instead of momentum.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from rlbench.backbones.encoders.keypoints import ODD, make_network
from rlbench.backbones.layers.pose import PoseNetwork, channels_first, probabilities
from rlbench.backbones.models._base import normalises_over_batches
from rlbench.backbones.models._detection import refuse_unread
from rlbench.backbones.models._key_points import (
    cells,
    cross_entropies,
    displacements,
    image_shape,
    peaks,
    places,
    points_of,
    targets,
)
from rlbench.backbones.optim import Adam, gradient_step
from rlbench.backbones.ranges import PERIOD, RATE, SIZE, Range, check
from rlbench.errors import UserError
from rlbench.experience import Examples
from rlbench.interface import Model
from rlbench.measures import Measure
from rlbench.seeding import drawing_from

Stages = Literal["detector", "staged", "joint"]
Stage = Literal["detector", "spatial", "joint"]
CLOSE = 1.5
"""Largest distance of a correct key point, in cells."""


@dataclass(frozen=True, kw_only=True)
class PoseMRFConfig:
    """Settings of the pose model."""

    encoder: str = "conv4:layers=2,width=32,norm=gn"
    """Encoder of each branch, with options after a colon; the stride of its coarsest map (see docs/encoders.md) is the side of a cell."""
    branches: int = 2
    """Resolutions of the image that the detector reads: 1, the image; 2, also at half its size; 3, also at a quarter."""
    width: int = 32
    """Channels of the detector's head."""
    kernel: int = 3
    """Odd side of the head's first convolutions, in cells; with 9, as in the paper, they would cover more than half of a small frame."""
    stages: Stages = "joint"
    """Stages of training: detector, the first one only; staged, the spatial model on the finished detector; joint, both together at the end."""
    detector_updates: int = 400
    """Updates of the detector alone."""
    spatial_updates: int = 100
    """Updates of the spatial model alone, if `stages` is joint; after these, both are trained."""
    learning_rate: float = 1e-3
    """Adam step size of the detector."""
    spatial_learning_rate: float = 1e-2
    """Adam step size of the spatial model."""
    batch_size: int = 16
    """Examples in one update."""

    ranges: ClassVar[Mapping[str, Range]] = {
        "branches": Range(lambda x: 1 <= x <= 3, "1, 2 or 3"),
        "kernel": ODD,
        **dict.fromkeys(("detector_updates", "spatial_updates"), PERIOD),
        "width": SIZE, "spatial_learning_rate": RATE,
    }  # fmt: skip

    def __post_init__(self) -> None:
        """Refuses settings that are out of range."""
        check(self)


class PoseMRF(Model):
    """Part detector and spatial model."""

    Config: ClassVar[type] = PoseMRFConfig
    measures = (
        Measure("pck"), Measure("error", "pixels", higher_is_better=False), Measure("loss", "nats", higher_is_better=False),
        Measure("detector_pck"),
    )  # fmt: skip
    run: ClassVar[Mapping[str, Any]] = {
        "updates": 1_000, "data_size": 2_000, "eval_every": 250, "checkpoint_every": 250, "log_every": 50,
    }  # fmt: skip
    config: PoseMRFConfig

    def build(self) -> None:
        """The network, an optimiser for each of its parts, and the counts of displacements."""
        config, self.shape, points = self.config, image_shape(self.spec), points_of(self.spec)
        self.network: PoseNetwork = make_network(
            config.encoder, self.shape, config.branches, config.width, config.kernel, points
        )
        detector = self.network.detector
        detector.eval()  # The trial pass must not change the running statistics.
        refuse_unread(
            detector.maps(torch.zeros(1, *self.shape, device=self.device)), detector.encoders,
            f"only the coarsest maps are read, but the encoder {config.encoder}", "give one whose last map is the coarsest, such as conv4:layers=2",
        )  # fmt: skip
        detector.train()
        self.size = detector.size
        if config.batch_size == 1 and normalises_over_batches(self.network):
            raise UserError(
                f"batch_size is 1, but the encoder {config.encoder} normalises over a batch; give 2 or more, or norm=gn"
            )
        self.cell = (self.shape[1] / self.size[0], self.shape[2] / self.size[1])
        parts = self.network.detector, self.network.spatial
        rates = config.learning_rate, config.spatial_learning_rate
        self.detector_optimizer, self.spatial_optimizer = (
            Adam(part.parameters(), rate) for part, rate in zip(parts, rates, strict=True)
        )
        self.counts = torch.zeros_like(self.network.spatial.kernels)
        self.updates = 0

    @property
    def stage(self) -> Stage:
        """The part that the next update trains: the detector, the spatial model, or both."""
        config = self.config
        if config.stages == "detector" or self.updates < config.detector_updates:
            return "detector"
        alone = self.updates < config.detector_updates + config.spatial_updates
        return "spatial" if alone or config.stages == "staged" else "joint"

    @property
    def spatial(self) -> bool:
        """Whether the spatial model has begun to learn."""
        return self.config.stages != "detector" and self.updates > self.config.detector_updates

    def logits(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """Unnormalised log-probabilities of places by the detector and by the whole network, [B, K, h, w] each."""
        own: Tensor = self.network.detector(channels_first(obs, self.shape[0]))
        return own, self.network.spatial(probabilities(own)) if self.spatial else own

    def decide(self, obs: Tensor, noise: Tensor | None = None) -> Tensor:
        """Heat maps: probabilities of the places of all key points, [B, K, h, w]."""
        return probabilities(self.logits(obs)[1])

    def learn(self, experience: Examples) -> Mapping[str, Tensor]:
        """One step of gradient descent of the parts that the stage trains."""
        position, seen = places(experience["keypoints"], self.cell)
        cell = cells(position, self.size)
        stage, first = self.stage, self.updates == self.config.detector_updates
        if stage == "detector" or first:
            self.counts += displacements(cell, seen, self.size)
        if first and stage != "detector":
            self.network.spatial.start(self.counts)
        with drawing_from(self.generator), torch.set_grad_enabled(stage != "spatial"):
            logits = self.network.detector(channels_first(experience["obs"], self.shape[0]))
        if stage != "detector":
            logits = self.network.spatial(probabilities(logits))
        each = cross_entropies(logits, targets(cell, self.size), seen)
        loss = each.sum() / seen.sum().clamp(min=1)
        if stage == "joint":
            both = self.detector_optimizer, self.spatial_optimizer
            gradients = torch.autograd.grad(loss, [x for part in both for x in part.parameters])
            count = len(both[0].parameters)
            both[0].step(gradients[:count])
            both[1].step(gradients[count:])
        else:
            alone = self.detector_optimizer if stage == "detector" else self.spatial_optimizer
            gradient_step(alone, loss)
        self.updates += 1
        close = self._distances(logits, position) <= CLOSE
        return {
            "loss": loss.detach(),
            "pck": (close & seen).sum() / seen.sum().clamp(min=1),
        }

    @staticmethod
    def _distances(logits: Tensor, position: Tensor) -> Tensor:
        """Distances from peaks [B, K, h, w] to true positions [B, K, 2], in cells, [B, K]."""
        found: Tensor = (peaks(logits.detach()) - position).norm(dim=-1)
        return found

    def measure(self, examples: Examples) -> Mapping[str, Tensor]:
        """Loss [B]; for each key point whether it is seen, and its distances, in cells and in pixels, [B, K] each; predicted columns and rows, [B, K, 2]."""
        position, seen = places(examples["keypoints"], self.cell)
        target = targets(cells(position, self.size), self.size)
        own, logits = self.logits(examples["obs"])
        each = cross_entropies(logits, target, seen)
        found = {
            "loss": each.sum(1) / seen.sum(1).clamp(min=1),
            "seen": seen,
            "detector_cells": self._distances(own, position),
            **self._judged("", logits, position),
        }
        if "clean" in examples.columns:
            found |= self._judged("clean_", self.logits(examples["clean"])[1], position)
        return found

    def _judged(self, prefix: str, logits: Tensor, position: Tensor) -> dict[str, Tensor]:
        """Distances of the peaks, and the peaks."""
        cell = position.new_tensor(self.cell)
        found = peaks(logits)
        return {
            f"{prefix}cells": self._distances(logits, position),
            f"{prefix}pixels": ((found - position) * cell).norm(dim=-1),
            f"{prefix}points": (found * cell).flip(-1),
        }

    def summary(self, columns: Mapping[str, Any]) -> Mapping[str, float]:
        """Shares of correct key points and mean distances; see the module."""
        seen = columns["seen"].astype(bool)

        def share(name: str) -> Any:
            return (columns[name] <= CLOSE)[seen].mean() if seen.any() else 0.0

        found = {"pck": share("cells"), "detector_pck": share("detector_cells")}
        for prefix in ("", "clean_"):
            if f"{prefix}cells" in columns:
                pixels = columns[f"{prefix}pixels"][seen]
                found |= {
                    f"{prefix}pck": share(f"{prefix}cells"),
                    f"{prefix}error": pixels.mean() if seen.any() else 0.0,
                }
        each = ((columns["cells"] <= CLOSE) & seen).sum(0) / np.maximum(seen.sum(0), 1)
        found |= {f"pck_{k}": each[k] for k in np.flatnonzero(seen.any(0))}
        return {name: float(x) for name, x in found.items()}
