"""D4RL's four locomotion tasks, stepped as a batch with little overhead over MuJoCo itself.

A third of a step in Gymnasium is spent after MuJoCo's part, for each environment alone: properties are
computed twice, and infos are built that nobody reads. Here this is done for all environments at once. A test
checks that dynamics, observations, rewards and ends equal Gymnasium's to the bit.
"""

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
from gymnasium.envs.mujoco.ant_v4 import AntEnv
from gymnasium.envs.mujoco.half_cheetah_v4 import HalfCheetahEnv
from gymnasium.envs.mujoco.hopper_v4 import HopperEnv
from gymnasium.envs.mujoco.walker2d_v4 import Walker2dEnv
from gymnasium.wrappers import OrderEnforcing, TimeLimit
from numpy.typing import NDArray

Array = NDArray[Any]


def are_walkers(envs: Sequence[gym.Env[Any, Any]]) -> bool:
    """Whether these are all the same one of the four tasks, version 4, unchanged from `gym.make`."""
    return all(
        type(env) is TimeLimit
        and type(env.env) is OrderEnforcing
        and type(env.env.env) in _WALKERS
        and env.env.env.render_mode != "human"
        and env.spec == envs[0].spec
        for env in envs
    )


def walkers(envs: Sequence[gym.Env[Any, Any]]) -> "Walkers":
    """Such environments as a batch."""
    return _WALKERS[type(envs[0].unwrapped)](envs)


class Walkers:
    """Base class of the four; an `rlbench.envs.episodes.Environments`."""

    hidden = 1
    """Number of position coordinates that observations leave out."""

    def __init__(self, envs: Sequence[gym.Env[Any, Any]]) -> None:
        """See `walkers`."""
        self._envs = envs
        self._worlds: list[Any] = [env.unwrapped for env in envs]
        self._world = world = self._worlds[0]
        self.observation_space, self.action_space = world.observation_space, world.action_space
        self._limit = envs[0].get_wrapper_attr("_max_episode_steps")
        # Views stay valid: a reset writes to the same memory.
        self._views = [
            (w.data.ctrl, w.data.qpos, w.data.qvel, self._along(w)) for w in self._worlds
        ]
        count = len(envs)
        self._position = np.zeros((count, world.model.nq))
        self._velocity = np.zeros((count, world.model.nv))
        self._x, self._steps = np.zeros(count), np.zeros(count, dtype=np.int64)

    def __len__(self) -> int:
        """Number of environments."""
        return len(self._envs)

    def reset(self, v: int, seed: int) -> Array:
        """Begins an episode in environment number v; its first observation, [D]."""
        obs: Array = self._envs[v].reset(seed=seed)[0]
        self._x[v], self._steps[v] = self._views[v][-1][0], 0
        return obs

    def step(self, playing: Array, action: Array) -> tuple[Array, Array, Array, Array]:
        """One step in the environments `playing` [P], with actions [P, A].

        Returns:
            Observations [P, D], rewards [P], terminated [P], truncated [P].
        """
        world, before = self._world, self._x[playing]
        for i, v in enumerate(playing.tolist()):
            control, position, velocity, x = self._views[v]
            control[:] = action[i]
            self._move(v)
            self._position[v], self._velocity[v], self._x[v] = position, velocity, x[0]
        self._steps[playing] += 1
        position, velocity = self._position[playing], self._velocity[playing]
        healthy = self._healthy(position, velocity)
        may_end = getattr(world, "_terminate_when_unhealthy", False)
        forward = getattr(world, "_forward_reward_weight", 1.0)
        obs = np.concatenate((position[:, self.hidden :], self._seen(playing, velocity)), axis=1)
        reward = forward * ((self._x[playing] - before) / world.dt)
        reward += (healthy | may_end) * getattr(world, "_healthy_reward", 0.0)
        reward -= self._cost(action, obs)
        return obs, reward, ~healthy & may_end, self._steps[playing] >= self._limit

    def close(self) -> None:
        """Closes the environments."""
        for env in self._envs:
            env.close()

    def _along(self, world: Any) -> Array:
        """The array that begins with the coordinate along which they walk."""
        qpos: Array = world.data.qpos
        return qpos

    def _move(self, v: int) -> None:
        world = self._worlds[v]
        mujoco.mj_step(world.model, world.data, world.frame_skip)

    def _healthy(self, position: Array, velocity: Array) -> Array:
        return np.ones(len(position), dtype=bool)

    def _cost(self, action: Array, obs: Array) -> Array:
        cost: Array = self._world._ctrl_cost_weight * np.square(action).sum(axis=1)
        return cost.astype(np.float64)

    def _seen(self, playing: Array, velocity: Array) -> Array:
        """The part of observations after the positions."""
        return velocity


class _Upright(Walkers):
    """Hopper and Walker2d, which end when they fall."""

    def _healthy(self, position: Array, velocity: Array) -> Array:
        (low, high), (left, right) = self._world._healthy_z_range, self._world._healthy_angle_range
        z, angle = position[:, 1], position[:, 2]
        standing: Array = (low < z) & (z < high) & (left < angle) & (angle < right)
        return standing

    def _seen(self, playing: Array, velocity: Array) -> Array:
        return np.clip(velocity, -10, 10)


class _Hopper(_Upright):
    def _healthy(self, position: Array, velocity: Array) -> Array:
        low, high = self._world._healthy_state_range
        state = np.concatenate((position[:, 2:], velocity), axis=1)
        inside: Array = ((low < state) & (state < high)).all(axis=1)
        return super()._healthy(position, velocity) & inside


class _Ant(Walkers):
    hidden = 2

    def __init__(self, envs: Sequence[gym.Env[Any, Any]]) -> None:
        super().__init__(envs)
        self._felt = [world.data.cfrc_ext for world in self._worlds]
        self._force = np.zeros((len(envs), self._felt[0].size))

    def _along(self, world: Any) -> Array:
        torso: Array = world.data.body("torso").xpos
        return torso

    def _move(self, v: int) -> None:
        super()._move(v)
        if self._world._use_contact_forces:
            # MuJoCo computes them only if it is asked to.
            mujoco.mj_rnePostConstraint(self._worlds[v].model, self._worlds[v].data)
            self._force[v] = self._felt[v].ravel()

    def _healthy(self, position: Array, velocity: Array) -> Array:
        low, high = self._world._healthy_z_range
        finite = np.isfinite(position).all(axis=1) & np.isfinite(velocity).all(axis=1)
        healthy: Array = finite & (low <= position[:, 2]) & (position[:, 2] <= high)
        return healthy

    def _seen(self, playing: Array, velocity: Array) -> Array:
        if not self._world._use_contact_forces:
            return velocity
        force = np.clip(self._force[playing], *self._world._contact_force_range)
        return np.concatenate((velocity, force), axis=1)

    def _cost(self, action: Array, obs: Array) -> Array:
        cost = super()._cost(action, obs)
        if self._world._use_contact_forces:
            force = obs[:, -self._force.shape[1] :]
            cost += self._world._contact_cost_weight * np.square(force).sum(axis=1)
        return cost


_WALKERS: dict[type, type[Walkers]] = {
    HalfCheetahEnv: Walkers,
    HopperEnv: _Hopper,
    Walker2dEnv: _Upright,
    AntEnv: _Ant,
}
