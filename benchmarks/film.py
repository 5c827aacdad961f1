"""`rlbench watch`: a film of a trained policy."""

import ctypes.util
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from numpy.typing import NDArray

from rlbench.errors import UserError
from rlbench.files import write_atomically
from rlbench.seeding import derive

Frames = NDArray[np.uint8]

SMALL_SIZE, SMALL_FRAMES, SMALL_FPS = 160, 64, 8
"""A film for a page: eight seconds in a few hundred kilobytes."""

_NO_GL = (
    "there is no OpenGL here to draw MuJoCo without a screen; install it with apt-get install "
    "libegl1 libegl-mesa0 libgl1-mesa-dri"
)


@dataclass(frozen=True)
class WatchConfig:
    """Film the trained policy of a run."""

    run: Annotated[Path, tyro.conf.Positional]
    """Folder of the run."""
    out: Path | None = None
    """File to write, .mp4 or .gif; by default film.mp4 in the folder of the run."""
    episodes: int = 1
    """Episodes to show, one after the other."""
    seed: int = 1
    """Decides the episodes; training used others."""
    size: int = 480
    """Width and height in pixels, where the environment lets us choose; a multiple of 16."""


def make(asked: WatchConfig) -> None:
    """Writes the film."""
    out = asked.out or asked.run / "film.mp4"
    if out.suffix not in (".mp4", ".gif"):
        raise UserError(f"a film cannot be written as {out.name}; give a name in .mp4 or .gif")
    _imageio()  # Missing packages are told before minutes of drawing.
    pictures, fps = frames(asked.run, asked.episodes, asked.seed, asked.size)
    write_atomically(out, encoded(pictures, fps, out.suffix))
    print(f"{out}: {len(pictures):,} frames, {len(pictures) / fps:.0f} s")


def small_film(run: Path) -> bytes:
    """The first seconds of an episode as a small GIF, for a page.

    Raises:
        UserError: The environment cannot be drawn, or imageio is missing.
    """
    _imageio()
    pictures, fps = frames(run, 1, 1, SMALL_SIZE, most=SMALL_FRAMES, slowest=SMALL_FPS)
    return encoded(pictures, fps, ".gif")


def frames(
    run: Path,
    episodes: int,
    seed: int,
    size: int,
    *,
    most: int = sys.maxsize,
    slowest: float = float("inf"),
) -> tuple[Frames, float]:
    """Plays and draws the policy of a run, acting as for use.

    Args:
        run: Folder of the run.
        episodes: Episodes, one after the other.
        seed: Decides them.
        size: Width and height, where we draw ourselves.
        most: Frames at most.
        slowest: Frames per second at most; steps between are not drawn.

    Returns:
        Pictures uint8 [F, H, W, 3], and frames per second.

    Raises:
        UserError: The environment cannot be drawn.
    """
    if sys.platform == "linux" and "mujoco" not in sys.modules:
        _choose_gl()
    import torch

    from rlbench.benchmarks.runner import load_run

    agent, task = load_run(run)
    agent.act_generator.manual_seed(derive(seed, "actions"))
    env, draw = _drawing(task.make(), size)
    steps_per_second = float(env.metadata.get("render_fps") or 30)
    every = max(1, round(steps_per_second / slowest))
    pictures: list[Frames] = []
    for episode in range(episodes):
        obs, _ = env.reset(seed=derive(seed, "episode", episode))
        state, over, step = None, False, 0
        while not over and len(pictures) < most:
            if step % every == 0:
                pictures.append(draw())
            on_device = torch.as_tensor(obs, dtype=torch.float32, device=agent.device)
            chosen = agent.act(on_device[None], state=state)
            state = chosen.state
            obs, _, terminated, truncated, _ = env.step(chosen.action[0].cpu().numpy())
            over, step = terminated or truncated, step + 1
    env.close()
    return np.stack(pictures), steps_per_second / every


def encoded(pictures: Frames, fps: float, ending: str) -> bytes:
    """Pictures [F, H, W, 3] as the bytes of an mp4 or a gif."""
    imageio = _imageio()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"film{ending}"
        if ending == ".gif":
            imageio.imwrite(file, pictures, duration=1000 / fps, loop=0)
        else:
            imageio.imwrite(file, pictures, fps=fps, codec="libx264", macro_block_size=2)
        return file.read_bytes()


def _drawing(env: Any, size: int) -> tuple[Any, Callable[[], Frames]]:
    """An environment that can be drawn, and what draws it."""
    world = env.unwrapped
    if hasattr(world, "mujoco_renderer"):
        return env, _mujoco(world, size)
    if env.render_mode is None and env.spec is not None:
        if "rgb_array" not in env.metadata.get("render_modes", ()):
            raise UserError(f"{env.spec.id} cannot be drawn (no render mode rgb_array)")
        import gymnasium as gym

        env = gym.make(env.spec, render_mode="rgb_array", disable_env_checker=True)
    if env.render_mode != "rgb_array":
        raise UserError(
            f"{type(world).__name__} cannot be drawn; let its factory make it with "
            "render_mode='rgb_array' or register it with Gymnasium"
        )
    return env, env.render


def _mujoco(world: Any, size: int) -> Callable[[], Frames]:
    """Draws a MuJoCo world without a GPU 40 times as fast as Gymnasium at 160 pixels, 11 at 480.

    Gymnasium's shadow map of 4096 x 4096, reflections and fourfold sampling take the time.
    """
    import mujoco

    model = world.model
    model.vis.quality.shadowsize = 0
    model.vis.quality.offsamples = 0
    model.vis.global_.offwidth = max(size, model.vis.global_.offwidth)
    model.vis.global_.offheight = max(size, model.vis.global_.offheight)
    try:
        renderer = mujoco.Renderer(model, size, size)
    except Exception as error:  # Each GL library fails in its own way.
        raise UserError(_NO_GL) from error
    tracks = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_CAMERA, "track") >= 0

    def draw() -> Frames:
        renderer.update_scene(world.data, camera="track" if tracks else -1)
        for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
            renderer.scene.flags[flag] = 0
        picture: Frames = renderer.render().copy()
        return picture

    return draw


def _choose_gl() -> None:
    """Lets MuJoCo draw without a screen; a choice of the user's stays."""
    vendors = [Path(x) / "glvnd/egl_vendor.d" for x in ("/usr/share", "/etc")]
    if ctypes.util.find_library("EGL") and any(list(x.glob("*.json")) for x in vendors):
        os.environ.setdefault("MUJOCO_GL", "egl")


def _imageio() -> Any:
    try:
        import imageio.v3 as imageio
        import imageio_ffmpeg  # noqa: F401  # what imageio writes mp4 with
    except ModuleNotFoundError:
        raise UserError("films need imageio; install it with pip install 'rlbench[film]'") from None
    return imageio
