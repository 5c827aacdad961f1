"""MnasNet: the networks of a search for accuracy and latency on a phone, and any other of its search space.

    first convolution (3x3) - blocks of equal layers - last convolution (1x1) - pooling [- linear layer]

A block has its own operation, kernel, squeeze-and-excitation, skip, filters and number of layers; `layers/mnas.py` has the
equations of a layer, and `envs/architectures/space.py` the choices of a search. MnasNet-A1 (figure 7 of the paper):

    | operation | channels | layers | stride | map of an image of 224 pixels |
    |---|---|---|---|---|
    | first convolution | 32 | 1 | 2 | 112 |
    | depthwise-separable convolution, 3x3 | 16 | 1 | 1 | 112 |
    | inverted residual, expansion 6, 3x3 | 24 | 2 | 2 | 56 |
    | expansion 3, 5x5, squeeze-and-excitation | 40 | 3 | 2 | 28 |
    | expansion 6, 3x3 | 80 | 4 | 2 | 14 |
    | expansion 6, 3x3, squeeze-and-excitation | 112 | 2 | 1 | 14 |
    | expansion 6, 5x5, squeeze-and-excitation | 160 | 3 | 2 | 7 |
    | expansion 6, 3x3 | 320 | 1 | 1 | 7 |
    | last convolution | 1280 | 1 | 1 | 7 |

Tan et al., 2019, https://arxiv.org/abs/1807.11626, sections 4.1 and 5; code:
https://github.com/tensorflow/tpu, models/official/mnasnet

Differences from the paper: `stem` is 1 and not 2 in the encoders by name, as in `mobilenet-v2`, so that frames of 64 pixels end in
maps of 4x4; group normalisation is the default, because an agent acts on other batches than it learns from (`stem=2,norm=bn` is
the paper's network). The running statistics of batch normalisation move by 0.1 and not by 0.01 per batch, which is too slow
for the few batches of a search's child, and epsilon is 1e-5 and not 1e-3. The classifier's dropout is part of `build`, not of
the encoder.
"""

import torch
from torch import nn

from rlbench.architecture import SEPARATOR, Architecture, Block, scaled
from rlbench.backbones.encoders._base import Kind
from rlbench.backbones.layers.convolution import Norm, normed_convolution
from rlbench.backbones.layers.mnas import MnasLayer
from rlbench.backbones.layers.pooling import LEVELS, Head, make_head
from rlbench.backbones.layers.stages import Stages
from rlbench.errors import UserError


def network(
    architecture: Architecture,
    channels: int,
    norm: Norm = "gn",
    head: Head = "gap",
    levels: str = LEVELS,
) -> Stages:
    """The network of an architecture, from images to features.

    Args:
        architecture: Its first convolution, blocks and output.
        channels: Channels of an image.
        norm: See `Norm`.
        head: From the last map to the features, before the linear layer if there is one; see `layers/pooling.py`.
        levels: See `make_head`.
    """
    size = architecture.first
    first = normed_convolution(channels, size, 3, norm, architecture.stem)
    layers: list[tuple[int, nn.Module]] = []
    for block in architecture.blocks:
        for i in range(block.layers):
            stride = block.stride if i == 0 else 1
            layers.append((stride, MnasLayer(size, block, stride, norm)))
            size = block.filters
    if architecture.last:
        layers.append((1, normed_convolution(size, architecture.last, 1, norm)))
    pooling = make_head(head, levels)
    if architecture.size:
        # Lazy, because the size of a flat map is known only when an image has been seen.
        pooling = nn.Sequential(pooling, nn.LazyLinear(architecture.size), nn.ReLU())
    return Stages(first, architecture.stem, layers, pooling)


def mnasnet_layers(
    channels: int,
    blocks: str = "",
    first: int = 32,
    stem: int = 1,
    last: int = 1280,
    size: int = 0,
    width: float = 1.0,
    norm: Norm = "gn",
    head: Head = "gap",
    levels: str = LEVELS,
) -> Stages:
    """The network of an encoder's options.

    Args:
        channels: Channels of an image.
        blocks: Notations of the blocks (see `rlbench.architecture`), with + between them.
        first: Filters of the first convolution.
        stem: Stride of the first convolution.
        last: Filters of the last convolution; 0: there is none.
        size: Units of the linear layer after the head; 0: there is none.
        width: Multiplies all numbers of filters but the last one; see `scaled`.
        norm: See `Norm`.
        head: See `network`.
        levels: See `make_head`.

    Raises:
        UserError: An option has no such value.
    """
    if not blocks:
        raise UserError(
            "the encoder mnas needs an architecture; give its file, as in mnas:FILE.json, or mnasnet-a1"
        )
    parsed = tuple(Block.parse(block) for block in blocks.split(SEPARATOR))
    architecture = Architecture("", first, stem, parsed, last, size)
    return network(scaled(architecture, width), channels, norm, head, levels)


def build(
    architecture: Architecture,
    in_shape: tuple[int, ...],
    out: int,
    *,
    norm: Norm = "bn",
    head: Head = "gap",
    dropout: float = 0.2,
) -> nn.Module:
    """The classifier of an architecture, as a search trains it: features, dropout and a linear layer.

    Args:
        architecture: Its first convolution, blocks and output.
        in_shape: Channels, rows and columns of an image, [C, H, W].
        out: Number of classes.
        norm: See `Norm`.
        head: See `network`.
        dropout: Share of features set to 0; the paper's 0.2 is for 350 epochs of ImageNet.

    Returns:
        From images [B, C, H, W] (floats) to logits [B, out].

    Raises:
        UserError: `in_shape` is not the shape of an image, or `out` or `dropout` is out of range.
    """
    if len(in_shape) != 3 or min(in_shape) < 1:
        raise UserError(
            f"in_shape is {in_shape}; give channels, rows and columns, such as (3, 32, 32)"
        )
    if out < 1:
        raise UserError(f"out is {out}; give 1 class or more")
    if not 0 <= dropout < 1:
        raise UserError(f"dropout is {dropout}; give 0 or more and below 1")
    made = nn.Sequential(
        network(architecture, in_shape[0], norm, head), nn.Dropout(dropout), nn.LazyLinear(out)
    )
    made.eval()  # One pixel is enough for batch normalisation, and no statistics change.
    with torch.no_grad():
        made(torch.zeros(1, *in_shape))
    return made.train()


MNASNET = Kind(mnasnet_layers, "images", scale=1 / 255, memory_format=torch.channels_last)
