"""Observation spaces of several parts, such as an image and a text, packed into one vector.

Drivers, buffers and checkpoints see one array per step, whatever the environment returns. The space keeps the parts, so
that an encoder can unpack them: `parts` in `rlbench.backbones.encoders`.
"""

from collections.abc import Iterator, Mapping
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

    parts: dict[str, Space[Any]]
    """The parts by name."""

    def __init__(self, whole: spaces.Dict) -> None:
        """The space of the packed elements of a Dict space.

        Raises:
            TypeError: It has a part of another kind; the message names it.
            ValueError: It has no parts, or two of the same name; the message says so.
        """
        self.whole = whole
        found = list(_parts(whole))
        # A key may itself contain a dot, or be a number.
        self._keys = {".".join(map(str, keys)): keys for keys, _ in found}
        if not found:
            raise ValueError("no parts")
        if len(self._keys) < len(found):
            raise ValueError(f"two parts of one name among {', '.join(self._keys)}")
        self.parts = dict(zip(self._keys, (part for _, part in found), strict=True))
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
            TypeError: A part does not consist of real numbers.
            ValueError: A part is missing, has another shape, or is not in its space; a Box may be left, as in
                spaces of a single array.
        """
        packed = np.empty(self.shape, np.float32)
        for (name, part), place in zip(self.parts.items(), self._slices, strict=True):
            value: Any = given
            for key in self._keys[name]:
                if not isinstance(value, Mapping) or key not in value:
                    raise ValueError(f"an observation without {name!r}")
                value = value[key]
            packed[place] = _flat(name, part, value)
        return packed

    def unpack(self, packed: Tensor) -> dict[str, Tensor]:
        """The parts of vectors [..., D], all float32: images [..., *shape], all others flat."""
        found = {}
        for (name, part), place in zip(self.parts.items(), self._slices, strict=True):
            flat = packed[..., place]
            found[name] = flat.unflatten(-1, part.shape or ()) if is_image(part) else flat
        return found

    def __eq__(self, other: object) -> bool:
        """Whether another space is equal to this one."""
        return isinstance(other, Packed) and self.parts == other.parts

    __hash__ = None  # type: ignore[assignment]


def is_image(space: Space[Any]) -> bool:
    """Whether a part is an image or a grid: an array of three dimensions."""
    return isinstance(space, spaces.Box) and len(space.shape) == 3


def not_vectors(space: Space[Any]) -> str:
    """What observations are, if they are tokens or have parts that are images or texts; else an empty text."""
    if isinstance(space, TokenSequence):
        return "tokens"
    if isinstance(space, Packed) and not space.vectors:
        return f"the parts {', '.join(space.parts)}"
    return ""


def _flat(name: str, part: Space[Any], value: Any) -> NDArray[Any]:
    """The numbers of one part; see `Packed.pack`. Those of a Box are not rounded to its type."""
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name!r} of the type {array.dtype}, not numbers")
    if array.shape != part.shape:
        raise ValueError(f"{name!r} of shape {list(array.shape)}, not {list(part.shape or ())}")
    if type(part) is spaces.Box:
        return array.ravel()
    try:
        return np.asarray(spaces.flatten(part, as_whole(array, part)))
    except ValueError as error:
        raise ValueError(f"{name!r} as {error}") from None


def as_whole(given: NDArray[Any], space: Space[Any]) -> NDArray[Any]:
    """Whole numbers of a space from numbers of any type.

    Raises:
        ValueError: They are not in the space.
    """
    # NaN and decimals differ from the whole numbers that they are converted to.
    with np.errstate(invalid="ignore"):
        whole = given.astype(space.dtype)
    if not (whole == given).all() or not space.contains(whole):
        raise ValueError(f"{given.tolist()}, which is not in {space}")
    return whole


def _parts(whole: spaces.Dict, *within: Any) -> Iterator[tuple[tuple[Any, ...], Space[Any]]]:
    """Keys from the outermost Dict to a part, and the part."""
    for key, part in whole.items():
        keys = (*within, key)
        if isinstance(part, spaces.Dict):
            yield from _parts(part, *keys)
        elif isinstance(part, spaces.Box | spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary):  # fmt: skip
            yield keys, part
        else:
            raise TypeError(f"{'.'.join(map(str, keys))} is {part}")
