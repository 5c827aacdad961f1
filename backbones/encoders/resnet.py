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

from math import isfinite
from typing import Literal

import torch
from torch import Tensor, nn

from rlbench.backbones.encoders._base import Kind, at_least_one
from rlbench.backbones.layers.convolution import Norm, Pointwise, convolution, normalisation
from rlbench.backbones.layers.pooling import LEVELS, Head, make_head
from rlbench.errors import UserError

Block = Literal["basic", "bottleneck"]
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
DROPPED = 0.5
"""Share of a shortcut's values that dropout sets to 0."""


class Unit(nn.Module):
    """One residual unit, [B, C, H, W] to [B, C', H / stride, W / stride]."""

    def __init__(
        self, channels: int, width: int, stride: int, block: Block, norm: Norm,
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
            convolution(widths[i], widths[i + 1], kernel, norm, step)
            for i, (kernel, step) in enumerate(kernels)
        )
        # Before each convolution in full pre-activation, after it in all other orders.
        before = order == "full-preactivation"
        self.norms = nn.ModuleList(
            normalisation(norm, size) for size in (widths[:-1] if before else widths[1:])
        )
        self.changes = stride != 1 or channels != out
        self.projection: nn.Module | None = None
        if self.changes and shortcut != "none":
            self.projection = convolution(channels, out, 1, norm, stride)
            if not before:
                self.projection = nn.Sequential(self.projection, normalisation(norm, out))
        if shortcut in ("exclusive-gate", "shortcut-gate"):
            self.gate = convolution(channels, out, 1, "none", stride)
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
        for i, layer in enumerate(self.convolutions):
            if self.order == "full-preactivation":
                x = layer(x if i == 0 else self.norms[i](x).relu())
                continue
            if self.order == "relu-preactivation":
                x = x.relu()
            x = layer(x)
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
    """The first convolution, the stages and the head."""

    def __init__(
        self, first: nn.Module, stages: list[nn.Module], last: nn.Module, head: nn.Module
    ) -> None:
        """Layers that are applied in order, from [B, C, H, W]."""
        super().__init__()
        self.first, self.stages, self.last, self.head = first, nn.ModuleList(stages), last, head
        self.strides = tuple(2**stage for stage in range(len(stages)))

    def maps(self, x: Tensor) -> list[Tensor]:
        """Output of each stage, [B, C, H, W] with strides 1, 2, 4."""
        x, found = self.first(x), []
        for stage in self.stages:
            x = stage(x)
            found.append(x)
        return [*found[:-1], self.last(found[-1])]

    def forward(self, x: Tensor) -> Tensor:
        """Features, [B, size]."""
        features: Tensor = self.head(self.maps(x)[-1])
        return features


def resnet_layers(
    channels: int,
    units: int = 3,
    width: int = 16,
    stages: int = 3,
    block: Block = "basic",
    norm: Norm = "gn",
    shortcut: Shortcut = "identity",
    order: Order = "original",
    gate_bias: float = -6.0,
    head: Head = "gap",
    levels: str = LEVELS,
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
        head: From the last map to the features; see `layers/pooling.py`.
        levels: See `make_head`.

    Raises:
        UserError: An option has no such value.
    """
    at_least_one("resnet", units=units, width=width, stages=stages)
    if not isfinite(gate_bias):
        raise UserError(f"gate_bias of resnet is {gate_bias}; give a finite number")
    preactivated = order.endswith("preactivation")
    first: list[nn.Module] = [convolution(channels, width, 3, norm)]
    if order != "full-preactivation":
        first += [normalisation(norm, width), nn.ReLU()]
    size, made = width, []
    for stage in range(stages):
        row = []
        for i in range(units):
            stride = 2 if stage > 0 and i == 0 else 1
            inner = width * 2**stage
            row.append(Unit(size, inner, stride, block, norm, shortcut, order, gate_bias))
            size = inner * (EXPANSION if block == "bottleneck" else 1)
        made.append(nn.Sequential(*row))
    last: list[nn.Module] = []
    if order == "full-preactivation":
        last = [normalisation(norm, size), nn.ReLU()]
    elif preactivated or order == "relu-before-addition":
        last = [nn.ReLU()]
    return ResNet(nn.Sequential(*first), list(made), nn.Sequential(*last), make_head(head, levels))


RESNET = Kind(resnet_layers, "images", scale=1 / 255, memory_format=torch.channels_last)
