"""Residual networks (ResNet), with all units of "Identity Mappings in Deep Residual Networks".

A stack of units that add to their input, so that further depth can fall back to the identity:

    x_{l+1} = f( h(x_l) + F(x_l) )

F is two 3x3 convolutions (basic), or 1x1, 3x3 and 1x1 (bottleneck), each with a normalisation. If h and f
are the identity, x_L = x_l + sum F and the gradient of x_l has a term that no layer scales. Otherwise
the factors of h multiply this term, as a product over all units in between.

He et al., 2016, https://arxiv.org/abs/1512.03385: plain and residual nets, basic and bottleneck units;
He et al., 2016, https://arxiv.org/abs/1603.05027: shortcuts h (table 1), orders of activation (table 2)

The layout follows the papers' networks for CIFAR: one 3x3 convolution, then stages of units with 1, 2 and 4 times
the width, each stage but the first halving the image, then the mean over the image. Depth is 6 `units` + 2
with basic units and 9 `units` + 2 with bottlenecks.

Differences from the papers: group normalisation is the default, because an agent acts on other
batches than it learns from; a unit that changes its shape always has a projection, a 1x1 convolution.
"""

from collections.abc import Callable
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rlbench.backbones.encoders._base import Kind
from rlbench.errors import UserError

Norm = Literal["bn", "gn", "none"]
Shortcut = Literal[
    "identity", "none", "scale", "scale-both", "exclusive-gate", "shortcut-gate", "conv", "dropout"
]
"""h(x): x; nothing, which makes a plain net; x / 2; x / 2 with F / 2; (1 - g) x with g F; (1 - g) x with F;
a 1x1 convolution of x; x with half of its numbers dropped. The gate is g = sigmoid(conv(x) + gate_bias)."""
Order = Literal[
    "original", "norm-after-addition", "relu-before-addition", "relu-preactivation",
    "full-preactivation",
]  # fmt: skip
"""Order of normalisation (N), ReLU (R), convolutions (C) and the addition (+) in a unit: CNRCN+R; CNRC+NR;
CNRCNR+; RCNRCN+; NRCNRC+."""
EXPANSION = 4
"""Output channels of a bottleneck per inner channel."""
GROUPS = 8
"""Groups of channels in group normalisation, or as many as divide the channels."""
DROPPED = 0.5
"""Share of a shortcut's values that dropout sets to 0."""


class Unit(nn.Module):
    """One residual unit, [B, C, H, W] to [B, C', H / stride, W / stride]."""

    def __init__(
        self, channels: int, width: int, stride: int, block: str, norm: Norm,
        shortcut: Shortcut, order: Order, gate_bias: float,
    ) -> None:  # fmt: skip
        """See `resnet_layers`; reads `channels` channels, and the inner convolutions have `width`."""
        super().__init__()
        out = width * (EXPANSION if block == "bottleneck" else 1)
        # A bottleneck has its stride in the 3x3 convolution, where it skips no inputs.
        kernels = ((1, 1), (3, stride), (1, 1)) if block == "bottleneck" else ((3, stride), (3, 1))
        widths = [channels, *[width] * (len(kernels) - 1), out]
        self.order, self.shortcut = order, shortcut
        self.convolutions = nn.ModuleList(
            _convolution(widths[i], widths[i + 1], kernel, norm, step)
            for i, (kernel, step) in enumerate(kernels)
        )
        # Before each convolution in full pre-activation, after it in all other orders.
        before = order == "full-preactivation"
        self.norms = nn.ModuleList(
            _norm(norm, size) for size in (widths[:-1] if before else widths[1:])
        )
        self.changes = stride != 1 or channels != out
        self.projection: nn.Module | None = None
        if self.changes and shortcut != "none":
            self.projection = _convolution(channels, out, 1, norm, stride)
            if not before:
                self.projection = nn.Sequential(self.projection, _norm(norm, out))
        if shortcut in ("exclusive-gate", "shortcut-gate"):
            self.gate = _convolution(channels, out, 1, "none", stride)
            nn.init.constant_(self.gate.bias, gate_bias)  # type: ignore[arg-type]
        elif shortcut == "conv" and not self.changes:
            self.mapping = Pointwise(channels, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """f(h(x) + F(x))."""
        if self.order == "full-preactivation":
            active = self.norms[0](x).relu()
            # A unit that changes the shape normalises once, for both branches.
            return self._join(active if self.changes else x, self._residual(active), x)
        joined = self._join(x, self._residual(x), x)
        if self.order == "original":
            return joined.relu()
        if self.order == "norm-after-addition":
            out: Tensor = self.norms[-1](joined).relu()
            return out
        return joined

    def _residual(self, x: Tensor) -> Tensor:
        """F(x)."""
        last = len(self.convolutions) - 1
        for i, convolution in enumerate(self.convolutions):
            if self.order == "full-preactivation":
                x = convolution(x if i == 0 else self.norms[i](x).relu())
                continue
            if self.order == "relu-preactivation":
                x = x.relu()
            x = convolution(x)
            if i < last or self.order != "norm-after-addition":
                x = self.norms[i](x)
            if self.order == "relu-before-addition" or (
                i < last and self.order != "relu-preactivation"
            ):
                x = x.relu()
        return x

    def _join(self, skipped: Tensor, residual: Tensor, x: Tensor) -> Tensor:
        """H + F; `skipped` is the input of a projection."""
        if self.shortcut == "none":
            return residual
        # All shortcuts in the net are scaled, gated or dropped, also those with a projection.
        past = x if self.projection is None else self.projection(skipped)
        if self.shortcut == "scale":
            return 0.5 * past + residual
        if self.shortcut == "scale-both":
            return 0.5 * (past + residual)
        if self.shortcut == "conv" and not self.changes:
            return self.mapping(x) + residual  # type: ignore[no-any-return]
        if self.shortcut == "dropout":
            # Not rescaled: the paper's dropout halves the shortcut on average.
            kept = torch.rand_like(past) >= DROPPED if self.training else 1 - DROPPED
            return kept * past + residual
        if self.shortcut in ("exclusive-gate", "shortcut-gate"):
            gate = self.gate(x).sigmoid()
            share = gate if self.shortcut == "exclusive-gate" else 1
            return (1 - gate) * past + share * residual  # type: ignore[no-any-return]
        return past + residual


class ResNet(nn.Module):
    """The first convolution, the stages and the mean over the image."""

    def __init__(self, first: nn.Module, stages: list[nn.Module], last: nn.Module) -> None:
        """Layers that are applied in order, from [B, C, H, W]."""
        super().__init__()
        self.first, self.stages, self.last = first, nn.ModuleList(stages), last

    def maps(self, x: Tensor) -> list[Tensor]:
        """Output of each stage, [B, C, H, W] with strides 1, 2, 4."""
        x, found = self.first(x), []
        for stage in self.stages:
            x = stage(x)
            found.append(x)
        return [*found[:-1], self.last(found[-1])]

    def forward(self, x: Tensor) -> Tensor:
        """Features, [B, size]."""
        return self.maps(x)[-1].mean((2, 3))


def resnet_layers(
    channels: int,
    units: int = 3,
    width: int = 16,
    stages: int = 3,
    block: str = "basic",
    norm: str = "gn",
    shortcut: str = "identity",
    order: str = "original",
    gate_bias: float = -6.0,
) -> ResNet:
    """A residual net, or a plain one.

    Args:
        channels: Channels of an image.
        units: In each stage (paper: n); 3 make ResNet-20, 9 ResNet-56.
        width: Channels of the first stage, doubled by each further one.
        stages: Number of stages; each but the first halves the image.
        block: `basic` or `bottleneck`.
        norm: See `Norm`.
        shortcut: See `Shortcut`.
        order: See `Order`.
        gate_bias: Initial bias of the gates; below 0 they let x pass.

    Raises:
        UserError: An option has no such value.
    """
    for name, value, known in (
        ("block", block, ("basic", "bottleneck")), ("norm", norm, get_args(Norm)),
        ("shortcut", shortcut, get_args(Shortcut)), ("order", order, get_args(Order)),
    ):  # fmt: skip
        if value not in known:
            raise UserError(f"{name} of resnet is {value!r}; give one of {', '.join(known)}")
    for name, count in (("units", units), ("width", width), ("stages", stages)):
        if count < 1:
            raise UserError(f"{name} of resnet is {count}; give 1 or more")
    preactivated = order.endswith("preactivation")
    first: list[nn.Module] = [_convolution(channels, width, 3, norm, 1)]  # type: ignore[arg-type]
    if order != "full-preactivation":
        first += [_norm(norm, width), nn.ReLU()]
    size, made = width, []
    for stage in range(stages):
        row = []
        for i in range(units):
            stride = 2 if stage > 0 and i == 0 else 1
            inner = width * 2**stage
            row.append(Unit(size, inner, stride, block, norm, shortcut, order, gate_bias))  # type: ignore[arg-type]
            size = inner * (EXPANSION if block == "bottleneck" else 1)
        made.append(nn.Sequential(*row))
    last: list[nn.Module] = []
    if order == "full-preactivation":
        last = [_norm(norm, size), nn.ReLU()]
    elif preactivated or order == "relu-before-addition":
        last = [nn.ReLU()]
    return ResNet(nn.Sequential(*first), list(made), nn.Sequential(*last))


class Pointwise(nn.Conv2d):
    """A 1x1 convolution that drops the rows and columns that its stride skips before it multiplies.

    oneDNN 3.12, which PyTorch 2.13 is built with, writes out of bounds in the gradient of a strided 1x1
    convolution in channels-last format, on processors with AVX2 but without AVX-512.
    """

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to [B, out, H / stride, W / stride], rounded up."""
        rows, columns = self.stride
        return F.conv2d(x[:, :, ::rows, ::columns], self.weight, self.bias)


def _convolution(channels: int, out: int, kernel: int, norm: Norm, stride: int) -> nn.Conv2d:
    """A convolution with He's initialisation, and a bias only if no normalisation follows."""
    kind = Pointwise if kernel == 1 else nn.Conv2d
    layer = kind(channels, out, kernel, stride=stride, padding=kernel // 2, bias=norm == "none")
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return layer


def _norm(norm: str, channels: int) -> nn.Module:
    make: dict[str, Callable[[], nn.Module]] = {
        "bn": lambda: nn.BatchNorm2d(channels),
        "gn": lambda: nn.GroupNorm(GROUPS if channels % GROUPS == 0 else 1, channels),
        "none": nn.Identity,
    }
    return make[norm]()


RESNET = Kind(resnet_layers, "images", scale=1 / 255, memory_format=torch.channels_last)
