"""Architectures of convolutional networks as plain data: a convolution, blocks of similar layers, an output.

An architecture search chooses one, an encoder is made from one, and a file keeps one:

    {"space": "", "first": 8, "stem": 2, "blocks": ["mbconv6_r2_k3_s2_o16_se0.25_identity"], "last": 0, "size": 0}

`MNASNET_A1` and the others are networks that MnasNet's authors found. Their code has a similar notation for blocks
(r: layers, k: kernel, s: stride, o: filters, se: ratio of squeeze-and-excitation). Standard library only.

Tan et al., 2019, https://arxiv.org/abs/1807.11626; code: https://github.com/tensorflow/tpu,
models/official/mnasnet/mnasnet_models.py
"""

import dataclasses
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from rlbench.errors import UserError

EXPANSIONS = {"conv": 0, "dwconv": 1, "mbconv3": 3, "mbconv6": 6}
"""Operations of a layer: a convolution, a depthwise-separable convolution, and inverted residuals with their expansion of the
channels; the depthwise-separable convolution expands by 1."""
OPS = tuple(EXPANSIONS)
SKIPS = ("pool", "identity", "none")
"""What a layer adds to its output: its input after average pooling, its input, or nothing."""
DIVISOR = 8
"""Filters of the published networks are multiples of it."""
SEPARATOR = "+"
"""Between blocks in the options of an encoder."""
_BLOCK = re.compile(
    rf"({'|'.join(OPS)})_r(\d+)_k(\d+)_s(\d+)_o(\d+)(?:_se(\d+(?:\.\d+)?))?_({'|'.join(SKIPS)})"
)
_EXAMPLE = "mbconv6_r2_k3_s2_o24_se0.25_identity"


@dataclass(frozen=True)
class Block:
    """Layers that differ in nothing but the stride and the input of the first one."""

    op: str
    """One of `OPS`."""
    kernel: int
    """Odd length of the square kernel."""
    se: float
    """Channels of squeeze-and-excitation per input channel of a layer; 0: none."""
    skip: str
    """One of `SKIPS`."""
    filters: int
    """Output channels of each layer."""
    layers: int
    """Number of layers."""
    stride: int
    """Stride of the first layer; all others have 1."""

    def __post_init__(self) -> None:
        """Refuses values that no network can have."""
        for name, names in (("op", OPS), ("skip", SKIPS)):
            if getattr(self, name) not in names:
                raise UserError(
                    f"{name} of a block is {getattr(self, name)!r}; give one of {', '.join(names)}"
                )
        _at_least(1, "a block", kernel=self.kernel, filters=self.filters)
        _at_least(1, "a block", layers=self.layers, stride=self.stride)
        if self.kernel % 2 == 0:
            raise UserError(f"kernel of a block is {self.kernel}; give an odd number")
        if not 0 <= self.se <= 1:
            raise UserError(f"se of a block is {self.se}; give a number from 0 to 1")

    @classmethod
    def parse(cls, text: str) -> "Block":
        """The block of a notation.

        >>> Block.parse("dwconv_r1_k3_s1_o16_none").filters
        16

        Raises:
            UserError: It is no such notation.
        """
        match = _BLOCK.fullmatch(text)
        if match is None:
            raise UserError(f"{text!r} describes no block; give one such as {_EXAMPLE}")
        op, layers, kernel, stride, filters, se, skip = match.groups()
        return cls(op, int(kernel), float(se or 0), skip, int(filters), int(layers), int(stride))

    def __str__(self) -> str:
        """The notation, which `parse` reads."""
        se = f"_se{self.se:g}" if self.se else ""
        return f"{self.op}_r{self.layers}_k{self.kernel}_s{self.stride}_o{self.filters}{se}_{self.skip}"

    def uses_identity(self, channels: int) -> bool:
        """Whether any layer can add its input, given the channels of the first one's input."""
        return self.layers > 1 or (self.stride == 1 and channels == self.filters)


@dataclass(frozen=True)
class Architecture:
    """A network from images to features."""

    space: str
    """Name of the space of a search that it is from; empty for any other."""
    first: int
    """Filters of the first convolution."""
    stem: int
    """Stride of the first convolution."""
    blocks: tuple[Block, ...]
    """From fine to coarse."""
    last: int = 0
    """Filters of the 1x1 convolution after the blocks; 0: there is none."""
    size: int = 0
    """Units of the linear layer after the pooling; 0: there is none."""

    def __post_init__(self) -> None:
        """Refuses values that no network can have."""
        _at_least(1, "an architecture", first=self.first, stem=self.stem)
        _at_least(0, "an architecture", last=self.last, size=self.size)
        if not self.blocks:
            raise UserError("an architecture has no blocks; give at least one")

    def to_json(self) -> dict[str, Any]:
        """A dictionary of plain values, which `from_json` reads."""
        plain = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return plain | {"blocks": [str(block) for block in self.blocks]}

    @classmethod
    def from_json(cls, saved: Any) -> "Architecture":
        """The architecture of a dictionary.

        Raises:
            UserError: A field is missing, unknown or has a wrong value.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        if not isinstance(saved, Mapping) or set(saved) != set(names):
            given = ", ".join(map(str, saved)) if isinstance(saved, Mapping) else repr(saved)
            raise UserError(
                f"an architecture has the fields {', '.join(names)}, but this one has {given or 'none'}; give all "
                "of them and no others"
            )
        blocks = saved["blocks"]
        if not isinstance(blocks, list) or not all(isinstance(block, str) for block in blocks):
            raise UserError(f"blocks is {blocks!r}; give a list of texts such as {_EXAMPLE}")
        if not isinstance(saved["space"], str):
            raise UserError(f"space is {saved['space']!r}; give the name of a space, or ''")
        return cls(**{**saved, "blocks": tuple(Block.parse(block) for block in blocks)})

    def options(self) -> str:
        """The options that make this network as the encoder `mnas`."""
        blocks = SEPARATOR.join(str(block) for block in self.blocks)
        return (
            f"first={self.first},stem={self.stem},last={self.last},size={self.size},blocks={blocks}"
        )


def read_architecture(path: Path) -> Architecture:
    """The architecture of a JSON file.

    Raises:
        UserError: The file cannot be read, or holds no architecture.
    """
    try:
        return Architecture.from_json(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise UserError(
            f"cannot read the architecture {path} ({error.strerror}); give an existing JSON file"
        ) from error
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except ValueError as error:
        raise UserError(
            f"{path} is no JSON file ({error}); give one with an architecture"
        ) from error


def rounded(channels: float, divisor: int = DIVISOR) -> int:
    """The nearest multiple of `divisor`, at least one, or the next one above if it is below 90 % of `channels`.

    The rule of MobileNetV2's and MnasNet's authors.
    """
    nearest = max(divisor, int(channels / divisor + 0.5) * divisor)
    return nearest if nearest >= 0.9 * channels else nearest + divisor


def scaled(architecture: Architecture, width: float) -> Architecture:
    """The same network with `width` times the filters, except those of the last convolution.

    Filters are multiples of the largest power of two up to 8 that divides them all at width 1.

    Raises:
        UserError: `width` is no number above 0.
    """
    if not (isfinite(width) and width > 0):
        raise UserError(f"width is {width}; give a number above 0")
    filters = (architecture.first, *(block.filters for block in architecture.blocks))
    divisor = next(n for n in (DIVISOR, 4, 2, 1) if all(each % n == 0 for each in filters))
    first, *others = (rounded(width * each, divisor) for each in filters)
    blocks = tuple(
        dataclasses.replace(block, filters=each)
        for block, each in zip(architecture.blocks, others, strict=True)
    )
    return dataclasses.replace(architecture, first=first, blocks=blocks)


def live(architecture: Architecture) -> Architecture:
    """The same network, in which a block whose layers can never add their input has no skip."""
    blocks, channels = [], architecture.first
    for block in architecture.blocks:
        dead = block.skip == "identity" and not block.uses_identity(channels)
        blocks.append(dataclasses.replace(block, skip="none") if dead else block)
        channels = block.filters
    return dataclasses.replace(architecture, blocks=tuple(blocks))


def _at_least(least: int, owner: str, **counts: Any) -> None:
    """Refuses anything but whole numbers from `least` on."""
    for name, count in counts.items():
        if type(count) is not int or count < least:
            raise UserError(f"{name} of {owner} is {count!r}; give a whole number, {least} or more")


def _published(first: int, *blocks: str) -> Architecture:
    return Architecture("", first, 2, tuple(Block.parse(block) for block in blocks), last=1280)


MNASNET_A1 = _published(
    32,
    "dwconv_r1_k3_s1_o16_none",
    "mbconv6_r2_k3_s2_o24_identity",
    "mbconv3_r3_k5_s2_o40_se0.25_identity",
    "mbconv6_r4_k3_s2_o80_identity",
    "mbconv6_r2_k3_s1_o112_se0.25_identity",
    "mbconv6_r3_k5_s2_o160_se0.25_identity",
    "mbconv6_r1_k3_s1_o320_identity",
)
"""The network of the paper's figure 7."""
MNASNET_B1 = _published(
    32,
    "dwconv_r1_k3_s1_o16_none",
    "mbconv3_r3_k3_s2_o24_identity",
    "mbconv3_r3_k5_s2_o40_identity",
    "mbconv6_r3_k5_s2_o80_identity",
    "mbconv6_r2_k3_s1_o96_identity",
    "mbconv6_r4_k5_s2_o192_identity",
    "mbconv6_r1_k3_s1_o320_none",
)
"""The network found without squeeze-and-excitation, of the authors' code."""
# The code declares 16 input filters for the first block, although it has 8, so that it never adds its input.
MNASNET_SMALL = _published(
    8,
    "dwconv_r1_k3_s1_o8_none",
    "mbconv3_r1_k3_s2_o16_identity",
    "mbconv6_r2_k3_s2_o16_identity",
    "mbconv6_r4_k5_s2_o32_se0.25_identity",
    "mbconv6_r3_k3_s1_o32_se0.25_identity",
    "mbconv6_r3_k5_s2_o88_se0.25_identity",
    "mbconv6_r1_k3_s1_o144_identity",
)
"""The small network of the authors' code."""
