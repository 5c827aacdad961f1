"""Following a demonstration that is seen by another camera: a MuJoCo robot without physics.

    demonstration   a loop through 4 random poses, the same in every episode; 60 steps
    cameras         A shows the robot and B the demonstration, each from a random direction that is new in every episode: any azimuth, and
                    up to 30 degrees above or below
    observation     `angles`: of the J joints, as shares of their ranges from -1 to 1; `phase`: cosine and sine of the progress through
                    the loop; `view`: key points of the robot in A, [K, 2]; `demonstration`: key points of the demonstration in B, [K, 2]
    action          change of each angle, from -1 to 1; 1 is a tenth of its range
    reward          exp(-e / 0.2), where e is the mean distance of the points of both poses in space after alignment, in units of the torso

An episode begins in the first pose of the demonstration. The best return is 60. Key points are in units of the focal length.
"""

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.spaces import Box, Dict
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from rlbench.envs.poses.body import Body
from rlbench.envs.resets import episodes_to_begin
from rlbench.packed import Packed
from rlbench.poses import aligned_errors, normalised, projected, rotations
from rlbench.seeding import derive

Array = NDArray[Any]
STEPS = 60
"""Steps of an episode, and of the loop of the demonstration."""
WAYPOINTS = 4
CHANGE = 0.1
"""Largest change of an angle in a step, as a share of its range."""
DISTANCE = 5.0
"""Distance of the cameras in metres."""
ELEVATION = np.pi / 6
ERROR = 0.2
"""Error at which the reward is 1 / e."""


def demonstration(body: Body, family: str) -> Array:
    """Angles before each step and after the last, float64 [61, J]: half a cosine from each pose of the loop to the next."""
    poses = body.random(np.random.default_rng(derive(0, "follow", family)), WAYPOINTS)
    progress = np.linspace(0, WAYPOINTS, STEPS + 1)
    last, share = np.divmod(progress, 1)
    weight = (1 - np.cos(np.pi * share))[:, None] / 2
    begin = last.astype(int) % WAYPOINTS
    followed: Array = (1 - weight) * poses[begin] + weight * poses[(begin + 1) % WAYPOINTS]
    return followed


class FollowVector(VectorEnv[Array, Array, Array]):
    """Environments of one robot; the caller resets those whose episodes are over.

    `reset` and `step` behave as in `SyncVectorEnv(..., autoreset_mode=AutoresetMode.DISABLED)`; observations are packed.
    """

    def __init__(self, family: str, count: int) -> None:
        """`count` environments, V."""
        self.num_envs = count
        self.metadata = {"render_modes": [], "autoreset_mode": AutoresetMode.DISABLED}
        self._body = Body(family)
        angles = demonstration(self._body, family)
        self._angles = np.repeat(angles[:1], count, axis=0)
        self._demonstration = torch.from_numpy(self._body.points(angles))
        self._first = angles[0]
        joints, points = angles.shape[1], self._body.size
        whole = Dict({
            "angles": Box(-1, 1, (joints,)), "phase": Box(-1, 1, (2,)),
            "view": Box(-np.inf, np.inf, (points, 2)), "demonstration": Box(-np.inf, np.inf, (points, 2)),
        })  # fmt: skip
        self._packed = Packed(whole)
        self.single_observation_space = self._packed
        self.single_action_space = Box(-1, 1, (joints,))
        self.observation_space = batch_space(self.single_observation_space, count)
        self.action_space = batch_space(self.single_action_space, count)
        self._step = np.zeros(count, np.int64)
        self._cameras = torch.zeros(2, count, 3, 3)

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Array, dict[str, Any]]:
        """Begins episodes.

        Args:
            seed: Decides the cameras: one for each environment, or the first of V consecutive ones; None draws.
            options: `reset_mask`, bool [V]: only these begin a new episode. Without it, all do.

        Returns:
            Observations of all environments, float32 [V, D], and an empty dict.
        """
        mask, chosen = episodes_to_begin(self, seed, options)
        for row, own in zip(mask.nonzero()[0], chosen, strict=True):
            drawn = torch.from_numpy(np.random.default_rng(own).uniform(-1, 1, (2, 2))).float()
            azimuth, elevation = (drawn * torch.tensor([np.pi, ELEVATION])).unbind(1)
            self._cameras[:, row] = rotations(azimuth, elevation, torch.zeros(2))
            self._angles[row], self._step[row] = self._first, 0
        return self._seen()[0], {}

    def step(self, actions: Array) -> tuple[Array, Array, Array, Array, dict[str, Any]]:
        """One step of each environment; the actions have shape [V, J]. Episodes that are over stay at their end."""
        low, high = self._body.limits
        going = (self._step < STEPS)[:, None]
        change = going * np.clip(actions, -1, 1) * CHANGE * (high - low)
        self._angles = np.clip(self._angles + change, low, high)
        self._step = np.minimum(self._step + 1, STEPS)
        obs, points = self._seen()
        size = len(self._body.torso)
        own, other = (normalised(x, size) for x in (points, self._demonstration[self._step]))
        reward = torch.exp(-aligned_errors(other, own) / ERROR).numpy().astype(np.float64)
        over = self._step == STEPS
        return obs, reward, over, np.zeros_like(over), {}

    def _seen(self) -> tuple[Array, torch.Tensor]:
        """Packed observations, float32 [V, D], and the points of the robots, [V, K, 3]."""
        low, high = self._body.limits
        points = torch.from_numpy(self._body.points(self._angles))
        turn = 2 * np.pi * self._step / STEPS
        both = torch.stack([points, self._demonstration[self._step]])
        view, shown = projected(both, self._cameras, DISTANCE).flatten(2).numpy()
        parts: dict[str, Array] = {
            "angles": 2 * (self._angles - low) / (high - low) - 1,
            "phase": np.stack([np.cos(turn), np.sin(turn)], 1),
            "view": view,
            "demonstration": shown,
        }
        return np.concatenate([parts[x] for x in self._packed.parts], 1).astype(np.float32), points


class Follow(gym.Env[Array, Array]):
    """One environment: a vector of one."""

    def __init__(self, family: str) -> None:
        """See `FollowVector`."""
        self._one = FollowVector(family, 1)
        self.observation_space = self._one.single_observation_space
        self.action_space = self._one.single_action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """Begins the episode of a seed; without one, the next episode drawn from the last seed."""
        super().reset(seed=seed)
        own = int(self.np_random.integers(2**31)) if seed is None else seed
        obs, info = self._one.reset(seed=own)
        return obs[0], info

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """One step."""
        obs, reward, terminated, truncated, info = self._one.step(np.asarray(action)[None])
        return obs[0], float(reward[0]), bool(terminated[0]), bool(truncated[0]), info
