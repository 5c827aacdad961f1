"""Signals: recognise which of five patterns is hidden in a noisy signal whose background misleads.

A signal has 100 values, at random places x in [0, 2 pi] that are the same for all signals:

    background(x) + N(0, 1),    background(x) = sum_{n=1..3} a_n cos(n x) + b_n sin(n x)

where the pattern of its class, 20 values of another such curve, overwrites one of three places. Every
class has its own B backgrounds, so they reveal the class of a training signal; but test signals have
backgrounds that no training signal has. All coefficients are uniform in [-1, 1]. If B or the number of
training signals is small, a network that memorises backgrounds is confidently wrong in the test.

The supervised task of Igl et al., 2019, https://arxiv.org/abs/1910.12911, as in the authors' code, which
also redraws everything (places, patterns, backgrounds, noise) for each seed. They test on 200 signals,
this code on 1,000.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from gymnasium import Space
from gymnasium.spaces import Box, Discrete

from rlbench.envs.examples._base import Array, Source, Split
from rlbench.seeding import derive

CLASSES = 5
LENGTH = 100
"""Number of values of a signal."""
PATTERN_LENGTH = 20
STARTS = 3
"""Number of places where a pattern may begin."""
GRID = 2_000
"""Number of places in [0, 2 pi] from which the places of the signals are chosen."""
ORDER = 3
"""Number of terms of a curve."""


@dataclass(frozen=True)
class Problem:
    """The parts that all signals of a seed have in common."""

    backgrounds: int
    """Number of backgrounds of each class, B, in training; the test has as many others."""
    seed: int

    @cached_property
    def patterns(self) -> Array:
        """The pattern of each class, [5, 20]."""
        return curves(self._rng("patterns"), (CLASSES,), np.linspace(0, 2 * np.pi, PATTERN_LENGTH))

    @cached_property
    def starts(self) -> Array:
        """Where patterns begin, [3]."""
        return self._rng("starts").choice(LENGTH - PATTERN_LENGTH, STARTS, replace=False)

    @cached_property
    def curves(self) -> Mapping[Split, Array]:
        """Backgrounds without noise, [5, B, 100] for each split."""
        places = self._rng("places").choice(GRID, LENGTH, replace=False)
        x = np.linspace(0, 2 * np.pi, GRID)[np.sort(places)]
        shape = (CLASSES, self.backgrounds)
        return {
            "train": curves(self._rng("train"), shape, x),
            "test": curves(self._rng("test"), shape, x),
        }

    def draw(self, rng: np.random.Generator, count: int, split: Split) -> tuple[Array, Array]:
        """Signals, float32 [N, 100], and their classes, int64 [N]."""
        classes = rng.integers(CLASSES, size=count)
        background = rng.integers(self.backgrounds, size=count)
        start = self.starts[rng.integers(STARTS, size=count)]
        signals = self.curves[split][classes, background] + rng.standard_normal((count, LENGTH))
        covered = start[:, None] + np.arange(PATTERN_LENGTH)
        np.put_along_axis(signals, covered, self.patterns[classes], axis=1)
        return signals.astype(np.float32), classes

    def _rng(self, purpose: str) -> np.random.Generator:
        return np.random.default_rng(derive(self.seed, "signals", purpose))


def curves(rng: np.random.Generator, shape: tuple[int, ...], x: Array) -> Array:
    """Random curves, [*shape, X], at places x [X]."""
    cosines, sines = rng.uniform(-1, 1, (2, *shape, ORDER))
    angles = np.arange(1, ORDER + 1)[:, None] * x
    values: Array = cosines @ np.cos(angles) + sines @ np.sin(angles)
    return values


class Signals(Source):
    """Signals [100] and their classes 0 to 4; the seed decides the problem."""

    kind = "generated"

    def __init__(self, backgrounds: int) -> None:
        """`backgrounds`: number of backgrounds of each class (paper: B)."""
        self._backgrounds = backgrounds

    @property
    def fields(self) -> Mapping[str, Space[Any]]:
        """See `Source`."""
        return {"obs": Box(-np.inf, np.inf, (LENGTH,)), "label": Discrete(CLASSES)}

    @property
    def sizes(self) -> Mapping[Split, int]:
        """See `Source`."""
        return {"train": 2_048, "test": 1_000}

    def sample(self, split: Split, size: int, seed: int) -> Mapping[str, Array]:
        """See `Source`."""
        rng = np.random.default_rng(derive(seed, "signals", f"{split}ing signals"))
        signals, classes = Problem(self._backgrounds, seed).draw(rng, size, split)
        return {"obs": signals, "label": classes}
