"""The points of MuJoCo's robots for given joint angles."""

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlbench.envs.examples.frames_mujoco import FAMILIES
from rlbench.envs.making import make_gymnasium
from rlbench.envs.mujoco_drawing import load_mujoco
from rlbench.errors import UserError

Array = NDArray[Any]

TORSOS = {
    "ant": ("aux_1", "aux_2", "aux_3", "aux_4"),
    "halfcheetah": ("bthigh", "fthigh"),
    "hopper": ("torso", "thigh"),
    "humanoid": ("right_upper_arm", "left_upper_arm", "right_thigh", "left_thigh"),
    "swimmer": ("torso", "mid"),
    "walker2d": ("torso", "thigh"),
}  # fmt: skip
"""Bodies whose joints are the points of the torso: of the humanoid shoulders and hips."""


class Body:
    """A robot; its points are those of the torso, the joints of the other bodies, and the ends of its limbs."""

    def __init__(self, family: str) -> None:
        """Loads the robot.

        Args:
            family: One of `TORSOS`.

        Raises:
            UserError: There is no such robot.
        """
        if family not in TORSOS:
            raise UserError(
                f"there are no poses of {family!r}; give one of {', '.join(sorted(TORSOS))}"
            )
        load_mujoco()
        env: Any = make_gymnasium(FAMILIES[family]).unwrapped
        self.model, self.data = env.model, env.data
        self._family = family

    @cached_property
    def torso(self) -> Array:
        """Indices of the bodies of the torso."""
        return np.array([self.model.body(name).id for name in TORSOS[self._family]])

    @cached_property
    def others(self) -> Array:
        """Indices of the bodies with joints, other than those of the torso."""
        return np.array([
            body for body in range(1, self.model.nbody) if self.model.body_jntnum[body] and body not in self.torso
        ])  # fmt: skip

    @cached_property
    def ends(self) -> Array:
        """Indices of the head, if there is one, and of the last geom of each limb."""
        model = self.model
        parents = set(model.body_parentid.tolist())
        limbs = [body for body in range(1, model.nbody) if body not in parents]
        last = {model.body_geomadr[body] + model.body_geomnum[body] - 1 for body in limbs}
        return np.array([
            geom for geom in range(model.ngeom) if geom in last or model.geom(geom).name == "head"
        ])  # fmt: skip

    @cached_property
    def joints(self) -> Array:
        """Indices of the joints with limits, int [J]; the others move the whole body."""
        return np.flatnonzero(self.model.jnt_limited)

    @cached_property
    def limits(self) -> tuple[Array, Array]:
        """Smallest and largest angle of each joint in radians, [J] each."""
        low, high = self.model.jnt_range[self.joints].T
        return low, high

    @property
    def size(self) -> int:
        """Number of points, K."""
        return len(self.torso) + len(self.others) + len(self.ends)

    def random(self, rng: np.random.Generator, count: int) -> Array:
        """Angles of random poses, [N, J]: each has a Beta(2, 2) distribution within its limits."""
        low, high = self.limits
        return low + (high - low) * rng.beta(2, 2, (count, len(self.joints)))

    def points(self, angles: Array) -> Array:
        """Points of poses in metres, float32 [N, K, 3], with the middle of the torso at 0.

        Args:
            angles: Angles of the joints in radians, [N, J].
        """
        import mujoco

        model, data = self.model, self.data
        places = model.jnt_qposadr[self.joints]
        found = np.empty((len(angles), self.size, 3))
        bodies = np.concatenate([self.torso, self.others])
        data.qpos[:] = model.qpos0
        for row, pose in zip(found, angles, strict=True):
            data.qpos[places] = pose
            mujoco.mj_kinematics(model, data)
            row[: len(bodies)], row[len(bodies) :] = data.xpos[bodies], data.geom_xpos[self.ends]
        centre = found[:, : len(self.torso)].mean(axis=1, keepdims=True)
        centred: Array = (found - centre).astype(np.float32)
        return centred
