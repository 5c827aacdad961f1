"""What a search has found: all its architectures with their results, and the best trade-offs among them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlbench.envs.architectures.evaluate import Evaluator, Space
from rlbench.envs.architectures.objective import (
    UNKNOWN_LATENCY,
    Objective,
    hypervolume,
    pareto_front,
)


@dataclass(frozen=True)
class Found:
    """Results of N architectures, in the order in which they were tried."""

    target_ms: float
    """The target latency."""
    columns: Mapping[str, NDArray[Any]]
    """[N, ...] each: canonical `tokens`, `accuracy` and `latency_ms` as they are rewarded, `reward`, `test_accuracy` (NaN if
    unknown), `parameters`, `multiply_adds`, training `seconds`, and `number`, which counts different architectures from 0
    in the order of their first occurrence."""
    front: NDArray[np.int64]
    """Rows of the Pareto front, from fast to slow; see `pareto_front`."""
    hypervolume: float
    """Of the front, up to 4 times the target latency; see `hypervolume`."""
    architectures: tuple[Any, ...]
    """The architecture of each row, as the space decodes it."""


def look_up(
    space: Space, evaluator: Evaluator, objective: Objective, tokens: NDArray[np.int64]
) -> Found:
    """Evaluates architectures, most of which a search has evaluated before.

    Args:
        space: The space of the architectures.
        evaluator: Knows their results.
        objective: The reward.
        tokens: Their tokens, [N, L].
    """
    rows = [space.canonical(tuple(row)) for row in tokens.tolist()]
    found = evaluator.evaluate(rows)
    usable = [objective.usable(one) for one in found]
    numbers: dict[tuple[int, ...], int] = {}
    accuracy, latency = np.array(usable).reshape(-1, 2).T
    columns = {
        "tokens": np.array(rows, np.int64).reshape(tokens.shape),
        "accuracy": accuracy,
        "latency_ms": latency,
        "reward": np.array([objective.reward(*one) for one in usable]),
        "test_accuracy": np.array([one.test_accuracy for one in found], float),
        "parameters": np.array([one.parameters for one in found], np.int64),
        "multiply_adds": np.array([one.multiply_adds for one in found], np.int64),
        "seconds": np.array([one.seconds for one in found]),
        "number": np.array([numbers.setdefault(row, len(numbers)) for row in rows], np.int64),
    }
    target = objective.target_ms
    return Found(
        target_ms=target,
        columns=columns,
        front=pareto_front(accuracy, latency),
        hypervolume=hypervolume(accuracy, latency, UNKNOWN_LATENCY * target),
        architectures=tuple(space.decode(row) for row in rows),
    )
