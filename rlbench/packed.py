"""Observation spaces of several parts, such as an image and a text, packed into one vector.

Drivers, buffers and checkpoints see one array per step, whatever the environment returns. The space keeps the parts, so
that an encoder can unpack them: `parts` in `rlbench.backbones.encoders`.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import Space, spaces
from numpy.typing import NDArray
from torch import Tensor

from rlbench.sequences import TokenSequence


class Packed(spaces.Box):
    """The elements of a Dict space as vectors, float32 [D]; parts are in the order of the Dict.

    A Box is flattened, and a Discrete, MultiDiscrete or MultiBinary space becomes one-hot or binary numbers, as in
    `gymnasium.spaces.flatten`. Dicts within the Dict become parts with names such as `arm.position`.
    """

    def __init__(self, whole: spaces.Dict) -> None:
        """The space of the packed elements of a Dict space.

        Raises:
            TypeError: It has a part of another kind; the message names it.
        """
        self.whole = whole
        self.parts = dict(_parts(whole))
        sizes = [spaces.flatdim(part) for part in self.parts.values()]
        ends = np.cumsum(sizes).tolist()
        self._slices = [slice(end - size, end) for end, size in zip(ends, sizes, strict=True)]
        super().__init__(-np.inf, np.inf, (sum(sizes),), np.float32)

    @property
    def vectors(self) -> bool:
        """Whether all parts are vectors or numbers, so that the packed vector can be read as it is."""
        return not any(is_image(x) or isinstance(x, TokenSequence) for x in self.parts.values())

    def pack(self, given: Mapping[str, Any]) -> NDArray[np.float32]:
        """One element of the Dict space as a vector, [D].

        Raises:
            ValueError: A part is missing or has another shape or kind, or a text has a number without a word.
        """
        packed = np.empty(self.shape, np.float32)
        for (name, part), place in zip(self.parts.items(), self._slices, strict=True):
            value: Any = given
            for key in name.split("."):
                if not isinstance(value, Mapping) or key not in value:
                    raise ValueError(f"an observation without {name!r}")
                value = value[key]
            if isinstance(part, spaces.Box) and np.shape(value) != part.shape:
                raise ValueError(f"{name!r} of shape {list(np.shape(value))}, not {list(part.shape)}")  # fmt: skip
            if isinstance(part, TokenSequence) and not part.knows(value):
                raise ValueError(f"{name!r} with tokens outside its {len(part.words)} words")
            packed[place] = np.asarray(spaces.flatten(part, value))
        return packed

    def unpack(self, packed: Tensor) -> dict[str, Tensor]:
        """The parts [..., *shape] of vectors [..., D], all float32; parts that are not boxes stay flat."""
        found = {}
        for (name, part), place in zip(self.parts.items(), self._slices, strict=True):
            flat = packed[..., place]
            shape = part.shape if isinstance(part, spaces.Box) else None
            found[name] = flat if shape is None else flat.reshape(*packed.shape[:-1], *shape)
        return found

    def __eq__(self, other: object) -> bool:
        """Whether another space is equal to this one."""
        return isinstance(other, Packed) and self.parts == other.parts

    __hash__ = None  # type: ignore[assignment]


def is_image(space: Space[Any]) -> bool:
    """Whether a part is an image or a grid: an array of three dimensions."""
    return isinstance(space, spaces.Box) and len(space.shape) == 3


def _parts(whole: spaces.Dict, within: str = "") -> list[tuple[str, Space[Any]]]:
    found: list[tuple[str, Space[Any]]] = []
    for key, part in whole.items():
        if isinstance(part, spaces.Dict):
            found += _parts(part, f"{within}{key}.")
        elif isinstance(part, spaces.Box | spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary):  # fmt: skip
            found.append((f"{within}{key}", part))
        else:
            raise TypeError(f"{within}{key} is {part}")
    return found
