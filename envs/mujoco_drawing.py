"""Draws MuJoCo's worlds without a screen and without a GPU, 30 times as fast as Gymnasium at 160 pixels and 10 times at 480.

It leaves out Gymnasium's shadow map of 4096 x 4096, reflections and fourfold sampling.
"""

import ctypes.util
import os
import sys
import warnings
from pathlib import Path
from typing import Any

from rlbench.errors import UserError


def load_mujoco() -> None:
    """Loads MuJoCo so that it can draw without a screen; a user's choice is kept.

    MuJoCo reads the choice on import, which fails if the chosen library is missing.
    """
    free = sys.platform == "linux" and "mujoco" not in sys.modules
    if free and not os.environ.get("MUJOCO_GL") and (found := _headless_gl()):
        os.environ["MUJOCO_GL"] = found
    try:
        import mujoco  # noqa: F401
    except Exception as error:
        raise no_gl() from error


def make_renderer(model: Any, size: int) -> Any:
    """A `mujoco.Renderer` for pictures of `size` x `size` pixels; see `update_scene`.

    Raises:
        UserError: MuJoCo cannot draw here.
    """
    import mujoco

    model.vis.quality.shadowsize = 0
    model.vis.quality.offsamples = 0
    model.vis.global_.offwidth = max(size, model.vis.global_.offwidth)
    model.vis.global_.offheight = max(size, model.vis.global_.offheight)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # GLFW would repeat the error message as a warning.
            return mujoco.Renderer(model, size, size)
    except Exception as error:  # Each GL library raises its own exceptions.
        raise no_gl() from error


def update_scene(renderer: Any, data: Any, camera: Any) -> None:
    """Updates the scene with the positions of all bodies in `data`, without shadows and reflections.

    Args:
        renderer: See `make_renderer`.
        data: The `mujoco.MjData`.
        camera: Name or number of a camera of the model, or a `mujoco.MjvCamera`.
    """
    import mujoco

    renderer.update_scene(data, camera=camera)
    for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
        renderer.scene.flags[flag] = 0


def no_gl() -> UserError:
    """The error that explains why MuJoCo cannot draw, and what to do."""
    chosen = os.environ.get("MUJOCO_GL")
    if not chosen and (found := _headless_gl()):
        return UserError(
            "MuJoCo was already loaded without support for drawing without a screen; set "
            f"MUJOCO_GL={found} before Python starts"
        )
    if sys.platform != "linux":
        return UserError(
            f"MuJoCo cannot draw here (MUJOCO_GL is {chosen or 'not set'}); run the command where windows can be opened"
        )
    return UserError(
        f"MuJoCo cannot draw without a screen here (MUJOCO_GL is {chosen or 'not set'}); run apt-get "
        "install libegl1 libegl-mesa0 libgl1-mesa-dri and leave MUJOCO_GL unset"
    )


def _headless_gl() -> str | None:
    """EGL, which draws without a screen, if it is installed with a driver.

    Not OSMesa, because current versions of PyOpenGL cannot make its contexts.
    """
    vendors = [Path(x) / "glvnd/egl_vendor.d" for x in ("/usr/share", "/etc")]
    if ctypes.util.find_library("EGL") and any(list(x.glob("*.json")) for x in vendors):
        return "egl"
    return None
