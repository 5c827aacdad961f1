"""An episode of a trained agent as a capture: pictures of its robot by two cameras, from which `nerfies` can learn."""

from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlbench.benchmarks.training.acting import Actor, load
from rlbench.benchmarks.training.run_folder import RunFolder
from rlbench.benchmarks.training.teaching import write_columns
from rlbench.envs.examples._base import SPLITS
from rlbench.envs.examples.captures import FRAMES, Rig, arcs
from rlbench.envs.examples.frames_mujoco import SIDE
from rlbench.envs.mujoco_drawing import load_mujoco, make_renderer
from rlbench.errors import UserError
from rlbench.seeding import derive
from rlbench.trust import Trust

Array = NDArray[Any]


def write_capture(run: Path, after: int, out: Path, *, trust: Trust = False) -> None:
    """Writes `FRAMES` consecutive steps of an agent as a file of the columns of `captures:FAMILY`.

    The robot is shown at the place of the first of them, as on a treadmill, so that it does not leave the picture.

    Args:
        run: Folder of the agent's run.
        after: Steps of the episode before the first one.
        out: An .npz file, which the task of its name reads.
        trust: Whether custom code that the folder names may be imported, or the names that may.

    Raises:
        UserError: The task is not a MuJoCo robot on a floor, or the episode is too short.
    """
    if out.suffix != ".npz":
        raise UserError(f"{out} cannot hold examples; give a file name that ends in .npz")
    load_mujoco()
    actor = load(run, trust=trust)
    seed = derive(RunFolder(run).config()["run"]["seed"], "capture")
    with closing(actor.task.make()) as env:
        world: Any = env.unwrapped
        if not on_a_floor(world):
            raise UserError(
                f"{actor.task.name} is not a MuJoCo robot on a floor, so there is nothing to capture; give a run on a task such as "
                "halfcheetah-medium or Hopper-v5"
            )
        positions = played(actor, env, after, seed)
        write_columns(drawn(world.model, world.data, positions, seed), out)


def on_a_floor(world: Any) -> bool:
    """Whether an environment is a world of MuJoCo with bodies, and its first geom that belongs to none is a plane."""
    model = getattr(world, "model", None)
    if model is None or not hasattr(world, "data") or not hasattr(model, "geom_bodyid"):
        return False
    fixed = np.flatnonzero(model.geom_bodyid == 0)
    return bool(len(fixed) and len(fixed) < model.ngeom and model.geom_type[fixed[0]] == 0)


def played(actor: Actor, env: Any, after: int, seed: int) -> Array:
    """Positions of all joints in consecutive steps of an episode, [FRAMES, Q].

    Raises:
        UserError: The episode ends before.
    """
    obs, _ = env.reset(seed=seed)
    reward, positions = 0.0, []
    for step in range(after + FRAMES):
        obs, reward, terminated, truncated, _ = env.step(actor(obs, reward=reward))
        positions.append(env.unwrapped.data.qpos.copy())
        if (terminated or truncated) and step + 1 < after + FRAMES:
            raise UserError(
                f"the episode ended after {step + 1:,} steps, but {FRAMES} steps after the first {after:,} were requested; give "
                "a smaller --after, or a run of a better agent"
            )
    return np.array(positions[after:])


def drawn(model: Any, data: Any, positions: Array, seed: int) -> dict[str, Array]:
    """The columns of both splits, `train/obs`, ...

    Args:
        model: MuJoCo's model.
        data: MuJoCo's data, whose positions are replaced.
        positions: Positions of all joints in each frame, [FRAMES, Q].
        seed: Decides the cameras.
    """
    import mujoco

    joints = np.flatnonzero(model.jnt_limited)
    positions = positions.copy()
    held = across(model)
    positions[:, held] = positions[0, held]

    def put(frame: int) -> None:
        data.qpos[:] = positions[frame]
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        mujoco.mj_camlight(model, data)

    put(0)
    rig, renderer = Rig(model, data), make_renderer(model, SIDE)
    columns: dict[str, Array] = {}
    try:
        for split in SPLITS:
            angles = arcs(np.random.default_rng(derive(seed, "cameras")), split)
            spots = np.random.default_rng(derive(seed, "points", split))
            rows = []
            for frame in range(len(positions)):
                put(frame)
                azimuth, elevation = angles[frame]
                rows.append(rig.view(renderer, azimuth, elevation, spots))
            columns |= {f"{split}/{name}": np.stack([x[name] for x in rows]) for name in rows[0]}
            columns[f"{split}/mask"] = columns[f"{split}/mask"].astype(np.uint8)
            columns[f"{split}/frame"] = np.arange(len(positions))
            columns[f"{split}/pose"] = positions[:, model.jnt_qposadr[joints]]
    finally:
        renderer.close()
    return columns


def across(model: Any) -> list[int]:
    """Places in the positions of joints that move a robot as a whole across the floor."""
    import mujoco

    kinds, found = mujoco.mjtJoint, []
    for joint in np.flatnonzero(~model.jnt_limited.astype(bool)):
        place = int(model.jnt_qposadr[joint])
        if model.jnt_type[joint] == kinds.mjJNT_FREE:
            found += [place, place + 1]
        elif model.jnt_type[joint] == kinds.mjJNT_SLIDE and not model.jnt_axis[joint, 2]:
            found.append(place)
    return found
