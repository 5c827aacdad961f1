"""D4RL's locomotion tasks seen as pictures: the last two frames take the place of the observation; dynamics and rewards do not change.

An observation is uint8 [64, 64, 6]: the colours of the frame before the last action, then those of the frame after it; a first observation has
the same frame twice. Frames are drawn as in `frames-mujoco`, by the camera that follows the robot. Two frames show velocities: of
the joints directly, and of the robot by the floor, which moves past the camera. The floor of the model ends after 20 or 40 m, but its pattern
repeats, so it is drawn as if it had no end: the robot is moved by a multiple of the pattern's length.
"""

import math
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray

from rlbench.envs.d4rl.names import ENVIRONMENTS
from rlbench.envs.data_names import PIXELS
from rlbench.envs.examples.frames_mujoco import CAMERA, SIDE
from rlbench.envs.mujoco_drawing import make_renderer, update_scene

Array = NDArray[Any]


class MujocoPixels(gym.Wrapper[Any, Any, Any, Any]):
    """Pictures of a MuJoCo environment; see the module."""

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        """Draws `env`, whose model has a camera called track."""
        import mujoco

        super().__init__(env)
        self.observation_space = Box(0, 255, (SIDE, SIDE, 6), np.uint8)
        self.state: Array = np.zeros(env.observation_space.shape or ())
        """The observation of the environment behind the pictures."""
        world: Any = env.unwrapped
        self._world = world
        # Apart from the simulation, which must not notice that it is drawn.
        self._drawn = mujoco.MjData(world.model)
        self._period = period(world.model)
        self._renderer: Any = None
        self._last = np.zeros((SIDE, SIDE, 3), np.uint8)

    def reset(self, **options: Any) -> tuple[Array, dict[str, Any]]:
        """A first observation: the same frame twice."""
        self.state, info = self.env.reset(**options)
        self._last = frame = self._frame()
        return np.concatenate([frame, frame], axis=2), info

    def step(self, action: Any) -> tuple[Array, Any, bool, bool, dict[str, Any]]:
        """One step of the environment."""
        self.state, *rest = self.env.step(action)
        before, self._last = self._last, self._frame()
        return (np.concatenate([before, self._last], axis=2), *rest)  # type: ignore[return-value]

    def _frame(self) -> Array:
        import mujoco

        model, drawn = self._world.model, self._drawn
        if self._renderer is None:
            self._renderer = make_renderer(model, SIDE)
        drawn.qpos[:] = self._world.data.qpos
        drawn.qpos[0] = math.remainder(drawn.qpos[0], self._period)
        for compute in (mujoco.mj_kinematics, mujoco.mj_comPos, mujoco.mj_camlight):
            compute(model, drawn)
        update_scene(self._renderer, drawn, CAMERA)
        frame: Array = self._renderer.render().copy()
        return frame

    def close(self) -> None:
        """Closes the environment and the renderer."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None
        super().close()


def period(model: Any) -> float:
    """Length in metres after which the pattern of the floor repeats."""
    floor = next(i for i in range(model.ngeom) if model.geom_bodyid[i] == 0)
    repeats = model.mat_texrepeat[model.geom_matid[floor], 0]
    return float(2 * model.geom_size[floor, 0] / repeats)


def make(env_id: str, **options: Any) -> MujocoPixels:
    """The environment of a Gymnasium id, without wrappers, seen as pictures."""
    return MujocoPixels(gym.make(env_id, disable_env_checker=True, **options).unwrapped)


for _name, _family in PIXELS.values():
    gym.register(f"rlbench/{_name}", partial(make, ENVIRONMENTS[_family]), max_episode_steps=1_000)
