"""Captures of MuJoCo's robots in motion: every frame is seen by two synchronised cameras, whose positions are known.

The joints swing slowly about the robot's resting pose, the body turns and tilts a little, and its lowest point is on the floor. In each frame the
first camera is somewhere on an arc about the robot, and the second one is turned by `APART` from it about the vertical. Training examples are
the pictures of the first camera, and test examples the pictures of the second camera, of the same frames. So here, and only here, the splits
share their moments: this is the rig with which Park et al. evaluate views of a moving scene that were never seen, and a model that
has learned nothing about a moment cannot draw it. Two seeds share neither a motion nor a camera. Columns, with J joints:

    obs       bytes [64, 64, 3]
    mask      1 at the pixels of the robot, bytes [64, 64]
    camera    float32 [15]; see below
    frame     the moment, a class from 0 to 39
    points    points of the floor that the picture shows, in metres, float32 [64, 3]
    pose      angles of the joints in radians, float32 [J]

A camera consists of its position c [3], its rotation R [9], row by row, its focal length f in pixels, and the smallest and the largest depth of
anything that it sees, in metres. The middle of the pixel in row i and column j shows a point

    c + t R ((j + 1/2 - W / 2) / f, (H / 2 - i - 1/2) / f, -1)

where t, its depth, is the distance along the camera's axis.

Park et al., 2021, https://arxiv.org/abs/2011.12948, section 7
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import Space, spaces

from rlbench.envs.examples._base import Array, Split
from rlbench.envs.examples.frames_mujoco import SIDE, MujocoFrames
from rlbench.envs.mujoco_drawing import make_renderer, update_scene
from rlbench.seeding import derive

FRAMES = 40
SWING = (0.15, 0.3)
"""Amplitudes of the joints, as shares of half their ranges."""
SWAY = (0.4, 0.2)
"""Largest angles by which the body turns about the vertical, if it can, and tilts, in radians."""
TURN, APART = math.radians(40), math.radians(15)
"""Largest angle of the first camera from the side view, and the angle between the two cameras, in radians."""
ELEVATIONS = math.radians(40), math.radians(55)
"""Angles of the cameras above the horizon in radians: they see no horizon."""
FOVY = 30.0
"""The cameras' angle of view in degrees."""
NEARNESS = 0.75
"""Distance of the cameras as a share of that at which the resting robot just fits into the picture."""
SQUARES = 8.0
"""How much larger than usual the squares of the floor are, so that a small network can learn them in few updates."""
POINTS = 64


class Rig:
    """A camera that can be anywhere about a robot."""

    def __init__(self, model: Any, data: Any) -> None:
        """Looks at the middle of the robot as it is now, from a distance for its size now.

        Args:
            model: MuJoCo's model, whose angle of view and floor are changed.
            data: MuJoCo's data, with positions of geoms; later pictures show it as it is then.
        """
        model.vis.global_.fovy = FOVY
        model.mat_texrepeat[:] /= SQUARES
        self._model, self._data = model, data
        self._parts = np.flatnonzero(model.geom_bodyid > 0)
        self._floor = np.flatnonzero(model.geom_bodyid == 0)[0]
        places = data.geom_xpos[self._parts]
        self._middle: Array = (places.min(0) + places.max(0)) / 2
        sizes = model.geom_size[self._parts, :2].sum(1)
        self._reach = float((np.linalg.norm(places - self._middle, axis=1) + sizes).max())

    def view(
        self, renderer: Any, azimuth: float, elevation: float, spots: np.random.Generator
    ) -> dict[str, Array]:
        """The columns `obs`, `mask`, `camera` and `points` of a picture.

        Args:
            renderer: See `make_renderer`.
            azimuth: Angle of the camera from the side view, about the vertical, in radians.
            elevation: Its angle above the horizon in radians.
            spots: Draws the pixels of the points.
        """
        import mujoco

        half = math.tan(math.radians(FOVY) / 2)
        distance = NEARNESS * self._reach / half
        shown = mujoco.MjvCamera()
        shown.lookat[:], shown.distance = self._middle, distance
        shown.azimuth, shown.elevation = 90 + math.degrees(azimuth), -math.degrees(elevation)
        update_scene(renderer, self._data, shown)
        obs = renderer.render().copy()
        renderer.enable_segmentation_rendering()
        mask = np.isin(renderer.render()[..., 0], self._parts)
        renderer.disable_segmentation_rendering()
        rotation = looking(azimuth, elevation)
        position = self._middle + distance * rotation[:, 2]
        directions = pixel_directions(FOVY, SIDE) @ rotation.T
        depth = (position[2] - self._data.geom_xpos[self._floor, 2]) / -directions[..., 2]
        row, column = spots.permutation(np.argwhere(~mask))[:POINTS].T
        points = position + depth[row, column, None] * directions[row, column]
        bounds = (distance - 1.1 * self._reach, 1.02 * depth.max())
        camera = np.concatenate([position, rotation.ravel(), [SIDE / 2 / half], bounds])
        return {"obs": obs, "mask": mask, "camera": camera, "points": points}


class Captures(MujocoFrames):
    """Pictures of a moving robot by two cameras; see the module."""

    def __init__(self, family: str) -> None:
        """See `MujocoFrames`."""
        super().__init__(family)
        self._put(self._rest)
        self._rig = Rig(self._model, self._data)

    @property
    def fields(self) -> Mapping[str, Space[Any]]:
        """See `Source`."""
        anything = (-np.inf, np.inf)
        return {
            "obs": spaces.Box(0, 255, (SIDE, SIDE, 3), np.uint8),
            "mask": spaces.Box(0, 1, (SIDE, SIDE), np.uint8),
            "camera": spaces.Box(*anything, (15,)),
            "frame": spaces.Discrete(FRAMES),
            "points": spaces.Box(*anything, (POINTS, 3)),
            "pose": spaces.Box(*anything, (len(self.joints),)),
        }

    @property
    def classes(self) -> Mapping[str, tuple[str, ...]]:
        """See `Source`."""
        return {}

    @property
    def sizes(self) -> Mapping[Split, int]:
        """See `Source`."""
        return {"train": FRAMES, "test": FRAMES}

    @property
    def _rest(self) -> Array:
        """Angles of the joints at rest, [J]."""
        angles: Array = self._model.qpos0[self._model.jnt_qposadr[self.joints]]
        return angles

    def sample(self, split: Split, size: int, seed: int) -> Mapping[str, Array]:
        """See `Source`."""
        motion = np.random.default_rng(derive(seed, "captures", self._family))
        poses = swings(motion, self._rest, self._model.jnt_range[self.joints])
        turns, tilts = sways(motion)
        axis = motion.uniform(-math.pi, math.pi)
        angles = arcs(motion, split)
        spots = np.random.default_rng(derive(seed, "captures", "points", self._family, split))
        rows = []
        renderer = make_renderer(self._model, SIDE)
        try:
            for frame in range(size):
                self._put(poses[frame], turns[frame], tilts[frame], axis)
                azimuth, elevation = angles[frame]
                view = self._rig.view(renderer, azimuth, elevation, spots)
                rows.append(view | {"frame": np.array(frame), "pose": poses[frame]})
        finally:
            renderer.close()
        return {name: np.stack([row[name] for row in rows]) for name in self.fields}


def arcs(rng: np.random.Generator, split: Split) -> Array:
    """Azimuth and elevation of the camera of a split in each frame, in radians, [FRAMES, 2]."""
    angles = rng.uniform((-TURN, ELEVATIONS[0]), (TURN, ELEVATIONS[1]), (FRAMES, 2))
    return angles + np.array([APART, 0]) if split == "test" else angles


def swings(rng: np.random.Generator, rest: Array, limits: Array) -> Array:
    """Angles of joints that swing once about their angles at rest, within their limits, [FRAMES, J].

    Args:
        rng: Draws amplitudes and phases.
        rest: Angles at rest, [J].
        limits: Smallest and largest angle of each joint, [J, 2].
    """
    low, high = limits.T
    amplitude = rng.uniform(*SWING, len(rest)) * (high - low) / 2
    phase = rng.uniform(0, 2 * math.pi, len(rest))
    middle = rest.clip(low + amplitude, high - amplitude)
    time = 2 * math.pi / FRAMES * np.arange(FRAMES)[:, None]
    angles: Array = middle + amplitude * np.sin(time + phase)
    return angles


def sways(rng: np.random.Generator) -> Array:
    """Angles by which the body turns and tilts in each frame, [2, FRAMES]; each swings once."""
    phase = rng.uniform(0, 2 * math.pi, (2, 1))
    time = 2 * math.pi / FRAMES * np.arange(FRAMES)
    angles: Array = np.array(SWAY)[:, None] * np.sin(time + phase)
    return angles


def looking(azimuth: float, elevation: float) -> Array:
    """Rotation [3, 3] of a camera, whose columns are its right, its up and the direction that it looks away from.

    At azimuth 0 and elevation 0 it looks along y, with z up.

    Args:
        azimuth: Angle about the vertical in radians.
        elevation: Angle above the horizon in radians.
    """
    (ca, cb), (sa, sb) = np.cos((azimuth, elevation)), np.sin((azimuth, elevation))
    return np.array([[ca, -sa * sb, sa * cb], [sa, ca * sb, -ca * cb], [0, cb, sb]])


def pixel_directions(fovy: float, side: int) -> Array:
    """Directions of the middles of all pixels in the space of a camera, of depth 1, [side, side, 3]; `fovy` in degrees."""
    focal = side / 2 / math.tan(math.radians(fovy) / 2)
    row, column = np.mgrid[:side, :side] + 0.5
    directions: Array = np.stack(
        [(column - side / 2) / focal, (side / 2 - row) / focal, -np.ones_like(row)], axis=2
    )
    return directions
