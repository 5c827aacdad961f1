"""FC-DenseNet: dense blocks that downsample to a small map and upsample again, to classify every pixel.

A layer adds `growth` (paper: k) maps to the stack of all maps so far:

    stack <- [stack, dropout(conv3x3(relu(N(stack))))]

A block is several layers. On the way down each block is followed by a transition (N, ReLU, conv1x1, dropout, max-pooling), and its
stack is kept. On the way up

    stack <- [up(new), kept],    new: the maps that the last block added,    up: transposed conv3x3 with stride 2

and a block follows. Only new maps are upsampled, not the whole stack, so that the number of maps stays linear in the
depth. The stacks on the way up are the encoder's pyramid.

| | first convolution | blocks down | bottleneck | blocks up |
|---|---|---|---|---|
| maps of FC-DenseNet103 | 48 | 112, 192, 304, 464, 656 | 896 | 1088, 816, 576, 384, 256 |
| layers | 1 | 4, 5, 7, 10, 12 | 15 | 12, 10, 7, 5, 4 |

Jegou et al., 2017, https://arxiv.org/abs/1611.09326; the maps follow the errata in the authors' repository,
https://github.com/SimJeg/FC-DenseNet, README, as do biases, initialisation and the crop of odd sizes (layers.py).

Differences from the paper: the head reads the last stack, where the paper has a 1x1 convolution to classes; group
normalisation is the default, and dropout (paper: 0.2) is 0, because an agent does not act on the batches
that it learns from; the default is a small network with three poolings, for frames of 64 pixels.
"""

from typing import TypeVar

import torch
from torch import Tensor, nn

from rlbench.backbones.encoders._base import Kind, at_least_one
from rlbench.backbones.layers.convolution import Norm, normalisation
from rlbench.backbones.layers.pooling import LEVELS, Head, make_head, whole_numbers
from rlbench.errors import UserError

C = TypeVar("C", nn.Conv2d, nn.ConvTranspose2d)


class Block(nn.Module):
    """Layers that each add `growth` maps, [B, C, H, W] to [B, C + layers * growth, H, W]."""

    def __init__(self, channels: int, growth: int, layers: int, norm: Norm, dropout: float) -> None:
        """Reads C channels."""
        super().__init__()
        self.layers = nn.ModuleList(
            _layer(channels + i * growth, growth, 3, norm, dropout) for i in range(layers)
        )

    def forward(self, stack: Tensor) -> Tensor:
        """The stack with the new maps at its end."""
        for layer in self.layers:
            stack = torch.cat([stack, layer(stack)], dim=1)
        return stack


class FCDenseNet(nn.Module):
    """Blocks on the way down and up, then the head."""

    def __init__(
        self, channels: int, first: int, growth: int, layers: tuple[int, ...], norm: Norm,
        dropout: float, head: nn.Module,
    ) -> None:  # fmt: skip
        """See `fc_densenet_layers`; `layers` has the layers of each block, down and up."""
        super().__init__()
        pools = len(layers) // 2
        self.first = _initialised(nn.Conv2d(channels, first, 3, padding=1))
        size, kept = first, []
        self.down, self.transitions = nn.ModuleList(), nn.ModuleList()
        for count in layers[:pools]:
            self.down.append(Block(size, growth, count, norm, dropout))
            size += count * growth
            kept.append(size)
            self.transitions.append(
                nn.Sequential(_layer(size, size, 1, norm, dropout), nn.MaxPool2d(2))
            )
        self.bottleneck = Block(size, growth, layers[pools], norm, dropout)
        self.new = [count * growth for count in layers[pools:-1]]
        self.enlarge, self.up = nn.ModuleList(), nn.ModuleList()
        for new, skipped, count in zip(self.new, reversed(kept), layers[pools + 1 :], strict=True):
            self.enlarge.append(_initialised(nn.ConvTranspose2d(new, new, 3, stride=2)))
            self.up.append(Block(new + skipped, growth, count, norm, dropout))
        self.head = head
        self.strides = tuple(2**i for i in reversed(range(pools + 1)))

    def maps(self, x: Tensor) -> list[Tensor]:
        """Stacks of the bottleneck and of each block on the way up, [B, C, H, W]."""
        stack, kept = self.first(x), []
        for block, transition in zip(self.down, self.transitions, strict=True):
            stack = block(stack)
            kept.append(stack)
            stack = transition(stack)
        found = [self.bottleneck(stack)]
        for new, enlarge, block in zip(self.new, self.enlarge, self.up, strict=True):
            skipped = kept.pop()
            # H rows become 2 H + 1: one too many unless the pooling dropped one.
            rows, columns = skipped.shape[2:]
            large = enlarge(found[-1][:, -new:])[:, :, :rows, :columns]
            found.append(block(torch.cat([large, skipped], dim=1)))
        return found

    def forward(self, x: Tensor) -> Tensor:
        """Features, [B, size]."""
        features: Tensor = self.head(self.maps(x)[-1])
        return features


def _layer(channels: int, out: int, kernel: int, norm: Norm, dropout: float) -> nn.Sequential:
    """Normalisation, ReLU, convolution, dropout."""
    made = _initialised(nn.Conv2d(channels, out, kernel, padding=kernel // 2))
    layers = [normalisation(norm, channels), nn.ReLU(), made]
    return nn.Sequential(*layers, *([nn.Dropout(dropout)] if dropout else []))


def _initialised(layer: C) -> C:
    """The layer with He's uniform initial weights and zero biases, as in the authors' code."""
    nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


def fc_densenet_layers(
    channels: int,
    growth: int = 8,
    layers: str = "2",
    pools: int = 3,
    first: int = 24,
    dropout: float = 0.0,
    norm: Norm = "gn",
    head: Head = "gap",
    levels: str = LEVELS,
) -> FCDenseNet:
    """The network.

    Args:
        channels: Channels of an image.
        growth: Maps that a layer adds (paper: k).
        layers: Layers per block: one number, or one for each of the 2 `pools` + 1 blocks, as in 3-4-5-4-3.
        pools: Number of blocks on the way down, and again on the way up.
        first: Maps of the first convolution (paper: 48).
        dropout: Fraction of the values that is set to 0 after each convolution.
        norm: See `Norm`.
        head: From the last stack to the features; see `layers/pooling.py`.
        levels: See `make_head`.

    Raises:
        UserError: The value of an option is not allowed.
    """
    at_least_one("fc-densenet", growth=growth, pools=pools, first=first)
    if not 0 <= dropout < 1:
        raise UserError(f"dropout of fc-densenet is {dropout}; give 0 or more and below 1")
    counts, blocks = whole_numbers("layers", layers, "2 or 3-4-5-4-3"), 2 * pools + 1
    if len(counts) not in (1, blocks):
        raise UserError(
            f"layers of fc-densenet has {len(counts)} numbers, but {pools} pools make {blocks} blocks; give "
            f"1 or {blocks} numbers"
        )
    counts = counts * blocks if len(counts) == 1 else counts
    return FCDenseNet(channels, first, growth, counts, norm, dropout, make_head(head, levels))


FC_DENSENET = Kind(fc_densenet_layers, "images", scale=1 / 255, memory_format=torch.channels_last)
