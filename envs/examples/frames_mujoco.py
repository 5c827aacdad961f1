"""Pictures of MuJoCo's robots in random poses, seen from the side, with body parts, depth and key points.

The angles of all joints are uniform within their limits, the body is tilted and turned at random, and its lowest point is
put on the floor. Nothing moves: only positions are computed. The camera is the one that Gymnasium's films use. A point
X in the world has the position p relative to the camera and the pixel coordinates (u, v), with f = H / 2 / tan(fovy / 2):

    p = R^T (X - c),    u = W / 2 + f p_x / (-p_z),    v = H / 2 - f p_y / (-p_z)

where R and c are the camera's rotation and position. Columns, with K body parts and J joints:

    obs          bytes [64, 64, 3]
    seg          body part at each pixel, int64 [64, 64]; 0 is the background
    depth        distance of each pixel along the camera's axis in metres, float32 [64, 64]
    keypoints    the middle of each part: u, v and whether it can be seen, float32 [K, 3]
    keypoints3d  the same points as p, in metres, float32 [K, 3]
    pose         angles of the joints in radians, float32 [J]

Training and test poses come from different seeds.
"""

import math
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
from gymnasium import Space, spaces

from rlbench.envs.examples._base import Array, Source, Split
from rlbench.envs.making import make_gymnasium
from rlbench.envs.mujoco_drawing import load_mujoco, make_renderer, update_scene
from rlbench.errors import UserError
from rlbench.seeding import derive

FAMILIES = {
    "ant": "Ant-v5", "halfcheetah": "HalfCheetah-v5", "hopper": "Hopper-v5", "humanoid": "Humanoid-v5",
    "swimmer": "Swimmer-v5", "walker2d": "Walker2d-v5",
}  # fmt: skip
SIDE = 64
TILT = 0.5
"""Largest angle by which the body is tilted, in radians."""
CAMERA = "track"


class MujocoFrames(Source):
    """Pictures of a robot; see the module."""

    kind = "generated"
    cached = True

    def __init__(self, family: str) -> None:
        """Loads the robot.

        Args:
            family: One of `FAMILIES`.

        Raises:
            UserError: There is no such family, or MuJoCo cannot draw here.
        """
        if family not in FAMILIES:
            raise UserError(f"there are no frames of {family!r}; give one of {', '.join(FAMILIES)}")
        load_mujoco()
        self._family = family
        env: Any = make_gymnasium(FAMILIES[family]).unwrapped
        self._env, self._model, self._data = env, env.model, env.data

    @cached_property
    def parts(self) -> Array:
        """Indices of the robot's geoms, int [K]."""
        return np.flatnonzero(self._model.geom_bodyid > 0)

    @cached_property
    def joints(self) -> Array:
        """Indices of the joints with limits, int [J]; the others move the whole body."""
        return np.flatnonzero(self._model.jnt_limited)

    @property
    def fields(self) -> Mapping[str, Space[Any]]:
        """See `Source`."""
        picture, anything = (SIDE, SIDE), (-np.inf, np.inf)
        return {
            "obs": spaces.Box(0, 255, (*picture, 3), np.uint8),
            "seg": spaces.Box(0, len(self.parts), picture, np.int64),
            "depth": spaces.Box(0, np.inf, picture),
            "keypoints": spaces.Box(*anything, (len(self.parts), 3)),
            "keypoints3d": spaces.Box(*anything, (len(self.parts), 3)),
            "pose": spaces.Box(*anything, (len(self.joints),)),
        }

    @property
    def classes(self) -> Mapping[str, tuple[str, ...]]:
        """See `Source`; a part without a name has the name of its body."""
        geoms = (self._model.geom(i) for i in self.parts)
        names = (geom.name or self._model.body(geom.bodyid[0]).name for geom in geoms)
        return {"seg": ("background", *names)}

    @property
    def sizes(self) -> Mapping[Split, int]:
        """See `Source`."""
        return {"train": 5_000, "test": 1_000}

    def sample(self, split: Split, size: int, seed: int) -> Mapping[str, Array]:
        """See `Source`."""
        rng = np.random.default_rng(derive(seed, "frames-mujoco", self._family, split))
        columns = {
            name: np.zeros((size, *(space.shape or ())), np.uint8 if name == "seg" else space.dtype)
            for name, space in self.fields.items()
        }
        renderer = make_renderer(self._model, SIDE)
        try:
            for row in range(size):
                columns["pose"][row] = self._pose(rng)
                for name, picture in self._pictures(renderer, CAMERA).items():
                    columns[name][row] = picture
                columns["keypoints3d"][row] = points = self._points()
                columns["keypoints"][row, :, :2] = pixels(points, self._model.cam(CAMERA).fovy[0])
        finally:
            renderer.close()
        columns["keypoints"][..., 2] = visible(columns["keypoints"], columns["seg"])
        return columns

    def _pose(self, rng: np.random.Generator) -> Array:
        """Puts the robot into a random pose and returns the angles of its joints, [J]."""
        low, high = self._model.jnt_range[self.joints].T
        angles: Array = rng.uniform(low, high)
        turn, tilt, axis = rng.uniform((-math.pi, -TILT, -math.pi), (math.pi, TILT, math.pi))
        self._put(angles, turn, tilt, axis)
        return angles

    def _put(self, angles: Array, turn: float = 0.0, tilt: float = 0.0, axis: float = 0.0) -> None:
        """Puts the robot on the floor, with given angles of its joints [J]; see `quaternion` for the others."""
        import mujoco

        model, data = self._model, self._data
        data.qpos[:] = model.qpos0
        data.qpos[model.jnt_qposadr[self.joints]] = angles
        height = None
        for joint in np.flatnonzero(~model.jnt_limited.astype(bool)):
            place = model.jnt_qposadr[joint]
            if model.jnt_type[joint] == mujoco.mjtJoint.mjJNT_FREE:
                height, data.qpos[place + 3 : place + 7] = place + 2, quaternion(turn, tilt, axis)
            elif model.jnt_type[joint] == mujoco.mjtJoint.mjJNT_HINGE:
                data.qpos[place] = tilt
            elif model.jnt_axis[joint, 2]:
                height = place
        mujoco.mj_kinematics(model, data)
        if height is not None:
            data.qpos[height] -= self._lowest()
            mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        mujoco.mj_camlight(model, data)

    def _lowest(self) -> float:
        """Height of the lowest point of the robot, whose parts are capsules and spheres."""
        radius, half = self._model.geom_size[self.parts, :2].T
        upright = np.abs(self._data.geom_xmat[self.parts, 8])
        return float((self._data.geom_xpos[self.parts, 2] - radius - half * upright).min())

    def _pictures(self, renderer: Any, camera: Any) -> dict[str, Array]:
        """The columns `obs`, `seg` and `depth` of the current pose; the camera as in `update_scene`."""
        update_scene(renderer, self._data, camera)
        obs = renderer.render().copy()
        renderer.enable_segmentation_rendering()
        # A geom's index, or -1 in the background.
        geoms = renderer.render()[..., 0]
        renderer.disable_segmentation_rendering()
        renderer.enable_depth_rendering()
        depth = renderer.render().copy()
        renderer.disable_depth_rendering()
        part_of = np.zeros(self._model.ngeom + 1, np.uint8)
        part_of[self.parts] = np.arange(1, len(self.parts) + 1)
        return {"obs": obs, "seg": part_of[geoms], "depth": depth}

    def _points(self) -> Array:
        """The middle of each part relative to the camera, [K, 3]."""
        camera = self._data.cam(CAMERA)
        points: Array = (self._data.geom_xpos[self.parts] - camera.xpos) @ camera.xmat.reshape(3, 3)
        return points


def pixels(points: Array, fovy: float) -> Array:
    """The columns and rows [K, 2] at which points p [K, 3] are seen; `fovy` is the camera's angle in degrees."""
    focal = SIDE / 2 / math.tan(math.radians(fovy) / 2)
    scaled = focal * points[:, :2] / -points[:, 2:]
    places: Array = SIDE / 2 + scaled * (1, -1)
    return places


def visible(keypoints: Array, seg: Array) -> Array:
    """Whether the pixel of each key point shows its own part, bool [N, K].

    Args:
        keypoints: [N, K, 3]; the last dimension starts with u and v.
        seg: Part of each pixel, [N, H, W].
    """
    column, row = np.moveaxis(np.floor(keypoints[..., :2]).astype(int), -1, 0)
    inside = (column >= 0) & (column < seg.shape[2]) & (row >= 0) & (row < seg.shape[1])
    examples = np.arange(len(seg))[:, None]
    shown = seg[examples, np.where(inside, row, 0), np.where(inside, column, 0)]
    own: Array = inside & (shown == np.arange(1, keypoints.shape[1] + 1))
    return own


def quaternion(turn: float, tilt: float, axis: float) -> Array:
    """Quaternion [4] of a turn about the vertical after a tilt about the horizontal direction `axis`; angles in radians."""
    cos, sin = math.cos(tilt / 2), math.sin(tilt / 2)
    half = turn / 2
    # The product of (cos half, 0, 0, sin half) and (cos, sin cos axis, sin sin axis, 0).
    return np.array([
        math.cos(half) * cos, sin * math.cos(axis + half), sin * math.sin(axis + half), math.sin(half) * cos,
    ])  # fmt: skip
