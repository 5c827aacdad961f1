"""Tasks with the environment that their data were recorded on."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from rlbench.envs.tasks import Task
from rlbench.offline_data.dataset import Provenance


def as_recorded(task: Task, provenance: Provenance) -> Task:
    """The task with the environment that its data were recorded on.

    If Ant's contact forces are all 0 in the data, as in D4RL's own files, the environment also returns them
    as 0 and leaves out their cost.

    Args:
        task: The task that the data were opened for.
        provenance: Provenance of the data, also from a run's config.json.
    """
    if provenance.details.get("contact_forces") != "missing":
        return task
    make: Callable[..., Any] = task.make
    # Gymnasium clips the forces to this range, both in observations and in rewards.
    return replace(task, make=partial(make, contact_force_range=(0.0, 0.0)))
