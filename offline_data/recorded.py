"""The task as its data were recorded."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from rlbench.envs.tasks import Task
from rlbench.offline_data.dataset import Provenance


def as_recorded(task: Task, provenance: Provenance) -> Task:
    """The task with the environment that recorded the data.

    Where the contact forces of Ant are all 0 in the data, as in D4RL's own files, the environment
    gives them as 0 too and charges nothing for them.

    Args:
        task: What the data were opened for.
        provenance: Of the data, or of a run's config.json.
    """
    if provenance.details.get("contact_forces") != "missing":
        return task
    make: Callable[..., Any] = task.make
    # Gymnasium clips the forces to this range, both in observations and in rewards.
    return replace(task, make=partial(make, contact_force_range=(0.0, 0.0)))
