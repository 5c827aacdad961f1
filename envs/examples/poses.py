"""Random poses of MuJoCo's robots as points in space.

The angles of all joints have a Beta(2, 2) distribution within their limits, and only positions are computed: there is no physics, and
there are no pictures. Columns, with K points and J joints:

    obs     points of the body in metres, float32 [K, 3], those of the torso first; the middle of the torso is at 0
    pose    angles of the joints in radians, float32 [J]

Training and test poses come from different seeds.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import Space, spaces

from rlbench.envs.examples._base import Array, Source, Split
from rlbench.envs.poses.body import Body
from rlbench.seeding import derive


class Poses(Source):
    """Poses of a robot; see the module."""

    kind = "generated"
    cached = True

    def __init__(self, family: str) -> None:
        """Loads the robot, such as `humanoid`."""
        self._family, self._body = family, Body(family)

    @property
    def fields(self) -> Mapping[str, Space[Any]]:
        """See `Source`."""
        anything = (-np.inf, np.inf)
        return {
            "obs": spaces.Box(*anything, (self._body.size, 3)),
            "pose": spaces.Box(*anything, (len(self._body.joints),)),
        }

    @property
    def sizes(self) -> Mapping[Split, int]:
        """See `Source`."""
        return {"train": 10_000, "test": 2_000}

    def sample(self, split: Split, size: int, seed: int) -> Mapping[str, Array]:
        """See `Source`."""
        rng = np.random.default_rng(derive(seed, "poses", self._family, split))
        angles = self._body.random(rng, size)
        return {"obs": self._body.points(angles), "pose": angles}
