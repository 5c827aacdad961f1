"""Objectives of pre-training: what an encoder reads, and what a readout of its code predicts.

All targets come from the picture itself or from columns that a simulator gives. With x in [0, 1] for the picture and g for its grey
values:

    autoencoding      x from x                    segmentation      the class of each pixel
    denoising         x from x with noise         depth             1 / distance of each pixel
    colourisation     x from g                    normals           the unit normal at each pixel
    edges             |grad g|, by Sobel filters  azimuth           the camera's angle
    inverse-dynamics  the action between two pictures, from both
    return            the return from this picture on

Losses are the mean squared error, and for classes the mean cross-entropy.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from rlbench.checks import same_shape

NOISE = 51.0
"""Standard deviation of the noise of `denoising`, a fifth of the range of pixels."""
FLOOR = 1e-4
"""Smallest share of a class in the loss of a constant prediction."""
GREY = (0.299, 0.587, 0.114)
"""Shares of red, green and blue in grey, as in ITU-R BT.601."""


@dataclass(frozen=True)
class Objective:
    """One objective."""

    target: Callable[[Mapping[str, Tensor]], Tensor]
    """What is predicted, [B, D] or [B, C, H, W], from the columns of examples; `picture` is x, [B, C, H, W]."""
    columns: tuple[str, ...] = ()
    """Columns that it needs in addition to `obs`."""
    reads: Literal["picture", "noisy", "grey", "both"] = "picture"
    """What the encoder reads; `both` is the picture and the one after it."""
    classes: bool = False
    """Whether the target is the class of each pixel, int64 [B, H, W]."""


def grey(picture: Tensor) -> Tensor:
    """Grey values, [B, 1, H, W], of pictures [B, C, H, W] with 3 channels; of others, the mean of the channels."""
    if picture.shape[1] != len(GREY):
        return picture.mean(1, keepdim=True)
    return (picture * picture.new_tensor(GREY)[:, None, None]).sum(1, keepdim=True)


def edges(x: Tensor) -> Tensor:
    """Length of the gradient by Sobel filters at each pixel, [B, 1, H, W] of grey values [B, 1, H, W].

    >>> edges(torch.arange(4.0).expand(1, 1, 3, 4))[0, 0, 1].tolist()
    [0.5, 1.0, 1.0, 0.5]
    """
    mask = x.new_tensor([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]) / 8
    both = F.conv2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), torch.stack([mask, mask.T])[:, None])
    return both.square().sum(1, keepdim=True).sqrt()


OBJECTIVES: Mapping[str, Objective] = {
    "autoencoding": Objective(lambda x: x["picture"]),
    "denoising": Objective(lambda x: x["picture"], reads="noisy"),
    "colourisation": Objective(lambda x: x["picture"], reads="grey"),
    "edges": Objective(lambda x: edges(grey(x["picture"]))),
    "segmentation": Objective(lambda x: x["seg"].long(), ("seg",), classes=True),
    "depth": Objective(lambda x: 1 / x["depth"][:, None], ("depth",)),
    "normals": Objective(lambda x: x["normals"].permute(0, 3, 1, 2), ("normals",)),
    "azimuth": Objective(lambda x: x["azimuth"], ("azimuth",)),
    "inverse-dynamics": Objective(lambda x: x["action"], ("next_obs", "action"), reads="both"),
    "return": Objective(lambda x: x["return"], ("return",)),
}


def squared_errors(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean squared error of each example, [B], of predictions and targets of the same shape [B, ...]."""
    same_shape(prediction, target)
    return (prediction - target).square().flatten(1).mean(1)


def cross_entropies(logits: Tensor, target: Tensor) -> Tensor:
    """Mean cross-entropy of each example in nats, [B], of logits [B, C, H, W] and classes int64 [B, H, W]."""
    return F.cross_entropy(logits, target, reduction="none").flatten(1).mean(1)


def constant_losses(target: Tensor, classes: int | None) -> Tensor:
    """Loss of each example, [B], of the best prediction that is the same for all of them.

    Args:
        target: [B, ...].
        classes: Number of classes if the target is the class of each pixel; then the shares of classes are predicted, the same at every
            pixel. Other targets have a mean at each pixel.
    """
    if classes is None:
        return squared_errors(target.mean(0).expand_as(target), target)
    shares = torch.bincount(target.flatten(), minlength=classes) / target.numel()
    scores = shares.clamp(min=FLOOR).log()[:, None, None]
    return cross_entropies(scores.expand(len(target), classes, *target.shape[1:]), target)
