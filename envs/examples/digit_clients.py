"""The handwritten digits of `digits` divided among 100 clients, for federated learning.

    obs      14 images of 8x8 pixels, or up to 42 if clients differ in size
    label    their digits, int64 [14] or [42]
    count    how many of them are real; the others are zeros

`digit-clients-iid` deals the shuffled training images out; `digit-clients-shards` sorts them by digit, cuts them into 200 parts and gives each client two,
so that most clients have images of two or three digits; `digit-clients-unequal` deals shuffled images out to clients of 1 to 42 images. The seed
decides the shuffling. Test sets have test images in the order of `digits`, and nothing else.

McMahan et al., 2017, https://arxiv.org/abs/1602.05629, section 3
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import Space, spaces

from rlbench.envs.examples._base import Array, Source, Split
from rlbench.envs.examples.digits import Digits
from rlbench.errors import UserError
from rlbench.seeding import derive

CLIENTS, IMAGES, MOST = 100, 14, 42
KINDS = ("iid", "shards", "unequal")
SPREAD = 0.8
"""Standard deviation of the logarithm of the sizes of unequal clients."""


class DigitClients(Source):
    """Sets of images and digits; see the module."""

    kind = "shipped"

    def __init__(self, division: str) -> None:
        """Prepares the digits.

        Raises:
            UserError: `division` is not one of `KINDS`.
        """
        if division not in KINDS:
            raise UserError(
                f"there is no source digit-clients-{division}; give digit-clients-iid, -shards or -unequal"
            )
        self._division, self._digits = division, Digits()
        self._size = MOST if division == "unequal" else IMAGES

    @property
    def fields(self) -> Mapping[str, Space[Any]]:
        """See `Source`."""
        return {
            "obs": spaces.Box(0, 255, (self._size, 8, 8, 1), np.uint8),
            "label": spaces.Box(0, 9, (self._size,), np.int64),
            "count": spaces.Box(1, self._size, (1,), np.int64),
        }

    @property
    def sizes(self) -> Mapping[Split, int]:
        """See `Source`."""
        return {"train": CLIENTS, "test": self._digits.sizes["test"] // self._size}

    def sample(self, split: Split, size: int, seed: int) -> Mapping[str, Array]:
        """See `Source`."""
        digits = self._digits.sample(split, self._digits.sizes[split], seed)
        if split == "test":
            parts = [*np.arange(self.sizes["test"] * self._size).reshape(-1, self._size)]
        else:
            rng = np.random.default_rng(derive(seed, "digit-clients", self._division))
            parts = self._divided(digits["label"], rng)
        found = {
            name: np.zeros((size, *(space.shape or ())), space.dtype)
            for name, space in self.fields.items()
        }
        for client, rows in enumerate(parts[:size]):
            found["count"][client] = len(rows)
            for name in ("obs", "label"):
                found[name][client, : len(rows)] = digits[name][rows]
        return found

    def _divided(self, label: Array, rng: np.random.Generator) -> list[Array]:
        """Indices of the images of each client."""
        order = rng.permutation(len(label))
        if self._division == "unequal":
            sizes = np.exp(SPREAD * rng.standard_normal(CLIENTS))
            # A tenth is kept back, because the smallest clients are made larger.
            counts = np.clip(0.9 * sizes / sizes.sum() * len(label), 1, MOST).astype(int)
            return np.split(order[: counts.sum()], np.cumsum(counts)[:-1])
        order = order[: CLIENTS * IMAGES]
        if self._division == "iid":
            return list(order.reshape(CLIENTS, IMAGES))
        sorted_rows = order[np.argsort(label[order], kind="stable")]
        shards = sorted_rows.reshape(2 * CLIENTS, IMAGES // 2)
        return list(rng.permutation(shards).reshape(CLIENTS, IMAGES))
