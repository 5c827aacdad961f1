"""Region proposals: boxes that may hold an object of any class.

A small network slides over each map of an encoder: a 3x3 convolution, from whose features it predicts, for each default box (anchor), a
logit of "object" and a box relative to the default box. Default boxes have the aspect ratios 1/2, 1 and 2. Several maps share the weights
of the network, and each has default boxes of one size; a single map has those of all sizes.

A default box is positive if it overlaps with an object by 0.7 or more, or more than any other default box does; negative if
it overlaps with none by 0.3 or more; and ignored otherwise. In each image up to `sampled` boxes are drawn, at most half of them positive:

    minimise  1/n (sum of the cross-entropies of "object" over all n drawn boxes
                   + sum of the smooth L1 losses of the relative boxes over the positive ones)

Ren et al., 2015, https://arxiv.org/abs/1506.01497, section 3.1; on several maps: Lin et al., 2017, https://arxiv.org/abs/1612.03144,
section 4.1
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rlbench.backbones.encoders import Encoder, make_encoder
from rlbench.backbones.layers.boxes import (
    NONE,
    clip,
    decode,
    default_boxes,
    encode,
    match,
    overlap,
    suppress,
)
from rlbench.backbones.models._detection import Objects, refuse_unread
from rlbench.backbones.ranges import INSIDE, SIZE, Range
from rlbench.errors import UserError

RATIOS = (0.5, 1.0, 2.0)
"""Width divided by height of the default boxes."""
CODE_SCALES = (1.0, 1.0)
"""See `encode`; as in the authors' code, relative boxes are not divided."""
POSITIVE, NEGATIVE = 0.7, 0.3
"""Overlaps from which a default box is positive, and below which it is negative."""
POSITIVE_SHARE = 0.5
"""Largest share of positive boxes among those that are drawn."""
BETA = 1 / 9
"""Distance from which the smooth L1 loss is linear, as in Detectron."""


@dataclass(frozen=True, kw_only=True)
class ProposalConfig:
    """Settings of the encoder and of the proposals."""

    encoder: str = "conv4:layers=3,width=32,norm=gn"
    """Encoder of the observations, with options after a colon; it needs a pyramid of maps (see docs/encoders.md)."""
    strides: tuple[int, ...] = (8,)
    """Strides of the maps that are read. Several maps need the same number of channels, as those of `fpn` have."""
    sizes: tuple[float, ...] = (5.0, 9.0, 16.0)
    """Square roots of the areas of default boxes in pixels: one for each stride, or any number of them for a single stride."""
    sampled: int = 64
    """Default boxes of an image from which the proposals learn in an update (paper: 256)."""
    candidates: int = 200
    """Proposals of an image before duplicates are suppressed."""
    proposal_overlap: float = 0.7
    """Largest overlap of two proposals."""
    proposals: int = 50
    """Largest number of proposals of an image (paper: 300; 1,000 with a pyramid)."""
    width: int = 64
    """Channels of the convolution over the maps (paper: 256 or 512)."""

    ranges: ClassVar[Mapping[str, Range]] = {
        "proposal_overlap": INSIDE, **dict.fromkeys(("sampled", "candidates", "proposals"), SIZE),
    }  # fmt: skip

    def check_sizes(self) -> None:
        """Refuses strides and sizes that do not fit each other.

        Raises:
            UserError: They do not.
        """
        if not self.strides or any(stride < 1 for stride in self.strides):
            raise UserError(f"strides is {self.strides}; give strides of maps, such as 8")
        if list(self.strides) != sorted(set(self.strides)):
            raise UserError(f"strides is {self.strides}; give each stride once, the smallest first")
        if not self.sizes or any(not 1 <= size <= 1_000 for size in self.sizes):
            raise UserError(f"sizes is {self.sizes}; give sides of boxes, from 1 to 1,000 pixels")
        if len(self.strides) not in (1, len(self.sizes)):
            raise UserError(
                f"there are {len(self.strides)} strides and {len(self.sizes)} sizes; give a size for each stride, or one stride"
            )


@dataclass(frozen=True)
class Proposals:
    """The best boxes of each image, from the most likely one to the least."""

    boxes: Tensor
    """[B, P, 4]; zeros where there are fewer."""
    scores: Tensor
    """Probability of an object, [B, P]; 0 where there is none."""

    @property
    def exist(self) -> Tensor:
        """Which of them are real, bool [B, P]."""
        return self.scores > 0


class ProposalNetwork(nn.Module):
    """Finds boxes with objects on maps."""

    defaults: Tensor

    def __init__(
        self, maps: Mapping[int, Tensor], config: ProposalConfig, objects: Objects
    ) -> None:
        """Makes the default boxes.

        Args:
            maps: A map [B, C, H, W] of each stride, as an example.
            config: Strides, sizes and numbers of boxes.
            objects: The size of the images.

        Raises:
            UserError: The maps have different numbers of channels.
        """
        super().__init__()
        self.config, self.image = config, objects.size
        channels = {maps[stride].shape[1] for stride in config.strides}
        if len(channels) > 1:
            raise UserError(
                f"the maps with strides {config.strides} have {sorted(channels)} channels, but the network of proposals is shared by "
                "all maps; give one stride, or an encoder whose maps are equally wide, such as fpn:of=impala"
            )
        ratios = torch.tensor(RATIOS)
        shape = torch.stack([ratios.sqrt(), 1 / ratios.sqrt()], dim=1)
        each = [config.sizes] if len(config.strides) == 1 else [(size,) for size in config.sizes]
        sides = [torch.cat([size * shape for size in sizes]) for sizes in each]
        defaults = [
            default_boxes((maps[stride].shape[2], maps[stride].shape[3]), stride, own)
            for stride, own in zip(config.strides, sides, strict=True)
        ]
        self.register_buffer("defaults", torch.cat(defaults), persistent=False)
        self.slide = nn.Conv2d(channels.pop(), config.width, 3, padding=1)
        self.read = nn.Conv2d(config.width, 5 * len(sides[0]), 1)
        for layer in (self.slide, self.read):
            nn.init.normal_(layer.weight, std=0.01)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)

    def forward(self, maps: Mapping[int, Tensor]) -> tuple[Tensor, Tensor]:
        """Logits of "object" [B, N] and relative boxes [B, N, 4] of the N default boxes."""
        found = [
            self.read(F.relu(self.slide(maps[stride]))).permute(0, 2, 3, 1).flatten(1).unflatten(1, (-1, 5))
            for stride in self.config.strides
        ]  # fmt: skip
        joined = torch.cat(found, dim=1)
        return joined[..., 4], joined[..., :4]

    def loss(
        self, logits: Tensor, codes: Tensor, boxes: Tensor, exist: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The two parts of the loss of each image, [B] each; which boxes count is drawn at random.

        Args:
            logits: Of "object", [B, N].
            codes: Relative boxes, [B, N, 4].
            boxes: True boxes, [B, M, 4].
            exist: Which of them are real, bool [B, M].
        """
        overlaps = overlap(self.defaults, boxes)
        found = match(overlaps, exist, POSITIVE, NEGATIVE, forced=True)
        positive, negative = draw(found >= 0, found == NONE, self.config.sampled, POSITIVE_SHARE)
        cross = F.binary_cross_entropy_with_logits(
            logits, positive.to(logits.dtype), reduction="none"
        )
        wanted = relative(boxes, found, self.defaults, CODE_SCALES)
        distance = F.smooth_l1_loss(codes, wanted, reduction="none", beta=BETA).sum(-1)
        count = (positive | negative).sum(1).clamp(min=1)
        return (
            (cross * (positive | negative)).sum(1) / count,
            (distance * positive).sum(1) / count,
        )

    @torch.no_grad()
    def propose(self, logits: Tensor, codes: Tensor) -> Proposals:
        """The most likely boxes without duplicates; no gradient reaches what made them."""
        config = self.config
        best, place = logits.topk(min(config.candidates, logits.shape[1]))
        code = codes.gather(1, place[..., None].expand(-1, -1, 4))
        boxes = clip(decode(code, self.defaults[place], CODE_SCALES), self.image)
        # A box outside the image, or thinner than a pixel, holds nothing.
        holds = (boxes[..., 2:] - boxes[..., :2] >= 1).all(-1)
        best = best.masked_fill(~holds, -torch.inf)
        kept = suppress(boxes, best, config.proposal_overlap)
        best, order = best.masked_fill(~kept, -torch.inf).topk(min(config.proposals, best.shape[1]))
        boxes = boxes.gather(1, order[..., None].expand(-1, -1, 4))
        there = best > -torch.inf
        return Proposals(boxes * there[..., None], best.sigmoid())


def draw(positive: Tensor, negative: Tensor, count: int, share: float) -> tuple[Tensor, Tensor]:
    """Random boxes of each image: which positive and which negative ones, bool [B, N] each.

    Args:
        positive: The positive boxes, bool [B, N].
        negative: The negative ones, bool [B, N].
        count: Boxes to draw in an image, if there are that many.
        share: Largest share of positive ones.
    """
    order = torch.rand(positive.shape, device=positive.device)
    some = positive & (_rank(order, positive) < int(count * share))
    left = count - some.sum(1, keepdim=True)
    return some, negative & (_rank(order, negative) < left)


def _rank(order: Tensor, among: Tensor) -> Tensor:
    """The place of each box when those `among` which it is drawn are put in an order, [B, N]."""
    return order.masked_fill(~among, 2.0).argsort(dim=1).argsort(dim=1)


def relative(boxes: Tensor, found: Tensor, defaults: Tensor, scales: Sequence[float]) -> Tensor:
    """The true boxes relative to the boxes that match them, [B, N, 4]; zeros without a match.

    Args:
        boxes: True boxes, [B, M, 4].
        found: Number of the true box, or a negative number, [B, N]; see `match`.
        defaults: What they are relative to, [N, 4] or [B, N, 4].
        scales: See `encode`.
    """
    box = boxes.gather(1, found.clamp(min=0)[..., None].expand(-1, -1, 4))
    matched = (found >= 0)[..., None]
    return encode(torch.where(matched, box, defaults), defaults, scales)


def encoder_with_maps(
    config: ProposalConfig, objects: Objects
) -> tuple[Encoder, dict[int, Tensor]]:
    """The encoder, and an example of each map that is read.

    Raises:
        UserError: It has no map of one of the strides.
    """
    encoder = make_encoder(config.encoder, objects.shape)
    encoder.eval()  # A trial pass must change no statistics of batches.
    maps = encoder.pyramid(torch.zeros(1, *objects.shape))
    encoder.train()
    if missing := [stride for stride in config.strides if stride not in maps]:
        raise UserError(
            f"strides is {config.strides}, but the encoder {config.encoder} has maps with strides {sorted(maps)}; give some of "
            f"these, or another encoder with the stride {missing[0]}"
        )
    read = {stride: maps[stride] for stride in config.strides}
    refuse_unread(
        read.values(), encoder, f"strides is {config.strides}, but the encoder {config.encoder}"
    )
    return encoder, {stride: x.detach() for stride, x in read.items()}


def level_of(boxes: Tensor, levels: int, largest: float) -> Tensor:
    """The map from which the features of a box are read, int64 [...], 0 for the finest: floor(levels - 1 + log2(side / largest)).

    Lin et al., 2017, https://arxiv.org/abs/1612.03144, equation 1.

    >>> level_of(torch.tensor([[0.0, 0.0, 4.0, 4.0], [0.0, 0.0, 8.0, 8.0], [0.0, 0.0, 40.0, 40.0]]), 3, 16.0)
    tensor([0, 1, 2])

    Args:
        boxes: [..., 4], without sides of 0.
        levels: Number of maps.
        largest: Side of a square that belongs to the coarsest map.
    """
    side = (boxes[..., 2:] - boxes[..., :2]).clamp(min=1e-6).prod(-1).sqrt()
    return (levels - 1 + (side / largest).log2()).floor().clamp(0, levels - 1).long()
