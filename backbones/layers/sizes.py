"""Images of several sizes in one array, padded with zeros at the bottom and on the right to the largest size.

A network of convolutions and a head such as `spp` takes images of any size, but a batch has only one. `trim` cuts off
the padding and gives the images of each size to the network as a batch of their own (He et al., 2014,
https://arxiv.org/abs/1406.4729, section 2.3, trains with one size per epoch). `resize` and `crop` give all
images one size, for networks without such a head.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from rlbench.errors import UserError

Padding = Literal["keep", "trim", "resize", "crop"]
"""How padding is treated: `keep` leaves it in the image, and the others cut it off. Then `resize` resizes the image to a square of
one size, and `crop` crops or pads it around its centre to such a square."""


def sizes(images: Tensor) -> Tensor:
    """Rows and columns of each image [B, C, H, W] without its padding, int64 [B, 2].

    An image of zeros counts as one without padding.
    """
    filled = (images != 0).any(dim=1)
    found = []
    for used in (filled.any(dim=2), filled.any(dim=1)):  # Rows, then columns.
        length = used.shape[1]
        last = length - used.flip(1).int().argmax(dim=1)
        found.append(torch.where(used.any(dim=1), last, length))
    return torch.stack(found, dim=1)


def by_size(images: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Images [B, C, H, W] grouped by size, without their padding: row numbers [N] and images [N, C, h, w].

    Raises:
        UserError: The network is being exported, but its operations depend on the sizes.
    """
    # Both would fix the sizes of the example input.
    if torch.jit.is_tracing() or torch.compiler.is_exporting():  # type: ignore[attr-defined, no-untyped-call]
        raise UserError(
            "an encoder that trims, resizes or crops padded images cannot be exported; train one with padding=keep"
        )
    unique, member = sizes(images).unique(dim=0, return_inverse=True)
    groups = []
    for group, (rows, columns) in enumerate(unique.tolist()):
        chosen = (member == group).nonzero().squeeze(1)
        groups.append((chosen, images[chosen, :, :rows, :columns]))
    return groups


def read(
    network: Callable[[Tensor], Tensor], images: Tensor, padding: Padding, side: int
) -> Tensor:
    """Features [B, size] of padded images [B, C, H, W].

    Args:
        network: Maps images [N, C, h, w] to features [N, size].
        images: Padded with zeros at the bottom and on the right.
        padding: See `Padding`.
        side: Rows and columns after `resize` and `crop`.

    Raises:
        UserError: The network cannot read images of one of the sizes.
    """
    if padding == "keep":
        return network(images)
    groups = by_size(images)
    order = torch.cat([chosen for chosen, _ in groups]).argsort()
    if padding == "trim":
        return _each_size(network, [found for _, found in groups])[order]
    fit = _resized if padding == "resize" else _cropped
    return network(torch.cat([fit(found, side) for _, found in groups])[order])


def _each_size(network: Callable[[Tensor], Tensor], groups: Sequence[Tensor]) -> Tensor:
    """Features [B, size] of groups of images, in their order."""
    try:
        return torch.cat([network(images) for images in groups])
    except (RuntimeError, ValueError) as error:
        if isinstance(error, UserError | torch.OutOfMemoryError):
            raise
        sizes = ", ".join(f"{x.shape[2]}x{x.shape[3]}" for x in groups)
        raise UserError(
            f"padding=trim gave the encoder images of {sizes} pixels, each size as a batch of its own, and it cannot read one "
            f"of them ({error}); give larger images or batches, another encoder, or padding=resize"
        ) from error


def _resized(images: Tensor, side: int) -> Tensor:
    """Images resized bilinearly, with antialiasing when they shrink."""
    return F.interpolate(images, (side, side), mode="bilinear", antialias=True)


def _cropped(images: Tensor, side: int) -> Tensor:
    """The centre of each image, padded with zeros if the image is smaller."""
    rows, columns = images.shape[2:]
    above, before = (side - rows) // 2, (side - columns) // 2
    return F.pad(images, (before, side - columns - before, above, side - rows - above))
