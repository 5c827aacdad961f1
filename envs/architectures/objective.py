"""What a search maximises: accuracy and latency in one number, and the trade-off between the two.

With accuracy ACC, latency LAT and a target latency T, the reward of an architecture m is

    R(m) = ACC(m) (LAT(m) / T)^w,   w = alpha if LAT(m) <= T, else beta

- soft: alpha = beta = -0.07. Doubling the latency of a good model increases its accuracy by about 5 %, so both have the
  same reward if 1.05 * 2^beta = 1, that is beta = -0.0704;
- hard: alpha = 0, beta = -1: latency below the target has no effect;
- absolute: R(m) = ACC(m) + b |LAT(m) / T - 1| with b < 0, which searches for models at the target, not below it.

Soft and hard: Tan et al., 2019, https://arxiv.org/abs/1807.11626, equations 2 and 3; absolute: Bender et al., 2020
(TuNAS), https://arxiv.org/abs/2008.06120, section 3.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from rlbench.envs.architectures.evaluate import Evaluation
from rlbench.errors import UserError

Array = NDArray[np.float64]

FLOOR = 1e-3
"""Smallest accuracy: a failed architecture gets it, and powers and ratios of rewards stay defined."""
UNKNOWN_LATENCY = 4.0
"""Latency of an architecture that could not be measured, as a multiple of the target."""
WEIGHTS = {"soft": -0.07, "hard": -1.0, "absolute": -0.07}
"""Default weight of latency in each kind of reward."""


def soft_reward(accuracy: float, latency: float, target: float, weight: float) -> float:
    """The reward with alpha = beta = `weight`; latency and target have the same unit.

    >>> [round(soft_reward(0.5, x, 80, -0.07), 4) for x in (40, 80, 160)]
    [0.5249, 0.5, 0.4763]
    """
    return accuracy * float((latency / target) ** weight)


def hard_reward(accuracy: float, latency: float, target: float, weight: float) -> float:
    """The reward with alpha = 0 and beta = `weight`.

    >>> [round(hard_reward(0.5, x, 80, -1.0), 4) for x in (40, 80, 160)]
    [0.5, 0.5, 0.25]
    """
    return accuracy if latency <= target else soft_reward(accuracy, latency, target, weight)


def absolute_reward(accuracy: float, latency: float, target: float, weight: float) -> float:
    """The reward with b = `weight`.

    >>> [round(absolute_reward(0.5, x, 80, -0.07), 4) for x in (40, 80, 160)]
    [0.465, 0.5, 0.43]
    """
    return accuracy + weight * abs(latency / target - 1)


_REWARDS = {"soft": soft_reward, "hard": hard_reward, "absolute": absolute_reward}


@dataclass(frozen=True)
class Objective:
    """A reward with its target, which is fixed before a search begins."""

    target_ms: float
    """Target latency in milliseconds (paper: T)."""
    kind: Literal["soft", "hard", "absolute"] = "soft"
    """Form of the reward."""
    weight: float | None = None
    """Weight of latency, 0 or less (paper: alpha and beta); 0: accuracy alone. None: the default in `WEIGHTS`."""

    def __post_init__(self) -> None:
        """Refuses values that give no sensible reward.

        Raises:
            UserError: The kind is unknown, the target is not above 0, or the weight is above 0.
        """
        if self.kind not in _REWARDS:
            raise UserError(f"the reward is {self.kind!r}; give one of {', '.join(_REWARDS)}")
        if not 0 < self.target_ms < math.inf:
            raise UserError(f"target_ms is {self.target_ms}; give a finite number above 0")
        if self.weight is not None and not -math.inf < self.weight <= 0:
            raise UserError(f"weight is {self.weight}; give a finite number, 0 or less")

    def usable(self, found: Evaluation) -> tuple[float, float]:
        """Accuracy and latency in milliseconds, which are always finite and above 0.

        A failed architecture has the accuracy `FLOOR`, and 4 T if its latency is unknown.
        """
        accuracy, latency = found.accuracy, found.latency_ms
        if accuracy is None or not math.isfinite(accuracy):
            accuracy = FLOOR
        if latency is None or not 0 < latency < math.inf:
            latency = UNKNOWN_LATENCY * self.target_ms
        return max(float(accuracy), FLOOR), float(latency)

    def reward(self, accuracy: float, latency_ms: float) -> float:
        """The reward of an accuracy and a latency in milliseconds, as `usable` returns them."""
        weight = WEIGHTS[self.kind] if self.weight is None else self.weight
        return _REWARDS[self.kind](accuracy, latency_ms, self.target_ms, weight)


def pareto_front(accuracy: Array, latency: Array) -> NDArray[np.int64]:
    """Indices of the points that no other point beats in accuracy and latency, from fast to slow.

    Of equal points only the first counts.

    Args:
        accuracy: Accuracies, [N]; more is better.
        latency: Latencies, [N]; less is better.

    >>> pareto_front(np.array([0.5, 0.9, 0.8, 0.4]), np.array([1.0, 3.0, 2.0, 2.0])).tolist()
    [0, 2, 1]
    """
    order = np.lexsort((-accuracy, latency))
    best = np.maximum.accumulate(accuracy[order])
    first = np.ones(len(order), bool)
    first[1:] = best[1:] > best[:-1]
    return order[first]


def hypervolume(accuracy: Array, latency: Array, worst_latency: float) -> float:
    """Area between a front and accuracy 0 at the worst latency, as a share of `worst_latency`: at most 1.

    Args:
        accuracy: Accuracies from 0 to 1, [N].
        latency: Latencies, [N]; points slower than `worst_latency` add nothing.
        worst_latency: The latency at which the area ends.

    >>> hypervolume(np.array([0.5, 0.8]), np.array([1.0, 2.0]), 4.0)  # (0.5 * 1 + 0.8 * 2) / 4
    0.525
    """
    front = pareto_front(accuracy, latency)
    edges = np.append(latency[front], worst_latency).clip(max=worst_latency)
    return float(accuracy[front] @ np.diff(edges)) / worst_latency
