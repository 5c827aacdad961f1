"""MnasNet's factorised search space: architectures as sequences of tokens.

A network is a sequence of blocks. The layers of one block are alike, and each block has its own choices:

    | token | choices |
    |---|---|
    | op | convolution, depthwise-separable convolution, inverted residual with expansion 3 or 6 |
    | kernel | 3x3, 5x5 |
    | se | squeeze-and-excitation with the ratio 0 (none) or 0.25 |
    | skip | pooling, identity, none |
    | filters | 0.75, 1 or 1.25 times the filters of a reference network |
    | layers | one less, as many as, or one more than in the reference network |

These are S = 4 * 2 * 2 * 3 * 3 * 3 = 432 choices for each of B blocks, so S^B networks (section 4.1 of the paper, which also has
S = 432). The paper lists three operations; the fourth follows from S and from the two expansions in its networks.

Two sequences can describe the same network: an identity cannot be added if the stride or the number of channels changes, a block
of one layer cannot lose one, and multiples of a few filters can round to the same number. `Space.canonical` chooses one of
them.

Tan et al., 2019, https://arxiv.org/abs/1807.11626, section 4.1. `mnas-full` is the paper's space around MobileNetV2; the
smaller spaces are ours, for computers without accelerators.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from operator import index
from typing import Any

from rlbench.architecture import DIVISOR, OPS, SKIPS, Architecture, Block, live, rounded
from rlbench.errors import UserError

CHOICES: dict[str, tuple[Any, ...]] = {
    "op": OPS,
    "kernel": (3, 5),
    "se": (0.0, 0.25),
    "skip": SKIPS,
    "filters": (0.75, 1.0, 1.25),
    "layers": (-1, 0, 1),
}
"""Values of the tokens of a block, in order; filters and layers are relative to the reference network."""
USUAL: dict[str, Any] = {"se": 0.0, "skip": "none", "filters": 1.0, "layers": 0}
"""Values of tokens that a space leaves out, and the preferred ones among equivalent values."""
CELL = ("op", "kernel", "se", "skip")
"""Tokens that all blocks of a cell space share."""
CELL_SUFFIX = "-cell"


@dataclass(frozen=True)
class Reference:
    """A block of the reference network."""

    filters: int
    layers: int
    stride: int


@dataclass(frozen=True)
class Token:
    """The meaning of one token of a sequence."""

    field: str
    """A key of `CHOICES`, or `size`."""
    block: int | None
    """Number of its block from 0; None if it is about the whole network."""
    values: tuple[Any, ...]
    """Meaning of each value."""

    def __str__(self) -> str:
        """What it decides, such as `kernel of block 1`; blocks are counted from 1."""
        return f"{self.field} of " + (
            "the network" if self.block is None else f"block {self.block + 1}"
        )


@dataclass(frozen=True)
class Space:
    """A set of architectures, each given by tokens, one after the other, block by block."""

    name: str
    """Name of the space, which its architectures carry."""
    blocks: tuple[Reference, ...]
    """The blocks of the reference network."""
    first: int
    """Filters of the first convolution."""
    stem: int
    """Stride of the first convolution."""
    last: int = 0
    """Filters of the 1x1 convolution after the blocks; 0: there is none."""
    sizes: tuple[int, ...] = ()
    """Units of the linear layer at the end, which the last token chooses; without any there is no such layer."""
    divisor: int = 4
    """Filters are multiples of it."""
    searched: tuple[str, ...] = tuple(CHOICES)
    """Tokens of each block; the others have their value of `USUAL`."""
    shared: tuple[str, ...] = ()
    """Tokens that come once, first, for all blocks."""

    @cached_property
    def labels(self) -> tuple[Token, ...]:
        """What each token means."""
        shared = [Token(field, None, CHOICES[field]) for field in self.shared]
        own = [
            Token(field, block, CHOICES[field])
            for block in range(len(self.blocks))
            for field in self.searched
            if field not in self.shared
        ]
        sizes = [Token("size", None, self.sizes)] if self.sizes else []
        return (*shared, *own, *sizes)

    @cached_property
    def choices(self) -> tuple[int, ...]:
        """Number of values of each token."""
        return tuple(len(token.values) for token in self.labels)

    @property
    def size(self) -> int:
        """Number of sequences."""
        return prod(self.choices)

    def cell(self) -> "Space":
        """The space in which operation, kernel, squeeze-and-excitation and skip are the same in all blocks.

        Its sequences begin with these tokens; filters and layers of each block follow. With all six kinds of tokens
        and B blocks these are 4 + 2 B tokens instead of 6 B.
        """
        shared = tuple(field for field in CELL if field in self.searched)
        return replace(self, name=f"{self.name}{CELL_SUFFIX}", shared=shared)

    def decode(self, tokens: Sequence[int]) -> Architecture:
        """The architecture of a sequence.

        Args:
            tokens: A value below `choices` for each token, [L].

        Raises:
            UserError: There are more or fewer tokens, or one has no such value.
        """
        return self._decode(self._checked(tokens))

    def encode(self, architecture: Architecture) -> tuple[int, ...]:
        """A sequence of an architecture, [L]; among equivalent values of a token, the one of `USUAL` if it is one of them.

        Raises:
            UserError: The architecture is not in this space.
        """
        if len(architecture.blocks) == len(self.blocks):
            tokens = tuple(self._token(label, architecture) for label in self.labels)
            if self._decode(tokens) == architecture:
                return tokens
        raise UserError(
            f"the architecture {architecture.options()} of {architecture.space or 'no space'} is not in the space "
            f"{self.name}; give one that this space decoded"
        )

    def canonical(self, tokens: Sequence[int]) -> tuple[int, ...]:
        """One sequence, [L], for all those that describe the same network.

        Each token gets the value of `USUAL` if this changes nothing, and otherwise the first that changes nothing.

        Raises:
            UserError: See `decode`.
        """
        chosen = list(self._checked(tokens))
        network = live(self._decode(chosen))
        for place, label in enumerate(self.labels):
            usual = USUAL.get(label.field)
            # Stable: the usual value comes first, the others in order.
            ordered = sorted(range(len(label.values)), key=lambda i: label.values[i] != usual)
            for value in ordered:
                other = [*chosen[:place], value, *chosen[place + 1 :]]
                if live(self._decode(other)) == network:
                    chosen = other
                    break
        return tuple(chosen)

    def neighbours(self, tokens: Sequence[int]) -> list[tuple[int, ...]]:
        """All sequences that differ from this one in one token, in order.

        Raises:
            UserError: See `decode`.
        """
        here = self._checked(tokens)
        return [
            (*here[:place], value, *here[place + 1 :])
            for place, count in enumerate(self.choices)
            for value in range(count)
            if value != here[place]
        ]

    def _checked(self, tokens: Sequence[int]) -> tuple[int, ...]:
        """The tokens as plain numbers."""
        try:
            found = tuple(index(token) for token in tokens)
        except TypeError:
            raise UserError(f"tokens are {tokens}; give whole numbers") from None
        if len(found) != len(self.choices):
            raise UserError(
                f"there are {len(found)} tokens; give {len(self.choices)} for an architecture of {self.name}"
            )
        for token, count, label in zip(found, self.choices, self.labels, strict=True):
            if not 0 <= token < count:
                raise UserError(f"the token for the {label} is {token}; give 0 to {count - 1}")
        return found

    def _decode(self, tokens: Sequence[int]) -> Architecture:
        """See `decode`, for tokens that are known to be valid."""
        chosen = {
            (label.field, label.block): label.values[token]
            for label, token in zip(self.labels, tokens, strict=True)
        }
        blocks = []
        for number, reference in enumerate(self.blocks):
            own: dict[str, Any] = {}
            for field in CHOICES:
                place = (field, None if field in self.shared else number)
                own[field] = self._meaning(field, chosen.get(place, USUAL.get(field)), reference)
            blocks.append(Block(**own, stride=reference.stride))
        size = chosen.get(("size", None), 0)
        return Architecture(self.name, self.first, self.stem, tuple(blocks), self.last, size)

    def _token(self, label: Token, architecture: Architecture) -> int:
        """The value of a token in an architecture; 0 if there is none, which `encode` then notices."""
        if label.field == "size":
            found = [i for i, size in enumerate(label.values) if size == architecture.size]
            return found[0] if found else 0
        number, usual = label.block or 0, USUAL.get(label.field)
        wanted, reference = getattr(architecture.blocks[number], label.field), self.blocks[number]
        found = [
            i for i, value in enumerate(label.values)
            if self._meaning(label.field, value, reference) == wanted
        ]  # fmt: skip
        return min(found, key=lambda i: label.values[i] != usual, default=0)

    def _meaning(self, field: str, value: Any, reference: Reference) -> Any:
        """What a value of a token means for a block with this reference."""
        if field == "filters":
            return rounded(value * reference.filters, self.divisor)
        return max(1, reference.layers + value) if field == "layers" else value


def _references(*blocks: tuple[int, int, int]) -> tuple[Reference, ...]:
    return tuple(Reference(*block) for block in blocks)


SPACES = {
    space.name: space
    for space in (
        Space(
            "mnas-full",
            _references(
                (16, 1, 1), (24, 2, 2), (32, 3, 2), (64, 4, 2), (96, 3, 1), (160, 3, 2), (320, 1, 1)
            ),
            first=32, stem=2, last=1280, divisor=DIVISOR,
        ),
        Space("mnas-mini", _references((16, 1, 1), (24, 2, 2), (32, 2, 2), (48, 2, 1)), first=16, stem=1),
        Space("mnas-nano", _references((4, 1, 1), (6, 2, 2), (8, 2, 2)), first=4, stem=1),
        # Small enough to train all of its networks; the filters are such that none of its choices is dead.
        Space(
            "nas-tiny", _references((4, 1, 1), (8, 2, 2)), first=4, stem=1,
            searched=("op", "kernel", "skip"),
        ),
        Space(
            "rl-encoder", _references((16, 1, 2), (24, 2, 2), (32, 2, 2)), first=8, stem=2,
            sizes=(64, 128, 256),
        ),
    )
}  # fmt: skip
"""Spaces by name. The reference of `mnas-full` is MobileNetV2 (Sandler et al., 2018, https://arxiv.org/abs/1801.04381, table 2)."""


def find_space(name: str) -> Space:
    """The space of a name; `-cell` after the name ties the blocks of the space, see `Space.cell`.

    >>> find_space("mnas-nano").size
    80621568
    >>> len(find_space("mnas-nano-cell").choices)
    10

    Raises:
        UserError: There is no such space.
    """
    base = name.removesuffix(CELL_SUFFIX)
    if base not in SPACES:
        raise UserError(
            f"there is no space {name!r}; give one of {', '.join(SPACES)}, with {CELL_SUFFIX} at the end for equal "
            "blocks"
        )
    return SPACES[base] if name == base else SPACES[base].cell()
