"""Pictures of MuJoCo's robots with 1 to 3 limbs of other pictures pasted at random places, as false candidates for key points.

The poses are those of `frames-mujoco`. A limb is a body that hangs on the trunk, such as a thigh, with all bodies that hang on it, cut out of
another picture of the same split along its mask. It is moved by whole pixels to a place where all of it is in the picture. Columns of `frames-mujoco` that
change, and one more:

    obs        the picture with the pasted limbs
    clean      the picture without them, bytes [64, 64, 3]
    seg        the pixels of pasted limbs are background
    keypoints  a point whose pixel a pasted limb covers cannot be seen

Depth, key points in space and the pose remain those of the robot.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import Space

from rlbench.envs.examples._base import Array, Split
from rlbench.envs.examples.frames_mujoco import MujocoFrames, visible
from rlbench.errors import UserError
from rlbench.seeding import derive

MOST = 3
"""Largest number of limbs that are pasted into a picture."""


class MujocoClutter(MujocoFrames):
    """Pictures of a robot with pasted limbs; see the module."""

    @property
    def fields(self) -> Mapping[str, Space[Any]]:
        """See `Source`."""
        found = super().fields
        return {**found, "clean": found["obs"]}

    @property
    def limbs(self) -> Array:
        """Which parts belong to each limb, bool [L, 1 + K]; the background, part 0, belongs to none."""
        parent, body = self._model.body_parentid, self._model.geom_bodyid[self.parts]
        roots = [b for b in range(1, self._model.nbody) if parent[parent[b]] == 0 < parent[b]]
        rows = []
        for root in roots:
            below = {root}
            for b in range(root + 1, self._model.nbody):  # Parents have smaller numbers.
                if parent[b] in below:
                    below.add(b)
            rows.append([False, *np.isin(body, list(below))])
        return np.array([row for row in rows if any(row)])

    def sample(self, split: Split, size: int, seed: int) -> Mapping[str, Array]:
        """See `Source`.

        Raises:
            UserError: There is no other picture from which limbs could be cut.
        """
        if size == 1:
            raise UserError(
                "1 picture was requested, but limbs are cut out of other pictures; give a --data-size of 2 or more"
            )
        columns = dict(super().sample(split, size, seed))
        rng = np.random.default_rng(derive(seed, "clutter", self._family, split))
        columns["clean"] = columns["obs"].copy()
        columns["obs"], covered = cluttered(columns["clean"], columns["seg"], self.limbs, rng)
        columns["seg"] = np.where(covered, 0, columns["seg"])
        columns["keypoints"][..., 2] *= visible(columns["keypoints"], columns["seg"])
        return columns


def cluttered(
    obs: Array, seg: Array, limbs: Array, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Pictures with pasted limbs, [N, H, W, 3], and which pixels these cover, bool [N, H, W].

    Args:
        obs: Pictures, [N, H, W, 3], from which the limbs are also cut.
        seg: Part of each pixel, [N, H, W].
        limbs: See `MujocoClutter.limbs`.
        rng: Chooses limbs, pictures and places.
    """
    pasted, covered = obs.copy(), np.zeros(seg.shape, bool)
    for row in range(len(obs)):
        for _ in range(rng.integers(1, MOST + 1)):
            other = (row + rng.integers(1, len(obs))) % len(obs)
            rows, columns = np.nonzero(rng.choice(limbs)[seg[other]])
            if len(rows):
                to_rows, to_columns = (
                    x + rng.integers(-x.min(), side - x.max())
                    for x, side in ((rows, seg.shape[1]), (columns, seg.shape[2]))
                )
                pasted[row, to_rows, to_columns] = obs[other, rows, columns]
                covered[row, to_rows, to_columns] = True
    return pasted, covered
