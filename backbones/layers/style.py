"""Losses of neural style transfer, of the maps of a network.

    F_l [C, M]   the map of a layer l, with M pixels
    G_l = F_l F_l^T / M                                        the Gram matrix: which channels are active together, wherever they are
    L_content = |F - P|^2 / |P|^2                              P: the map of the content picture
    L_style   = mean over layers of |G_l - A_l|^2 / |A_l|^2    A_l: the Gram matrix of the style picture

Gatys et al., 2016, "Image Style Transfer Using Convolutional Neural Networks", equations 1 to 5; Gatys et al., 2015, https://arxiv.org/abs/1508.06576

Differences from the paper: each error is divided by the energy of its target, so that weights mean the same for all networks, layers and
sizes, and both losses of a picture without energy would be 1; Gram matrices are divided by the number of pixels, so that pictures of different
sizes can be compared.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from rlbench.checks import same_shape

LEAST = 1e-12
"""Least energy: targets that are 0 must not divide by 0."""


def gram(maps: Tensor) -> Tensor:
    """Gram matrices [B, C, C] of maps [B, C, H, W].

    >>> gram(torch.tensor([[[[1.0, 2.0]], [[3.0, 0.0]]]]))
    tensor([[[2.5000, 1.5000],
             [1.5000, 4.5000]]])
    """
    flat = maps.flatten(2)
    return flat @ flat.transpose(1, 2) / flat.shape[2]


def relative_error(found: Tensor, target: Tensor) -> Tensor:
    """Squared error divided by the energy of the target, [B], of tensors [B, ...]."""
    same_shape(found, target)
    error, energy = (x.square().flatten(1).sum(1) for x in (found - target, target))
    return error / energy.clamp(min=LEAST)


def content_loss(maps: Tensor, target: Tensor) -> Tensor:
    """Content loss [B] of maps [B, C, H, W], given the maps of the content pictures."""
    return relative_error(maps, target)


def style_loss(maps: Sequence[Tensor], target: Sequence[Tensor]) -> Tensor:
    """Style loss [B].

    Args:
        maps: Maps of each layer, [B, C, H, W].
        target: Gram matrix of the style in each layer, [B, C, C].
    """
    pairs = zip(maps, target, strict=True)
    return torch.stack([relative_error(gram(x), wanted) for x, wanted in pairs]).mean(0)
