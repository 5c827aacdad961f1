"""Few labelled and many unlabelled digits, for semi-supervised learning.

Each training example has one of L labelled images, L / 10 of each digit, and any other image without its label. The seed decides
which images are labelled and their order. Tests are those of `digits`, where the column `unlabelled` repeats the image.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import Space

from rlbench.envs.examples._base import Array, Source, Split
from rlbench.envs.examples.digits import Digits
from rlbench.errors import UserError
from rlbench.seeding import derive

CLASSES, MOST = 10, 1_000


class DigitsLabelled(Source):
    """Images `obs` and `unlabelled` [8, 8, 1] of bytes, and the class of the first one."""

    kind = "shipped"

    def __init__(self, labelled: str) -> None:
        """Prepares the digits.

        Args:
            labelled: Number of labelled images, a multiple of 10.

        Raises:
            UserError: It is another number.
        """
        if (
            not (labelled.isascii() and labelled.isdecimal() and 0 < int(labelled) <= MOST)
            or int(labelled) % CLASSES
        ):
            raise UserError(
                f"digits-labelled-{labelled}: the number of labelled images is {labelled!r}; give a multiple of 10, up to {MOST:,}"
            )
        self._labelled, self._digits = int(labelled), Digits()

    @property
    def fields(self) -> Mapping[str, Space[Any]]:
        """See `Source`."""
        fields = self._digits.fields
        return {**fields, "unlabelled": fields["obs"]}

    @property
    def sizes(self) -> Mapping[Split, int]:
        """See `Source`."""
        sizes = self._digits.sizes
        return {**sizes, "train": sizes["train"] - self._labelled}

    def sample(self, split: Split, size: int, seed: int) -> Mapping[str, Array]:
        """See `Source`."""
        every = self._digits.sample(split, self._digits.sizes[split], seed)
        if split == "test":
            found = {name: x[:size] for name, x in every.items()}
            return {**found, "unlabelled": found["obs"]}
        rng = np.random.default_rng(derive(seed, "digits-labelled", self._labelled))
        order = rng.permutation(len(every["label"]))
        of_class = [order[every["label"][order] == c] for c in range(CLASSES)]
        labelled = np.concatenate([rows[: self._labelled // CLASSES] for rows in of_class])
        others = rng.permutation(np.setdiff1d(order, labelled))
        # Each labelled image equally often in any stretch of examples.
        repeats = -(-len(others) // len(labelled))
        rows = np.concatenate([rng.permutation(labelled) for _ in range(repeats)])
        found = {name: x[rows[:size]] for name, x in every.items()}
        return {**found, "unlabelled": every["obs"][others[:size]]}
