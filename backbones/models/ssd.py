"""SSD: boxes and classes of all objects of an image at once, from maps of several strides.

A 3x3 convolution over each map predicts, for each of several default boxes around each of its cells, the scores of the classes
and of "no object", and a box relative to the default box. Fine maps find small objects, coarse maps large ones. With the scales

    s_k = s_min + (s_max - s_min) (k - 1) / (m - 1)

the default boxes of scale k have the widths and heights

    s_k sqrt(r) x s_k / sqrt(r)    for r = 1, 2, 1/2,     and     sqrt(s_k s_{k+1}) x sqrt(s_k s_{k+1})

as shares of the image's side. Scale 1 belongs to the finest map and scale m to the coarsest; with fewer maps than scales, a map
has several of them.

Matching: a default box predicts the object with which it overlaps most if that overlap (intersection over union) is 0.5 or more, and each
object is also matched to the default box that overlaps most with it; all other default boxes are negatives. With N matched default boxes,

    minimise  1/N (L_conf + alpha L_loc)

where L_loc is the smooth L1 loss between predicted and true boxes relative to the default boxes, with centres and sides divided by 0.1 and
0.2. L_conf is the cross-entropy of the matched default boxes and of the hard negatives: because almost all default boxes are negatives, only
those with the largest loss count, three for each match in the same image. Images without objects then add nothing.

Detections: of all pairs of a default box and a class, those with the highest scores after non-maximum suppression, which keeps only the
better of two boxes of the same class that overlap by more than 0.45.

Measures: `map`, the mean average precision over classes at an overlap of 0.5; `map_small`, `map_medium`, `map_large` for objects by size;
`ap_1`, ..., of each class; see `_detection.py`.

Liu et al., 2016, https://arxiv.org/abs/1512.02325, section 2

Differences from the paper: images have 64 pixels and encoders are small and not pre-trained, except with --pretrained; Adam with a
constant step size; no augmentation. Maps are not normalised before the head, because the encoders do so themselves. The
boxes are not changed at the edges of the image before they are matched; detections are.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from rlbench.backbones.encoders import make_encoder
from rlbench.backbones.layers.boxes import encode, match, overlap
from rlbench.backbones.layers.single_shot import (
    CODE_SCALES,
    SSDHead,
    decoded,
    default_sides,
    detections,
)
from rlbench.backbones.models._base import normalises_over_batches
from rlbench.backbones.models._detection import (
    MAP,
    average_precisions,
    coco,
    judged,
    objects_of,
    refuse_unread,
    truth,
)
from rlbench.backbones.optim import Adam, gradient_step
from rlbench.backbones.ranges import INSIDE, NOT_NEGATIVE, SIZE, Range, check
from rlbench.checks import same_shape
from rlbench.errors import UserError
from rlbench.experience import Examples
from rlbench.interface import Model
from rlbench.measures import Measure
from rlbench.seeding import drawing_from

Mining = Literal["hard", "none"]


@dataclass(frozen=True, kw_only=True)
class SSDConfig:
    """Settings of SSD."""

    encoder: str = "conv4:layers=5,width=32,norm=gn"
    """Encoder of the observations, with options after a colon; it needs a pyramid of maps (see docs/encoders.md)."""
    maps: int = 4
    """Number of the encoder's maps that are read, the coarsest ones."""
    scales: int = 4
    """Number of scales of default boxes (paper: m), at least one for each map."""
    smallest_scale: float = 0.1
    """First scale, as a share of the image's side (paper: s_min, 0.2)."""
    largest_scale: float = 0.8
    """Last scale (paper: s_max, 0.9)."""
    match_overlap: float = 0.5
    """Overlap with an object from which a default box predicts it."""
    mining: Mining = "hard"
    """Negatives of the classification: hard, those with the largest losses in each image; none, all of them, with a mean over all default boxes."""
    negatives: float = 3.0
    """Hard negatives for each match."""
    box_weight: float = 1.0
    """Weight of the boxes in the loss (paper: alpha)."""
    least_score: float = 0.01
    """Detections have a higher score."""
    suppress_overlap: float = 0.45
    """Largest overlap of two detections of the same class."""
    candidates: int = 100
    """Detections before duplicates are suppressed."""
    detections: int = 20
    """Largest number of detections of an image."""
    learning_rate: float = 1e-3
    """Adam step size."""
    batch_size: int = 16
    """Examples in one update."""

    ranges: ClassVar[Mapping[str, Range]] = {
        **dict.fromkeys(("smallest_scale", "largest_scale"), Range(lambda x: 0.01 <= x <= 2, "a number from 0.01 to 2")),
        **dict.fromkeys(("match_overlap", "suppress_overlap", "least_score"), INSIDE),
        **dict.fromkeys(("negatives", "box_weight"), NOT_NEGATIVE),
        **dict.fromkeys(("maps", "scales", "candidates", "detections"), SIZE),
    }  # fmt: skip

    def __post_init__(self) -> None:
        """Refuses settings that are out of range."""
        check(self)
        if self.scales < self.maps:
            raise UserError(
                f"scales is {self.scales}, fewer than maps, {self.maps}; give a scale for each map or more"
            )


def targets(
    boxes: Tensor, classes: Tensor, defaults: Tensor, threshold: float
) -> tuple[Tensor, Tensor]:
    """What each default box has to predict: its class, int64 [B, N], 0 for no object, and its relative box, [B, N, 4].

    Args:
        boxes: True boxes, [B, M, 4].
        classes: Their classes, int64 [B, M]; 0 if there is none.
        defaults: Default boxes, [N, 4].
        threshold: Overlap of a match.
    """
    overlaps = overlap(defaults, boxes)
    found = match(overlaps, classes > 0, threshold, threshold, forced=True)
    matched, own = found >= 0, found.clamp(min=0)
    label = torch.where(matched, classes.gather(1, own), 0)
    box = boxes.gather(1, own[..., None].expand(-1, -1, 4))
    # The box of a negative has no meaning, but must be finite.
    box = torch.where(matched[..., None], box, defaults)
    return label, encode(box, defaults, CODE_SCALES)


def hard_negatives(cross: Tensor, matched: Tensor, ratio: float) -> Tensor:
    """The negatives with the largest losses in each image, `ratio` for each match, bool [B, N].

    >>> cross = torch.tensor([[9.0, 1.0, 3.0, 2.0], [5.0, 6.0, 7.0, 8.0]])
    >>> hard_negatives(cross, torch.tensor([[True, False, False, False], [False] * 4]), 2.0).int()
    tensor([[0, 0, 1, 1],
            [0, 0, 0, 0]], dtype=torch.int32)

    Args:
        cross: Loss of each default box, [B, N].
        matched: Which of them are matched, bool [B, N].
        ratio: Negatives for each match.
    """
    order = cross.masked_fill(matched, -torch.inf).argsort(dim=1, descending=True, stable=True)
    rank = order.argsort(dim=1)
    return (rank < ratio * matched.sum(1, keepdim=True)) & ~matched


@dataclass(frozen=True)
class Losses:
    """Sums over the default boxes of each image, and by how many they are divided, [B] each."""

    classification: Tensor
    classified: Tensor
    """Matches, or all default boxes without mining."""
    localisation: Tensor
    matches: Tensor


def losses(
    logits: Tensor, codes: Tensor, label: Tensor, code: Tensor, mining: Mining, ratio: float
) -> Losses:
    """The two parts of the loss.

    Args:
        logits: Predicted scores, [B, N, 1 + C].
        codes: Predicted relative boxes, [B, N, 4].
        label: True classes, int64 [B, N]; 0 for no object.
        code: True relative boxes, [B, N, 4].
        mining: Whether negatives are selected.
        ratio: See `hard_negatives`.
    """
    same_shape(codes, code)
    matched = label > 0
    matches = matched.sum(1)
    cross = F.cross_entropy(logits.transpose(1, 2), label, reduction="none")
    counted = torch.ones_like(matched)
    if mining == "hard":
        counted = matched | hard_negatives(cross.detach(), matched, ratio)
    distance = F.smooth_l1_loss(codes, code, reduction="none").sum(-1)
    return Losses(
        classification=(cross * counted).sum(1),
        classified=matches if mining == "hard" else counted.sum(1),
        localisation=(distance * matched).sum(1),
        matches=matches,
    )


class SSD(Model):
    """SSD."""

    Config: ClassVar[type] = SSDConfig
    measures = (MAP, Measure("loss", higher_is_better=False))
    run: ClassVar[Mapping[str, Any]] = {
        "updates": 1_000, "data_size": 4_000, "eval_every": 250, "checkpoint_every": 250, "log_every": 50,
    }  # fmt: skip
    config: SSDConfig

    def build(self) -> None:
        """Encoder, head and their optimiser."""
        coco()
        config, self.objects = self.config, objects_of(self.spec)
        self.encoder = make_encoder(config.encoder, self.objects.shape)
        self.encoder.eval()  # A trial pass must change no statistics of batches.
        maps = self.encoder.pyramid(torch.zeros(1, *self.objects.shape, device=self.device))
        self.encoder.train()
        if config.maps > len(maps):
            raise UserError(
                f"maps is {config.maps}, but the encoder {config.encoder} has {len(maps)}; give {len(maps)} or fewer, or an "
                "encoder with more stages"
            )
        read = {stride: maps[stride] for stride in sorted(maps)[-config.maps :]}
        pixels = min(x.shape[2] * x.shape[3] for x in read.values())
        if config.batch_size == 1 and pixels == 1 and normalises_over_batches(self.encoder):
            raise UserError(
                f"batch_size is 1, but the encoder {config.encoder} normalises over a batch and has a map of one pixel; give "
                "2 or more, or norm=gn"
            )
        sides = default_sides(config.scales, config.smallest_scale, config.largest_scale)
        self.head = SSDHead(read, sides * min(self.objects.size), self.objects.classes)
        parameters = [*self.encoder.parameters(), *self.head.parameters()]
        refuse_unread(
            read.values(), self.encoder, f"maps is {config.maps}, but the encoder {config.encoder}"
        )
        self.optimizer = Adam(parameters, config.learning_rate)

    def predicted(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """Scores [B, N, 1 + C] and relative boxes [B, N, 4] of all default boxes."""
        scores, codes = self.head(self.encoder.pyramid(obs))
        return scores, codes

    def decide(self, obs: Tensor, noise: Tensor | None = None) -> Tensor:
        """Boxes and probabilities of all default boxes before duplicates are suppressed, [B, N, 4 + 1 + C], "no object" first."""
        return torch.cat(decoded(self.head, *self.predicted(obs), self.objects.size), dim=-1)

    def detect(self, obs: Tensor) -> Tensor:
        """Detections of images, [B, `detections`, 6]; see the function `detections`."""
        return self._detections(*self.predicted(obs))

    def _detections(self, logits: Tensor, codes: Tensor) -> Tensor:
        config = self.config
        boxes, scores = decoded(self.head, logits, codes, self.objects.size)
        return detections(
            boxes, scores[..., 1:], config.least_score, config.suppress_overlap,
            config.candidates, config.detections,
        )  # fmt: skip

    def _losses(self, logits: Tensor, codes: Tensor, examples: Examples) -> Losses:
        config = self.config
        wanted = targets(*truth(examples), self.head.defaults, config.match_overlap)
        return losses(logits, codes, *wanted, config.mining, config.negatives)

    def learn(self, experience: Examples) -> Mapping[str, Tensor]:
        """One step of gradient descent."""
        with drawing_from(self.generator):
            predicted = self.predicted(experience["obs"])
        found = self._losses(*predicted, experience)
        classification = found.classification.sum() / found.classified.sum().clamp(min=1)
        localisation = found.localisation.sum() / found.matches.sum().clamp(min=1)
        loss = classification + self.config.box_weight * localisation
        return {
            "loss": gradient_step(self.optimizer, loss),
            "classification": classification.detach(),
            "localisation": localisation.detach(),
            "matches": found.matches.float().mean(),
        }

    def measure(self, examples: Examples) -> Mapping[str, Tensor]:
        """Loss of each example, [B], and its detections and objects; see `judged`."""
        predicted = self.predicted(examples["obs"])
        found = self._losses(*predicted, examples)
        classification = found.classification / found.classified.clamp(min=1)
        localisation = found.localisation / found.matches.clamp(min=1)
        loss = classification + self.config.box_weight * localisation
        return {"loss": loss, **judged(examples, self._detections(*predicted))}

    def summary(self, columns: Mapping[str, Any]) -> Mapping[str, float]:
        """Average precisions; see `average_precisions`."""
        return average_precisions(columns["objects"], columns["detections"], self.objects.classes)
