"""Signals: say which of five patterns is hidden in a noisy signal whose background misleads.

A signal has 100 values, at random places x in [0, 2 pi] that are the same for all signals:

    background(x) + N(0, 1),    background(x) = sum_{n=1..3} a_n cos(n x) + b_n sin(n x)

where the pattern of its class, 20 values of another such curve, overwrites one of three places. Every
class has B backgrounds of its own, so the training signals of a class can be told apart by them; but
test signals have backgrounds that no training signal has. All coefficients are uniform in [-1, 1].
Where B or the number of training signals is small, a network that learns backgrounds by heart is
confidently wrong in the test.

An episode is one forecast of one test signal: the action is a probability for each class, the reward
the logarithm of what the right class got. So a return is minus the test loss, in nats; knowing
nothing gives -log 5. The data of the task are training signals with the right forecast.

The supervised task of Igl et al., 2019, https://arxiv.org/abs/1910.12911, as in the authors' code; there
too all of it (places, patterns, backgrounds, noise) is drawn anew for each seed. They test on 200 fixed
signals, here every test signal is new.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Literal

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray

from rlbench.envs.tasks import Task
from rlbench.errors import UserError
from rlbench.seeding import derive

if TYPE_CHECKING:
    from rlbench.interface import Transitions

Array = NDArray[Any]
Split = Literal["train", "test"]

CLASSES = 5
LENGTH = 100
"""Values of a signal."""
PATTERN_LENGTH = 20
STARTS = 3
"""Where a pattern may begin."""
GRID = 2_000
"""Places in [0, 2 pi] that those of the signals are chosen from."""
ORDER = 3
"""Terms of a curve."""
MOST = 100_000
"""Training signals that are made at once, in memory."""
SMALLEST = float(np.finfo(np.float32).tiny)
"""Least probability of a class: the loss of a certain and wrong forecast is finite, 87 nats."""


@dataclass(frozen=True)
class Problem:
    """What all signals of a seed have in common."""

    backgrounds: int
    """Backgrounds of each class, B, in training and as many others in the test."""
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


class Signals(gym.Env[Array, Array]):
    """One forecast of one test signal."""

    def __init__(self, problem: Problem) -> None:
        """For the signals of a problem."""
        self.problem = problem
        self.observation_space = Box(-np.inf, np.inf, (LENGTH,))
        self.action_space = Box(0, 1, (CLASSES,))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """A new test signal."""
        super().reset(seed=seed)
        signals, classes = self.problem.draw(self.np_random, 1, "test")
        self._signal, self._class = signals[0], int(classes[0])
        return self._signal, {"class": self._class}

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """The logarithmic score of a forecast [5], which need not add up to 1; ends the episode."""
        forecast = np.clip(np.asarray(action, np.float64), SMALLEST, 1)
        reward = float(np.log(forecast[self._class] / forecast.sum()))
        return self._signal.copy(), reward, True, False, {}


@dataclass(frozen=True)
class TrainingSignals:
    """The data of the task: training signals with the right forecast, whose reward is 0."""

    problem: Problem

    @property
    def key(self) -> Mapping[str, Any]:
        """See `tasks.Demonstrations`."""
        return {"backgrounds": self.problem.backgrounds, "problem": self.problem.seed}

    def record(self, size: int) -> "Transitions":
        """See `tasks.Demonstrations`."""
        import torch

        from rlbench.interface import Transitions

        if size > MOST:
            raise UserError(
                f"{size:,} training signals were asked for, but the task is about few of them; give "
                f"--data-size 2048, as in the paper, or at most {MOST:,}"
            )
        rng = np.random.default_rng(derive(self.problem.seed, "signals", "training signals"))
        signals, classes = self.problem.draw(rng, size, "train")
        obs, zeros = torch.from_numpy(signals), torch.zeros(size)
        forecast = torch.eye(CLASSES)[torch.from_numpy(classes)]
        return Transitions(obs, forecast, zeros, obs, zeros + 1, zeros)


def find(name: str) -> Task | None:
    """The task `signals-B`, with B backgrounds for each class."""
    found = re.fullmatch(r"signals-([1-9]\d{0,3})", name)
    return _task(name, int(found[1]), 0) if found else None


def _task(name: str, backgrounds: int, seed: int) -> Task:
    problem = Problem(backgrounds, seed)
    return Task(
        name,
        partial(Signals, problem),
        reference_returns=(-float(np.log(CLASSES)), 0.0),
        solved_above=float(np.log(0.5)),
        demonstrations=TrainingSignals(problem),
        draw=partial(_task, name, backgrounds),
    )
