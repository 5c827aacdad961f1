"""Draws the robot of a MuJoCo environment as the target robot of a run of `dance`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlbench.envs.examples.frames_mujoco import SIDE
from rlbench.envs.examples.motion_pairs import MotionPairs, Robot, ends_of, normalised, sticks
from rlbench.errors import UserError
from rlbench.trust import Trust


def dancer(
    run: Path, world: Any, size: int, *, trust: Trust = False
) -> Callable[[], NDArray[np.uint8]]:
    """A function that draws the current pose, given the frame that it drew before; see `drawn_as`.

    Args:
        run: Folder of the run of `dance`.
        world: The environment.
        size: Largest width and height of a picture in pixels.
        trust: Whether custom code that the folder names may be imported, or the names that may.

    Raises:
        UserError: The run is not one of `dance`, or its robot differs from that of the environment.
    """
    from rlbench.backbones.models.dance import Dance
    from rlbench.benchmarks.training.loading import load_run

    learner, task = load_run(run, trust=trust)
    source = task.source() if task.source is not None else None
    if not isinstance(learner, Dance) or not isinstance(source, MotionPairs):
        raise UserError(
            f"{run} is a run of {type(learner).__name__} on {task.name}; give a run of dance on motion-pairs:FAMILY"
        )
    return drawn_as(learner, source, world, size)


def drawn_as(
    learner: Any, source: MotionPairs, world: Any, size: int
) -> Callable[[], NDArray[np.uint8]]:
    """A function that draws the current pose of an environment's robot as the target of a source, [S, S, 3].

    Args:
        learner: A `Dance`.
        source: The source of its examples.
        world: The environment, whose robot is the original of the source's two robots.
        size: Largest width and height of a picture in pixels.

    Raises:
        UserError: The robots differ.
    """
    import torch

    from rlbench.backbones.models._clips import moved

    original = Robot(source.family)
    own = np.flatnonzero(world.model.geom_bodyid > 0)
    if world.model.nq != original._model.nq or not np.array_equal(own, original.parts):
        raise UserError(
            f"the robot of the environment has {len(own)} parts and {world.model.nq} positions, but the run of dance draws "
            f"{source.family}; give a run on the same robot"
        )
    place, target = original.place(0), source.places[1]
    times = max(1, size // SIDE)
    past: list[Any] = []
    latest = np.inf

    @torch.no_grad()
    def draw() -> NDArray[np.uint8]:
        nonlocal latest
        if world.data.time < latest:  # A new episode.
            past.clear()
        latest = world.data.time
        ends = normalised(ends_of(world.model, world.data, own), place, target)
        stick = torch.from_numpy(sticks(ends)).to(learner.device)
        made = learner.drawn(moved(stick[None]), past[0] if past else None)
        past[:] = [made]
        picture = (127.5 * (made[0].movedim(0, -1) + 1)).round().byte().cpu().numpy()
        return picture.repeat(times, axis=0).repeat(times, axis=1)  # type: ignore[no-any-return]

    return draw
