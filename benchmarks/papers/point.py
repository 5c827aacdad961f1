"""Data, lengths and settings shared by papers that are tested on point navigation."""

from collections.abc import Iterable
from typing import Any

from rlbench.benchmarks.tables.paper import Grid, Method

LEARNING: dict[str, Any] = {"hidden": (48, 48), "batch_size": 128}
"""Settings of every agent on this small task."""
CRITICS = LEARNING | {"discount": 0.97, "target_rate": 0.01}
"""Settings of agents that bootstrap."""


def point_grid(methods: tuple[Method, ...]) -> Grid:
    """Methods on the four data sets, 1,500 updates, three seeds."""
    return Grid(
        methods,
        ("point-random", "point-mixed", "point-medium", "point-expert"),
        seeds=3,
        run={
            "updates": 1_500,
            "data_size": 20_000,
            "eval_every": 0,
            "eval_episodes": 50,
            "log_every": 50,
            "checkpoint_every": 500,
        },
    )


def listed(scores: Iterable[float]) -> str:
    """Scores of the seeds as text.

    >>> listed([70.6, -3.2])
    '71/-3'
    """
    return "/".join(f"{score:.0f}" for score in scores)
