"""Facts about the present state of an environment, whether or not an agent observes them; for analyses of what agents know."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from rlbench.errors import FAILURES, UserError, raised_by

DOORS = ("open", "closed", "locked")
CLASSES = 10_000
"""Largest number of classes of a fact."""
LARGEST = float(np.finfo(np.float32).max)
"""Largest quantity."""


def facts_of(env: Any) -> Mapping[str, int | float]:
    """Facts by name; whole numbers from 0 are classes, other numbers are quantities.

    An environment may have a method `facts`, without arguments, that returns them. Otherwise, they are known for MiniGrid (the agent's position and
    direction, whether it carries something, the state and the colour of the first door, the colour of the first key) and for MuJoCo (velocities).

    Args:
        env: A Gymnasium environment.

    Raises:
        UserError: Nothing is known about this environment, or its method `facts` raised an exception or returned something else.
    """
    world = env.unwrapped
    if callable(own := getattr(world, "facts", None)):
        name = type(world).__name__
        try:
            found = own()
        except FAILURES as error:
            raise raised_by(name, "facts", error, "environment") from error
        return _checked(name, found)
    if all(hasattr(world, name) for name in ("agent_pos", "agent_dir", "grid", "carrying")):
        return _of_grid(world)
    velocities = getattr(getattr(world, "data", None), "qvel", None)
    if velocities is not None:
        return {f"velocity {i}": float(x) for i, x in enumerate(velocities)}
    raise UserError(
        f"no facts are known about {type(world).__name__}; give its class a method `facts` that returns a dict of names and numbers, or a run on "
        "a task of MiniGrid or MuJoCo"
    )


def _checked(name: str, found: Any) -> dict[str, int | float]:
    """Facts with Python's own numbers.

    Args:
        name: Name of the environment.
        found: What its method `facts` returned.
    """
    if not isinstance(found, Mapping):
        raise UserError(
            f"`facts` of {name} returned a {type(found).__name__}; let it return a dict of names and numbers"
        )
    numbers: dict[str, int | float] = {}
    for key, given in found.items():
        value = _number(given)
        if not isinstance(key, str) or value is None:
            raise UserError(
                f"`facts` of {name} returned {given!r} for {key!r}; let it return a text for each name, and for each value a whole "
                f"number from 0 to {CLASSES - 1:,}, which is a class, or a finite float"
            )
        numbers[key] = value
    return numbers


def _number(value: Any) -> int | float | None:
    """A Python number for one of any type; None for other values, too large classes and too large quantities."""
    array = np.asarray(value)
    if array.shape or array.dtype.kind not in "biuf":
        return None
    if array.dtype.kind == "f":
        quantity = float(array)
        return quantity if abs(quantity) <= LARGEST else None
    whole = int(array)
    return whole if abs(whole) < CLASSES else None


def _of_grid(world: Any) -> dict[str, int | float]:
    from minigrid.core.constants import COLOR_TO_IDX

    column, row = map(int, world.agent_pos)
    found: dict[str, int | float] = {
        "column": column, "row": row, "direction": int(world.agent_dir), "carrying": int(world.carrying is not None),
    }  # fmt: skip
    things = [*(x for x in world.grid.grid if x is not None), world.carrying]
    for kind in ("door", "key"):
        first = next((x for x in things if x is not None and x.type == kind), None)
        if first is not None:
            found[f"{kind} colour"] = COLOR_TO_IDX[first.color]
            if kind == "door":
                state = "open" if first.is_open else "locked" if first.is_locked else "closed"
                found["door"] = DOORS.index(state)
    return found
