"""Networks for the distribution of an image, pixel after pixel, and samples of it.

    p(x) = prod_i p(x_i | x_1, ..., x_{i-1})        pixels from the left to the right and from the top to the bottom, and the channels of
                                                    a pixel one after the other

A sample draws one value at a time. The naive way passes the whole image through the network for each of them (`naive_sample`);
`sample` computes every activation once: rows of the vertical stack when the row above is complete, and the other layers at one pixel at
a time, from inputs that are kept. Both draw the same values from the same noise, apart from rounding.
"""

import copy
import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rlbench.backbones.layers.masked import (
    LAYERS,
    CausalAttention,
    CausalConv,
    GatedLayer,
    PlainLayer,
    gate,
    pointwise,
)

Form = Literal["gated", "plain", "independent"]


class Independent(nn.Module):
    """A distribution of each value by itself, without a network."""

    def __init__(self, channels: int, levels: int, rows: int, columns: int) -> None:
        """All values are equally likely at first."""
        super().__init__()
        self.table = nn.Parameter(torch.zeros(channels, levels, rows, columns))

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Logits, [B, C, levels, H, W]."""
        return self.table.expand(len(x), *self.table.shape)


class PixelNetwork(nn.Module):
    """A PixelCNN: layers of one form, and self-attention after the last ones."""

    def __init__(
        self,
        channels: int,
        levels: int,
        rows: int,
        columns: int,
        *,
        form: Literal["gated", "plain"] = "gated",
        one_hot: bool = True,
        width: int = 32,
        layers: int = 5,
        kernel: int = 3,
        attention: int = 0,
        condition: int = 0,
    ) -> None:
        """An untrained network.

        Args:
            channels: Channels of the image, C.
            levels: Number of values of a pixel.
            rows: H.
            columns: W.
            form: See `masked.py`.
            one_hot: Whether the network reads values as one-hot vectors, as suits categories, or as numbers from -1 to 1.
            width: Feature maps of each layer; of each stack in the gated form (paper: p).
            layers: Number of layers, the first one with mask A included.
            kernel: Odd side of the kernels (paper: n).
            attention: Number of layers, counted from the last one, after which there is self-attention.
            condition: Maps of the condition, D; 0: there is none.
        """
        super().__init__()
        self.levels, self.one_hot, self.shape = levels, one_hot, (channels, rows, columns)
        self.inputs = levels if one_hot else 1
        """Numbers by which the network reads a value."""
        self.reach = layers * (kernel // 2)
        """Pixels that the layers reach to the left, to the right and above."""
        self.layers = nn.ModuleList()
        for i in range(layers):
            first, last = i == 0, i == layers - 1
            inputs = channels * self.inputs if first else width
            # One of the values of a one-hot vector is 1.
            gain = self.inputs**0.5 if first else 1.0
            self.layers.append(
                LAYERS[form](
                    inputs, width, kernel, channels, condition, first=first, last=last, gain=gain
                )
            )
        self.attention = nn.ModuleList(
            CausalAttention(width, channels, rows, columns)
            if i >= layers - attention
            else nn.Identity()
            for i in range(layers)
        )
        self.hidden = pointwise(width, width, channels, 2**0.5)
        self.out = pointwise(width, channels * levels, channels)

    def planes(self, x: Tensor) -> Tensor:
        """What the first layer reads, [B, planes, H, W], of values int64 [B, C, H, W]."""
        if not self.one_hot:
            return x.to(self.dtype) * (2 / (self.levels - 1)) - 1
        # `F.one_hot` looks at the values, which a batch by `torch.func.vmap` does not allow.
        each = torch.arange(self.levels, device=x.device)[:, None, None]
        return (x[:, :, None] == each).flatten(1, 2).to(self.dtype)

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights."""
        return self.out.weight.dtype

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Logits of all values, [B, C, levels, H, W].

        Args:
            x: Values, int64 [B, C, H, W].
            condition: [B, D, H, W], or [B, D, 1, 1] if it is the same for all pixels.
        """
        return self.logits(self.planes(x), condition)

    def logits(self, planes: Tensor, condition: Tensor | None = None) -> Tensor:
        """The same from what `planes` returns."""
        v = h = planes
        for layer, attention in zip(self.layers, self.attention, strict=True):
            v, h = layer(v, h, condition)
            h = attention(h)
        found = self.out(torch.relu(self.hidden(torch.relu(h))))
        split: Tensor = found.unflatten(1, (self.shape[0], self.levels))
        return split


def receptive_field(network: PixelNetwork, channel: int, row: int, column: int) -> Tensor:
    """Which values affect the prediction of one value, bool [C, H, W].

    Its gradient is computed with positive weights and inputs in place of the network's own, so that no unit is off, no gate is
    saturated, and effects do not cancel: it is 0 only if no path leads from a value to the prediction.
    """
    twin = copy.deepcopy(network).double().cpu()
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return 0.5 + torch.rand(shape, generator=generator, dtype=torch.double)

    channels, rows, columns = network.shape
    planes = draw(1, channels * network.inputs, rows, columns).requires_grad_()
    with torch.enable_grad():
        for p in twin.parameters():
            p.data.copy_(draw(*p.shape) / p[0].numel())
        logits = twin.logits(planes)[0, channel, :, row, column]
        (gradient,) = torch.autograd.grad((logits * draw(*logits.shape)).sum(), planes)
    found: Tensor = (gradient[0] != 0).unflatten(0, (channels, -1)).any(1)
    return found


def causal(network: PixelNetwork, channel: int, row: int, column: int) -> Tensor:
    """Values that come before a value, bool [C, H, W]."""
    place = torch.arange(math.prod(network.shape)).view(*network.shape[1:], network.shape[0])
    return place.movedim(2, 0) < place[row, column, channel]


def blind_and_leaks(network: PixelNetwork) -> tuple[int, int]:
    """For the last channel of the middle pixel of the last row: the pixels that should affect it but do not, and the values that do but should not.

    Pixels before it that are no further away, in rows and in columns, than the layers reach should affect it.
    """
    channels, rows, columns = network.shape
    at = channels - 1, rows - 1, columns // 2
    found, before = receptive_field(network, *at), causal(network, *at)
    reach = network.reach
    far = torch.maximum(at[1] - torch.arange(rows)[:, None], (at[2] - torch.arange(columns)).abs())
    blind = (before & (far <= reach)).any(0) & ~found.any(0)
    return int(blind.sum()), int((found & ~before).sum())


def log_probability(logits: Tensor, x: Tensor) -> Tensor:
    """Log-probability of each image in nats, [B], from logits [B, C, levels, H, W] and values int64 [B, C, H, W]."""
    return -F.cross_entropy(logits.transpose(1, 2), x, reduction="none").flatten(1).sum(1)


def drawn(logits: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Values int64 [B] with the distribution of logits [B, levels], and their log-probabilities, [B].

    Args:
        logits: Unnormalised log-probabilities.
        noise: Uniform draws from [0, 1), [B].
    """
    log_p = logits.log_softmax(dim=1)
    value = (log_p.exp().cumsum(1) <= noise[:, None]).sum(1, keepdim=True)
    value = value.clamp(max=logits.shape[1] - 1)  # The sum of all may be below 1 by rounding.
    return value[:, 0], log_p.gather(1, value)[:, 0]


@torch.no_grad()
def naive_sample(
    network: nn.Module, noise: Tensor, condition: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Images int64 [B, C, H, W] and their log-probabilities [B], with a pass of the whole network for each value.

    Args:
        network: A `PixelNetwork` or `Independent`.
        noise: Uniform draws from [0, 1), [B, C, H, W].
        condition: See `PixelNetwork.forward`.
    """
    batch, channels, rows, columns = noise.shape
    x = torch.zeros(noise.shape, dtype=torch.long, device=noise.device)
    total = noise.new_zeros(batch)
    for r in range(rows):
        for c in range(columns):
            for k in range(channels):
                logits = network(x, condition)[:, k, :, r, c]
                x[:, k, r, c], log_p = drawn(logits, noise[:, k, r, c])
                total += log_p
    return x, total


@torch.no_grad()
def sample(
    network: PixelNetwork, noise: Tensor, condition: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The same, but every activation is computed once; see `naive_sample`."""
    batch, channels, rows, columns = noise.shape
    x = torch.zeros(noise.shape, dtype=torch.long, device=noise.device)
    total = noise.new_zeros(batch)
    blank = network.planes(x)
    steps: list[_Gated | _Plain] = []
    for layer in network.layers:
        if isinstance(layer, GatedLayer):
            steps.append(_Gated(layer, blank, condition))
        elif isinstance(layer, PlainLayer):
            steps.append(_Plain(layer, blank, condition))
    hidden, out = _Dot(network.hidden), _Dot(network.out)
    reads = [
        _Attention(layer, blank) if isinstance(layer, CausalAttention) else None
        for layer in network.attention
    ]
    for r in range(rows):
        above = network.planes(x[:, :, r - 1 : r]) if r else None
        for step in steps:
            above = step.begin_row(r, above)
        for c in range(columns):
            for k in range(channels):
                h = network.planes(x[:, :, r : r + 1, c : c + 1])
                for step, read in zip(steps, reads, strict=True):
                    h = step.pixel(r, c, h)
                    if read is not None:
                        h = read.pixel(r, c, h)
                logits = out(torch.relu(hidden(torch.relu(h))))
                logits = logits.unflatten(1, (channels, -1))[:, k, :, 0, 0]
                x[:, k, r, c], log_p = drawn(logits, noise[:, k, r, c])
                total += log_p
            # The first layer of later pixels also reads the last channel.
            steps[0].keep(r, c, network.planes(x[:, :, r : r + 1, c : c + 1]))
    return x, total


def _at(condition: Tensor | float, r: int, c: int | None = None) -> Tensor | float:
    """The part of a condition [B, D, H or 1, W or 1] for a row, or for one pixel of it."""
    if isinstance(condition, float):
        return condition
    if condition.shape[2] > 1:
        condition = condition[:, :, r : r + 1]
    if c is not None and condition.shape[3] > 1:
        condition = condition[:, :, :, c : c + 1]
    return condition


class _Dot:
    """A convolution at one pixel, as a matrix product, which has less overhead."""

    def __init__(self, convolution: CausalConv | nn.Conv2d) -> None:
        """Of a convolution with or without a mask."""
        weight = convolution.weight
        if isinstance(convolution, CausalConv):
            weight = convolution.weight * convolution.mask
        self.weight, self.bias = weight.flatten(1), convolution.bias

    def __call__(self, window: Tensor) -> Tensor:
        """[B, outputs, 1, 1] of what the kernel covers, [B, inputs, rows, columns]."""
        return F.linear(window.flatten(1), self.weight, self.bias)[..., None, None]


class _Gated:
    """A gated layer, one row of the vertical stack and one pixel of the horizontal one at a time."""

    def __init__(self, layer: GatedLayer, blank: Tensor, condition: Tensor | None) -> None:
        """For images of the shape of `blank`."""
        batch, _, rows, columns = blank.shape
        inputs, self.reach = layer.vertical.weight.shape[1], layer.size // 2
        self.layer, self.columns = layer, columns
        self.horizontal, self.out = _Dot(layer.horizontal), _Dot(layer.out)
        self.v = blank.new_zeros(batch, inputs, rows + self.reach, columns + 2 * self.reach)
        self.h = blank.new_zeros(batch, inputs, 1, columns + self.reach)
        self.left, self.above = layer.conditioned(condition)
        width = layer.vertical.weight.shape[0]
        self.link = self.nothing = layer.link(blank.new_zeros(batch, width, 1, columns))

    def begin_row(self, r: int, above: Tensor | None) -> Tensor | None:
        """The row r - 1 of the output of the vertical stack, from the same row of its input; None if there is none."""
        if above is None:
            return None
        reach = self.reach
        self.v[:, :, r - 1 + reach : r + reach, reach : reach + self.columns] = above
        column = self.layer.vertical.within(self.v[:, :, r - 1 : r + reach])
        self.link = self.layer.link(column)
        if self.layer.last:
            return None
        return gate(column + _at(self.above, r - 1))

    def keep(self, r: int, c: int, h: Tensor) -> None:
        """Keeps the input of a pixel for those to its right."""
        self.h[:, :, :, c + self.reach] = h[..., 0]

    def pixel(self, r: int, c: int, h: Tensor) -> Tensor:
        """The output of a pixel, [B, width, 1, 1], from its input."""
        self.keep(r, c, h)
        row = self.horizontal(self.h[..., c : c + self.reach + 1])
        out = self.out(gate(row + self.link[..., c : c + 1] + _at(self.left, r, c)))
        return out if self.layer.first else h + out


class _Plain:
    """A plain layer, one pixel at a time; see `_Gated`."""

    def __init__(self, layer: PlainLayer, blank: Tensor, condition: Tensor | None) -> None:
        batch, _, rows, columns = blank.shape
        inputs, self.reach = layer.square.weight.shape[1], layer.size // 2
        self.layer = layer
        self.square, self.out = _Dot(layer.square), _Dot(layer.out)
        self.x = blank.new_zeros(batch, inputs, rows + self.reach, columns + 2 * self.reach)
        self.condition = layer.conditioned(condition)

    def begin_row(self, r: int, above: Tensor | None) -> Tensor | None:
        return None

    def keep(self, r: int, c: int, h: Tensor) -> None:
        x = h if self.layer.first else torch.relu(h)
        self.x[:, :, r + self.reach, c + self.reach] = x[..., 0, 0]

    def pixel(self, r: int, c: int, h: Tensor) -> Tensor:
        self.keep(r, c, h)
        window = self.x[:, :, r : r + self.reach + 1, c : c + 2 * self.reach + 1]
        out = self.out(torch.relu(self.square(window) + _at(self.condition, r, c)))
        return out if self.layer.first else h + out


class _Attention:
    """Self-attention, one pixel at a time, with the keys and values of all earlier ones."""

    def __init__(self, layer: CausalAttention, blank: Tensor) -> None:
        batch, _, rows, columns = blank.shape
        self.layer, self.columns = layer, columns
        self.parts = [_Dot(x) for x in (layer.query, layer.key, layer.value, layer.out)]
        size = layer.position.shape[0] // layer.groups
        shape = (batch, layer.groups, rows * columns + 1, size)
        self.key, self.value = blank.new_zeros(shape), blank.new_zeros(shape)

    def pixel(self, r: int, c: int, h: Tensor) -> Tensor:
        layer, i = self.layer, r * self.columns + c
        query, key, value, out = self.parts
        x = h + layer.position[:, r : r + 1, c : c + 1]
        self.key[:, :, i + 1 : i + 2] = layer.heads(key(x))
        self.value[:, :, i + 1 : i + 2] = layer.heads(value(x))
        read = F.scaled_dot_product_attention(
            layer.heads(query(x)), self.key[:, :, : i + 1], self.value[:, :, : i + 1]
        )
        return h + out(read.transpose(2, 3).reshape(h.shape))
