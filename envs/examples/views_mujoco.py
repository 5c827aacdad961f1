"""Pictures of MuJoCo's robots from random angles, before and after a random action, with labels of perception and of control.

Poses are those of `frames-mujoco`. The robot starts at rest, and a uniformly random action is held for `HELD` steps of its environment.
A free camera looks at the robot's trunk from the side view turned about the vertical by a random angle, and does not move in these steps.
Columns, with A actuators:

    obs        bytes [32, 32, 3]
    next_obs   the picture after the action
    seg        body part at each pixel of `obs`, int64 [32, 32]; 0 is the background
    depth      distance of each pixel of `obs` along the camera's axis in metres, float32 [32, 32]
    normals    unit normals of the surfaces in `obs`, relative to the camera (right, up, backwards), float32 [32, 32, 3]; 0 in the sky
    azimuth    the angle in radians, from -pi / 3 to pi / 3, float32 [1]
    action     float32 [A]
    return     sum of the rewards of the steps, float32 [1]

A pixel in column u and row v shows the point p of camera space, and its normal is that of the surface through its neighbours:

    p = depth ((u - W / 2) / f, (H / 2 - v) / f, -1),    n = normalised(dp/du x dp/d(-v)),    f = H / 2 / tan(fovy / 2)

Training and test poses come from different seeds.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import Space, spaces

from rlbench.envs.examples._base import Array, Split
from rlbench.envs.examples.frames_mujoco import MujocoFrames
from rlbench.envs.mujoco_drawing import make_renderer, update_scene
from rlbench.seeding import derive

SIDE = 32
HELD = 3
"""Steps of the environment in which the action is held: enough to see it, and few enough for the return to depend on the pose."""
TURN = math.pi / 3
"""Largest angle from the side view, in radians."""
ELEVATION, DISTANCE = -10.0, 2.5
"""Angle of the camera above the horizon in degrees, and its distance in metres; both as in the side view of the films."""


class MujocoViews(MujocoFrames):
    """Pictures of a robot before and after an action; see the module."""

    @property
    def fields(self) -> Mapping[str, Space[Any]]:
        """See `Source`."""
        picture, anything = (SIDE, SIDE), (-np.inf, np.inf)
        colours = spaces.Box(0, 255, (*picture, 3), np.uint8)
        return {
            "obs": colours,
            "next_obs": colours,
            "seg": spaces.Box(0, len(self.parts), picture, np.int64),
            "depth": spaces.Box(0, np.inf, picture),
            "normals": spaces.Box(-1.01, 1.01, (*picture, 3)),
            "azimuth": spaces.Box(-TURN, TURN, (1,)),
            "action": self._env.action_space,
            "return": spaces.Box(*anything, (1,)),
        }

    @property
    def sizes(self) -> Mapping[Split, int]:
        """See `Source`."""
        return {"train": 2_000, "test": 1_000}

    def sample(self, split: Split, size: int, seed: int) -> Mapping[str, Array]:
        """See `Source`."""
        rng = np.random.default_rng(derive(seed, "views-mujoco", self._family, split))
        rows = []
        renderer = make_renderer(self._model, SIDE)
        try:
            for _ in range(size):
                rows.append(self._view(renderer, rng))
        finally:
            renderer.close()
        return {name: np.stack([row[name] for row in rows]) for name in self.fields}

    def _view(self, renderer: Any, rng: np.random.Generator) -> dict[str, Array]:
        """The columns of one example."""
        import mujoco

        self._pose(rng)
        turn = rng.uniform(-TURN, TURN, 1)
        low, high = self._env.action_space.low, self._env.action_space.high
        action = rng.uniform(low, high)
        camera = mujoco.MjvCamera()
        camera.lookat[:] = self._data.xpos[1]
        camera.distance, camera.elevation = DISTANCE, ELEVATION
        camera.azimuth = 90 + math.degrees(turn[0])
        columns = self._pictures(renderer, camera)
        columns["normals"] = normals(columns["depth"], self._model.vis.global_.fovy)
        columns["normals"][columns["depth"] > self._sky] = 0
        self._env.set_state(self._data.qpos.copy(), np.zeros(self._model.nv))
        rewards = [self._env.step(action)[1] for _ in range(HELD)]
        update_scene(renderer, self._data, camera)
        after = renderer.render().copy()
        return columns | {
            "next_obs": after, "azimuth": turn, "action": action, "return": np.array([sum(rewards)]),
        }  # fmt: skip

    @property
    def _sky(self) -> float:
        """Distance in metres beyond which nothing is drawn but the sky."""
        return 0.99 * float(self._model.vis.map.zfar * self._model.stat.extent)


def normals(depth: Array, fovy: float) -> Array:
    """Unit normals [H, W, 3] towards the camera from depths [H, W]; `fovy` is the camera's angle in degrees."""
    rows, columns = depth.shape
    focal = rows / 2 / math.tan(math.radians(fovy) / 2)
    v, u = np.mgrid[:rows, :columns] + 0.5
    rays = np.stack([(u - columns / 2) / focal, (rows / 2 - v) / focal, -np.ones_like(u)], axis=2)
    points = depth[..., None] * rays
    cross = np.cross(np.gradient(points, axis=1), -np.gradient(points, axis=0))
    length = np.linalg.norm(cross, axis=2, keepdims=True)
    unit: Array = cross / np.maximum(length, 1e-12)
    return unit
