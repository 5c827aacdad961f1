"""Base classes of sources of labelled examples."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from gymnasium import Space, spaces
from numpy.typing import NDArray

from rlbench.errors import UserError

Array = NDArray[Any]
Split = Literal["train", "test"]
SPLITS: tuple[Split, Split] = ("train", "test")


LARGEST = 2**63 - 1
"""Largest whole number of an int64."""


class Source(ABC):
    """Labelled examples in two splits that share nothing: no level, class drawing or generator seed.

    A custom source is a subclass; `rlbench run classifier --env my_package.module:make` takes any
    callable without arguments that returns one.
    """

    kind: ClassVar[Literal["generated", "shipped", "file", "custom"]] = "custom"
    """Where the examples come from."""
    seeded: ClassVar[bool] = True
    """Whether each seed gives other examples; False for a fixed set."""
    cached: ClassVar[bool] = False
    """Whether drawing takes so long that the examples are cached on disk."""
    balanced: ClassVar[bool] = False
    """Whether classes are so unequal that a search should count them equally."""
    version: ClassVar[int] = 1
    """Increases when the same seed begins to give other examples, so that no outdated cache is read."""

    @property
    @abstractmethod
    def fields(self) -> Mapping[str, Space[Any]]:
        """The space of each column of one example.

        The input of a learner is called `obs`, as in transitions; a class is a Discrete space that starts
        at 0.
        """

    @property
    def classes(self) -> Mapping[str, tuple[str, ...]]:
        """Names of the classes of columns, from class 0 on; only of columns whose classes have names."""
        return {}

    @property
    @abstractmethod
    def sizes(self) -> Mapping[Split, int]:
        """The largest number of examples of each split."""

    @abstractmethod
    def sample(self, split: Split, size: int, seed: int) -> Mapping[str, Array]:
        """The first `size` examples of a split for a seed; every column is [size, ...]."""


class Arrays(Source):
    """Examples from arrays in memory."""

    seeded = False

    def __init__(self, train: Mapping[str, Array], test: Mapping[str, Array]) -> None:
        """Columns [N, ...] of each split, with the same names and shapes.

        Bytes are images, except those of shape [N, H, W] in a column other than `obs`: these are classes of pixels, like
        other whole numbers of this shape. Whole numbers from 0, one per example, are classes. Everything else is a
        vector or array of numbers.

        Raises:
            UserError: Columns of a split differ in length.
        """
        self._columns: dict[Split, dict[str, Array]] = {
            "train": {name: np.asarray(x) for name, x in train.items()},
            "test": {name: np.asarray(x) for name, x in test.items()},
        }
        for split, columns in self._columns.items():
            lengths = {name: len(x) for name, x in columns.items()}
            if len(set(lengths.values())) > 1:
                listed = ", ".join(f"{name} {length:,}" for name, length in lengths.items())
                raise UserError(
                    f"the {split} columns have different lengths ({listed}); give one entry of each for "
                    "every example"
                )
        self._fields = {name: self._space(name) for name in self._columns["train"]}

    @property
    def fields(self) -> Mapping[str, Space[Any]]:
        """See `Source`."""
        return self._fields

    @property
    def sizes(self) -> Mapping[Split, int]:
        """See `Source`."""
        return {
            split: min((len(x) for x in columns.values()), default=0)
            for split, columns in self._columns.items()
        }

    def sample(self, split: Split, size: int, seed: int) -> Mapping[str, Array]:
        """See `Source`; the same examples for every seed."""
        return {name: column[:size] for name, column in self._columns[split].items()}

    def _space(self, name: str) -> Space[Any]:
        parts = [columns[name] for columns in self._columns.values() if name in columns]
        column = parts[0]
        shape = column.shape[1:]
        if column.dtype.kind in "iub" and not shape:
            lowest = min((int(x.min()) for x in parts if len(x)), default=0)
            highest = max((int(x.max()) for x in parts if len(x)), default=0)
            if lowest >= 0 and highest < LARGEST:
                return spaces.Discrete(highest + 1)
        if column.dtype == np.uint8 and (name == "obs" or len(shape) != 2):
            return spaces.Box(0, 255, shape, np.uint8)
        if column.dtype.kind in "iub":
            highest = max((int(x.max()) for x in parts if x.size), default=0)
            lowest = min((int(x.min()) for x in parts if x.size), default=0)
            # Such as the class of each pixel, or of each observation of a set.
            if (len(shape) > 1 or (shape and name != "obs")) and highest < LARGEST:
                dtype = np.uint8 if all(x.dtype == np.uint8 for x in parts) else np.int64
                return spaces.Box(min(lowest, 0), highest, shape, dtype)
            return spaces.Box(-LARGEST - 1, LARGEST, shape, np.int64)
        return spaces.Box(-np.inf, np.inf, shape, np.float32)
