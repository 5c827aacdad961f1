"""Segmentation: the class of every pixel, from the maps of any encoder that has a pyramid.

The fully convolutional network (FCN) reads class scores from maps with 1x1 convolutions. Scores of the coarsest map are
upsampled to the image at once (32s), or first fused with scores of finer maps, which locate borders better:

    32s   up(score(p_3))
    16s   up(up_2(score(p_3)) + score(p_2))
    8s    up(up_2(up_2(score(p_3)) + score(p_2)) + score(p_1))

where p_3 is the coarsest map and `up` is bilinear interpolation with fixed weights. The names are the strides of the maps in the
paper, 32, 16 and 8; here they depend on the encoder. Scores of finer maps start at 0, so that at first only the coarsest map
counts. For encoders that upsample their maps themselves (fc-densenet, unet), the head `finest` reads the finest map.

    minimise  the mean over pixels of the cross entropy

Measures: `miou`, the mean over the classes that occur, apart from the background (class 0), of

    IoU_c = pixels of class c that are predicted as c / pixels that are of class c or predicted as c

over all test pixels together; `iou_0`, ..., the IoU of each class; `accuracy`, the share of correct pixels.

Long et al., 2015, https://arxiv.org/abs/1411.4038; Jegou et al., 2017, https://arxiv.org/abs/1611.09326 (fc-densenet);
Ronneberger et al., 2015, https://arxiv.org/abs/1505.04597 (unet)

Differences from the papers: Adam with a constant step size on the mean over pixels, instead of momentum on the sum; 16s
and 8s are trained in one stage, not from a trained 32s; encoders are small and not pretrained, except with --pretrained.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from gymnasium import Space, spaces
from numpy.typing import NDArray
from torch import Tensor, nn

from rlbench.backbones.encoders import make_encoder
from rlbench.backbones.encoders._base import Maps
from rlbench.backbones.layers.dense import Bilinear
from rlbench.backbones.models._base import input_space, normalises_over_batches
from rlbench.backbones.optim import Adam, gradient_step
from rlbench.backbones.ranges import check
from rlbench.checks import same_shape
from rlbench.errors import UserError
from rlbench.experience import Examples
from rlbench.interface import Model
from rlbench.measures import Measure
from rlbench.seeding import drawing_from

Head = Literal["fcn-32s", "fcn-16s", "fcn-8s", "finest"]
FUSED = {"fcn-32s": 1, "fcn-16s": 2, "fcn-8s": 3}
"""Number of maps whose scores are fused, starting with the coarsest."""
MOST_CLASSES = 256


@dataclass(frozen=True, kw_only=True)
class SegmenterConfig:
    """Settings of the segmenter."""

    encoder: str = "impala"
    """Encoder of the observations, with options after a colon; it needs a pyramid of maps (see docs/encoders.md)."""
    head: Head = "fcn-8s"
    """How maps become class scores: fcn-32s, fcn-16s and fcn-8s fuse the scores of one, two and three maps; finest reads the
    finest map, for encoders that upsample their maps themselves, fc-densenet and unet."""
    label: str = "seg"
    """The column with the class of each pixel."""
    learning_rate: float = 1e-3
    """Adam step size."""
    batch_size: int = 16
    """Examples in one update."""

    def __post_init__(self) -> None:
        """Refuses settings that are out of range."""
        check(self)


class FCNHead(nn.Module):
    """Scores of maps, fused from coarse to fine and upsampled to the image."""

    def __init__(self, channels: Mapping[int, int], classes: int, fused: int) -> None:
        """Reads the `fused` coarsest maps.

        Args:
            channels: Stride of each map to its channels.
            classes: Number of classes.
            fused: Number of maps.
        """
        super().__init__()
        self.strides = sorted(channels, reverse=True)[:fused]
        scores = [nn.Conv2d(channels[s], classes, 1) for s in self.strides]
        for score in scores[1:]:
            for parameter in score.parameters():
                nn.init.zeros_(parameter)
        self.scores = nn.ModuleList(scores)
        finer = [*self.strides[1:], 1]
        self.enlarge = nn.ModuleList(
            Bilinear(stride // after) for stride, after in zip(self.strides, finer, strict=True)
        )

    def forward(self, maps: Mapping[int, Tensor], size: tuple[int, int]) -> Tensor:
        """Class scores of all pixels, [B, classes, *size], from maps by stride."""
        out: Tensor | None = None
        after = [*(maps[s].shape[2:] for s in self.strides[1:]), size]
        for stride, score, enlarge, shape in zip(
            self.strides, self.scores, self.enlarge, after, strict=True
        ):
            own = score(maps[stride])
            out = fitted(enlarge(own if out is None else out + own), *shape)
        assert out is not None
        return out


def fitted(x: Tensor, rows: int, columns: int) -> Tensor:
    """Maps [B, C, rows, columns] of maps [B, C, H, W]: surplus pixels are cut off, and missing ones repeat the last."""
    x = x[:, :, :rows, :columns]
    return F.pad(x, (0, columns - x.shape[3], 0, rows - x.shape[2]), mode="replicate")


class FinestHead(nn.Module):
    """A 1x1 convolution of the finest map."""

    def __init__(self, channels: Mapping[int, int], classes: int) -> None:
        """Reads the finest map.

        Raises:
            UserError: It is coarser than the image.
        """
        super().__init__()
        if (finest := min(channels)) > 1:
            raise UserError(
                f"head is finest, but the finest map of the encoder has the stride {finest}; give an encoder that upsamples "
                "its maps, such as fc-densenet or unet, or the head fcn-8s"
            )
        self.strides = [1]
        self.score = nn.Conv2d(channels[1], classes, 1)

    def forward(self, maps: Mapping[int, Tensor], size: tuple[int, int]) -> Tensor:
        """Class scores of all pixels, [B, classes, H, W]."""
        scores: Tensor = self.score(maps[1])
        return scores


def confusion(prediction: Tensor, label: Tensor, classes: int) -> Tensor:
    """Number of pixels by true and predicted class, int64 [B, C, C].

    >>> confusion(torch.tensor([[0, 1, 1]]), torch.tensor([[0, 0, 1]]), 2)
    tensor([[[1, 1],
             [0, 1]]])

    Args:
        prediction: Predicted classes, int64 [B, ...].
        label: True classes, of the same shape.
        classes: C.
    """
    same_shape(prediction, label)
    pair = (label * classes + prediction).flatten(1)
    counts = pair.new_zeros(len(pair), classes**2).scatter_add_(1, pair, torch.ones_like(pair))
    return counts.view(-1, classes, classes)


def intersection_over_union(counts: NDArray[Any]) -> NDArray[np.float64]:
    """IoU of each class, [C]; NaN for classes that neither occur nor are predicted.

    Args:
        counts: Number of pixels by true and predicted class, [C, C].
    """
    both = counts.diagonal()
    union = counts.sum(0) + counts.sum(1) - both
    found: NDArray[np.float64] = np.where(union > 0, both / np.maximum(union, 1), np.nan)
    return found


class Segmenter(Model):
    """The segmenter."""

    Config: ClassVar[type] = SegmenterConfig
    measures = (
        Measure("miou"), Measure("loss", "nats", higher_is_better=False), Measure("accuracy"),
    )  # fmt: skip
    run: ClassVar[Mapping[str, Any]] = {
        "updates": 1_000, "data_size": 5_000, "eval_every": 250, "checkpoint_every": 250, "log_every": 50,
    }  # fmt: skip
    config: SegmenterConfig

    def build(self) -> None:
        """Encoder, head and their optimiser."""
        config, shape = self.config, tuple(input_space(self.spec).shape or ())
        self.encoder = make_encoder(config.encoder, shape)
        size, self.classes = pixel_classes(self.spec, config.label)
        self.encoder.eval()  # A trial pass must change no statistics of batches.
        maps = self.encoder.pyramid(torch.zeros(1, *shape, device=self.device))
        self.encoder.train()
        if size not in (shape[:2], shape[1:]):
            raise UserError(
                f"the column {config.label!r} has a class for each of {size[0]}x{size[1]} pixels, but observations have the shape "
                f"{shape}; give one class for each pixel of the image"
            )
        pixels = min(x.shape[2] * x.shape[3] for x in maps.values())
        if config.batch_size == 1 and pixels == 1 and normalises_over_batches(self.encoder):
            raise UserError(
                f"batch_size is 1, but the encoder {config.encoder} normalises over a batch and has a map of one pixel; give "
                "2 or more, or norm=gn"
            )
        channels = {stride: x.shape[1] for stride, x in maps.items()}
        if config.head == "finest":
            self.head: FinestHead | FCNHead = FinestHead(channels, self.classes)
        else:
            fused = FUSED[config.head]
            if len(channels) < fused:
                raise UserError(
                    f"head is {config.head}, which fuses {fused} maps, but the encoder {config.encoder} has {len(channels)}; "
                    "give fcn-32s or another encoder"
                )
            self.head = FCNHead(channels, self.classes, fused)
        layers = self.encoder.layers
        assert isinstance(layers, Maps)  # `pyramid` refuses others.
        if (last := layers.strides[-1]) not in self.head.strides:
            raise UserError(
                f"head is {config.head}, which does not read the last map of the encoder {config.encoder}, of stride {last}, so "
                f"that layers before it would not be trained; give the head {'finest' if last == 1 else 'fcn-8s'}"
            )
        self.size = size
        parameters = [*self.encoder.parameters(), *self.head.parameters()]
        read = torch.autograd.grad(self.head(maps, size).sum(), parameters, allow_unused=True)
        if any(gradient is None for gradient in read):
            raise UserError(
                f"the head {config.head} does not read all layers of the encoder {config.encoder}; give finest for encoders "
                "that upsample their maps, such as fc-densenet or unet, and fcn-8s for others"
            )
        self.optimizer = Adam(parameters, config.learning_rate)

    def logits(self, obs: Tensor) -> Tensor:
        """Unnormalised log-probabilities of the classes of all pixels, [B, C, H, W], of observations [B, ...]."""
        logits: Tensor = self.head(self.encoder.pyramid(obs), self.size)
        return logits

    def decide(self, obs: Tensor, noise: Tensor | None = None) -> Tensor:
        """Probabilities of the classes of all pixels, [B, C, H, W]."""
        return self.logits(obs).softmax(dim=1)

    def learn(self, experience: Examples) -> Mapping[str, Tensor]:
        """One step of gradient descent."""
        with drawing_from(self.generator):
            logits = self.logits(experience["obs"])
        label = experience[self.config.label].long()
        loss = gradient_step(self.optimizer, F.cross_entropy(logits, label))
        right = (logits.detach().argmax(1) == label).float()
        return {"loss": loss, "accuracy": right.mean()}

    def measure(self, examples: Examples) -> Mapping[str, Tensor]:
        """Loss and accuracy of each example, [B] each, and its counts `confusion` [B, C, C]; see the function `confusion`."""
        label = examples[self.config.label].long()
        logits = self.logits(examples["obs"])
        prediction = logits.argmax(1)
        loss = F.cross_entropy(logits, label, reduction="none").mean((1, 2))
        return {
            "loss": loss,
            "accuracy": (prediction == label).float().mean((1, 2)),
            "confusion": confusion(prediction, label, self.classes),
        }

    def summary(self, columns: Mapping[str, Any]) -> Mapping[str, float]:
        """`miou`, and the IoU of each class that occurs."""
        counts = columns["confusion"].sum(0)
        found = intersection_over_union(counts)
        there = [k for k in range(len(counts)) if counts[k].sum() > 0]
        objects = [float(found[k]) for k in there if k > 0]
        each = {f"iou_{k}": float(found[k]) for k in there}
        return {"miou": sum(objects) / len(objects) if objects else 0.0, **each}


def pixel_classes(fields: Mapping[str, Space[Any]], name: str) -> tuple[tuple[int, int], int]:
    """Rows and columns, and the number of classes, of a column with the class of each pixel.

    Raises:
        UserError: There is no such column, or it holds something else.
    """
    space = fields.get(name)
    whole = isinstance(space, spaces.Box) and space.dtype is not None and space.dtype.kind in "iu"
    if not (whole and isinstance(space, spaces.Box) and len(space.shape) == 2):
        raise UserError(
            f"the examples have no column {name!r} with the class of each pixel, whole numbers [H, W]; they have "
            f"{', '.join(fields)}; give a source such as frames-procgen:coinrun, or another --label"
        )
    low, high = int(space.low.min()), int(space.high.max())
    if low != 0 or not 1 <= high < MOST_CLASSES:
        raise UserError(
            f"the column {name!r} has classes from {low} to {high}; number them from 0 to at most {MOST_CLASSES - 1}, and give "
            "at least two"
        )
    return (space.shape[0], space.shape[1]), high + 1
