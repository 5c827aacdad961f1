"""Convolutions and their normalisation.

Batch normalisation standardises each channel with the statistics of a batch, over images and pixels:

    y = gamma (x - mean) / sqrt(variance + epsilon) + beta

In evaluation, running statistics replace the statistics of the batch. The layer is then one affine map for each channel,
which `folded` merges into the convolution before it. Group normalisation has no batch statistics.

Ioffe & Szegedy, 2015, https://arxiv.org/abs/1502.03167; Wu & He, 2018, https://arxiv.org/abs/1803.08494
"""

from collections.abc import Callable
from functools import partial
from typing import Literal, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rlbench.errors import UserError

Norm = Literal["bn", "gn", "none"]
"""Batch normalisation, group normalisation, or none."""
GROUPS = 8
"""Groups of channels in group normalisation; if it does not divide the number of channels, all form one group."""
M = TypeVar("M", bound=nn.Module)


def normalisation(norm: Norm, channels: int) -> nn.Module:
    """A layer that normalises maps [B, C, H, W], or the identity."""
    if norm == "bn":
        return nn.BatchNorm2d(channels)
    if norm == "gn":
        return nn.GroupNorm(GROUPS if channels % GROUPS == 0 else 1, channels)
    return nn.Identity()


class Pointwise(nn.Conv2d):
    """A 1x1 convolution that first drops the rows and columns that its stride skips.

    oneDNN 3.12, which PyTorch 2.13 is built with, writes out of bounds in the gradient of a strided 1x1
    convolution in channels-last format, on processors with AVX2 but without AVX-512.
    """

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to [B, out, H / stride, W / stride], rounded up."""
        rows, columns = self.stride
        return F.conv2d(x[:, :, ::rows, ::columns], self.weight, self.bias)


def convolution(
    channels: int, out: int, kernel: int, norm: Norm, stride: int = 1, *, depthwise: bool = False
) -> nn.Conv2d:
    """A convolution with He's initialisation, and a bias only if no normalisation follows.

    Args:
        channels: C, of [B, C, H, W].
        out: Channels of the output, which is [B, out, H / stride, W / stride], rounded up.
        kernel: Odd length of the square kernel.
        norm: The normalisation that follows.
        stride: Step in both directions.
        depthwise: Each channel has its own kernel and sees no other channel; `out` equals `channels`.
    """
    kind = Pointwise if kernel == 1 else nn.Conv2d
    groups, bias = (channels if depthwise else 1), norm == "none"
    layer = kind(channels, out, kernel, stride, kernel // 2, groups=groups, bias=bias)
    # PyTorch's fan_out ignores groups; with depthwise kernels both fans are the size of the kernel.
    fan: Literal["fan_in", "fan_out"] = "fan_in" if depthwise else "fan_out"
    nn.init.kaiming_normal_(layer.weight, mode=fan, nonlinearity="relu")
    return layer


def normed_convolution(
    channels: int, out: int, kernel: int, norm: Norm, stride: int = 1, *,
    depthwise: bool = False, activation: type[nn.Module] | None = nn.ReLU,
) -> nn.Sequential:  # fmt: skip
    """A convolution, its normalisation, and an activation if there is one; see `convolution`."""
    layers = [
        convolution(channels, out, kernel, norm, stride, depthwise=depthwise),
        normalisation(norm, out),
    ]
    return nn.Sequential(*layers, *([] if activation is None else [activation()]))


def normalise_convolutions(network: nn.Module, make: Callable[[int], nn.Module]) -> int:
    """Adds a normalisation after every convolution of a network that has none; changes it in place.

    The convolutions keep their biases.

    Args:
        network: Its convolutions are found at any depth.
        make: Makes the normalisation for a number of channels.

    Returns:
        The number of convolutions.
    """
    found = 0
    for name, layer in list(network.named_children()):
        if isinstance(layer, nn.Conv2d):
            setattr(network, name, nn.Sequential(layer, make(layer.out_channels)))
            found += 1
        else:
            found += normalise_convolutions(layer, make)
    return found


def normalised(network: M, norm: Norm) -> M:
    """The same network, with a normalisation after every convolution unless `norm` is none."""
    if norm != "none":
        normalise_convolutions(network, partial(normalisation, norm))
    return network


def folded(layer: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d:
    """One convolution equal to a convolution followed by batch normalisation with running statistics.

    Raises:
        UserError: The normalisation has no running statistics.
    """
    mean, variance = norm.running_mean, norm.running_var
    if mean is None or variance is None:
        raise UserError(
            "this batch normalisation has no running statistics to fold into the convolution; make it with "
            "track_running_stats=True"
        )
    made = type(layer)(
        layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, layer.padding,  # type: ignore[arg-type]
        layer.dilation, layer.groups, device=layer.weight.device, dtype=layer.weight.dtype,  # type: ignore[arg-type]
    )  # fmt: skip
    assert made.bias is not None
    with torch.no_grad():
        scale = norm.weight / (variance + norm.eps).sqrt()
        bias = 0 if layer.bias is None else layer.bias
        made.weight.copy_(layer.weight * scale[:, None, None, None])
        made.bias.copy_((bias - mean) * scale + norm.bias)
    return made
