"""`rlbench watch`: films a trained policy."""

import math
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
import tyro
from numpy.typing import NDArray

from rlbench.backbones.ranges import FEW, Range, check
from rlbench.benchmarks.commands.dancing import dancer
from rlbench.benchmarks.zoo import output_folder
from rlbench.envs.making import make_from_factory, make_gymnasium, make_of_module
from rlbench.envs.mujoco_drawing import load_mujoco, make_renderer, update_scene
from rlbench.envs.tasks import Task
from rlbench.errors import FAILURES, UserError, raised_by
from rlbench.files import write_atomically
from rlbench.seeding import derive
from rlbench.terminal import say
from rlbench.trust import Trust, TrustOption

if TYPE_CHECKING:
    from rlbench.envs.contract import Checked
    from rlbench.interface import Agent

Frame = NDArray[np.uint8]

GIF_FPS = 25
"""GIF delays are whole hundredths of a second, and browsers slow down GIFs above 50 frames per second."""
SMALL_SIZE, SMALL_FRAMES, SMALL_FPS, SMALL_BYTES = 160, 64, 10, 500_000
"""Pixels, frames, frames per second and largest file of a film for a page: about six seconds."""
SMALL_MOST = 240
"""Largest picture in pixels if the environment sets the size."""


@dataclass(frozen=True)
class Shot:
    """A moment of an episode."""

    picture: Frame
    """uint8 [H, W, 3]."""
    step: int
    """Steps that led to it."""
    total: float
    """Return of these steps; of a team, the mean over its agents."""


@dataclass(frozen=True)
class WatchConfig:
    """Film the trained policy of a run."""

    run: Annotated[Path, tyro.conf.Positional]
    """Folder of the run, or zoo:NAME."""
    out: Path | None = None
    """File to write, .mp4 or .gif; by default film.mp4 in the folder of the run."""
    episodes: int = 1
    """Number of episodes to show, one after the other."""
    seed: int = 1
    """Seed of the episodes; training used different ones."""
    size: int = 480
    """Width and height in pixels, if the environment allows a choice (MuJoCo); smaller pictures are
    enlarged by the largest whole factor that fits."""
    drawn_by: Path | None = None
    """Folder of a run of dance, which draws the robot of a MuJoCo environment as its target robot."""
    trust: TrustOption = False
    ranges: ClassVar[Mapping[str, Range]] = {
        "size": Range(lambda x: 16 <= x <= 4_096, "16 to 4,096"),
        "episodes": FEW,
    }

    def __post_init__(self) -> None:
        """Refuses options of a wrong type or out of range."""
        check(self)


def make(options: WatchConfig) -> None:
    """Writes the film."""
    out = options.out or output_folder(options.run) / "film.mp4"
    ending = out.suffix.lower()
    if ending not in (".mp4", ".gif"):
        raise UserError(
            f"a film cannot be written as {out.name}; give a name that ends in .mp4 or .gif"
        )
    _imageio()  # Missing packages are reported before minutes of drawing.
    max_fps = GIF_FPS if ending == ".gif" else math.inf
    pictures, fps = frames(
        options.run,
        options.episodes,
        options.seed,
        options.size,
        max_fps,
        options.drawn_by,
        trust=options.trust,
    )
    film, count = encoded(map(captioned, pictures), fps, ending)
    write_atomically(out, film)
    say(f"{out}: {count:,} frames, {count / fps:.0f} s")


def small_film(run: Path, *, trust: Trust = False) -> bytes:
    """The first seconds of an episode as a small GIF, for a page; see `frames`.

    Raises:
        UserError: The environment cannot be drawn or is custom code that is not trusted, or imageio is missing.
    """
    _imageio()
    shots, fps = frames(run, 1, 1, SMALL_SIZE, SMALL_FPS, trust=trust)
    some = islice(shots, SMALL_FRAMES)
    shown = [captioned(replace(shot, picture=_shrunk(shot.picture))) for shot in some]
    film, _ = encoded(shown, fps, ".gif")
    while len(film) > SMALL_BYTES:
        shown = shown[: len(shown) * 3 // 4]
        film, _ = encoded(shown, fps, ".gif")
    return film


def frames(
    run: Path,
    episodes: int,
    seed: int,
    size: int,
    max_fps: float = math.inf,
    drawn_by: Path | None = None,
    *,
    trust: Trust = False,
) -> tuple[Iterator[Shot], float]:
    """Plays and draws the policy of a run, without exploration.

    Args:
        run: Folder of the run.
        episodes: Number of episodes, one after the other.
        seed: Seed of the episodes.
        size: Width and height, if we do the drawing.
        max_fps: Largest number of frames per second; steps in between are not drawn.
        drawn_by: Folder of a run of `dance` that draws the robot, if there is one.
        trust: Whether custom code that the folder names may be imported, or the names that may.

    Returns:
        Shots, drawn on demand, of which the last of each episode repeats the picture before it; and frames per second.

    Raises:
        UserError: The environment cannot be drawn, or the folder names custom code that is not trusted.
    """
    load_mujoco()
    # Pictures need no window, and without a desktop SDL prints a complaint when it looks for one.
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    os.environ.setdefault("SDL_AUDIODRIVER", "dummy")
    from rlbench.benchmarks.training.loading import load_agent_run
    from rlbench.envs.contract import Checked

    agent, task = load_agent_run(run, trust=trust)
    agent.act_generator.manual_seed(derive(seed, "actions"))
    env, draw = _drawing(task, size)
    if drawn_by is not None:
        if not hasattr(env.unwrapped, "mujoco_renderer"):
            raise UserError(
                f"{task.name} has no MuJoCo robot, which --drawn-by needs; leave it out, or give a run on HalfCheetah-v5"
            )
        draw = dancer(drawn_by, env.unwrapped, size, trust=trust)
    steps_per_second = float(env.metadata.get("render_fps") or 30)
    every = math.ceil(steps_per_second / max_fps) or 1
    played = _played(agent, Checked(env, task.name), draw, episodes, seed, every)
    return played, steps_per_second / every


def _played(
    agent: "Agent", env: "Checked", draw: Callable[[], Frame], episodes: int, seed: int, every: int
) -> Iterator[Shot]:
    """A shot before every n-th step, and one after the last step, which repeats the picture before it.

    If the agent predicts others (the extra "q", empty if it does not) and the environment has the attribute `predictions`, it
    is given them before it is drawn.
    """
    from rlbench.benchmarks.training.evaluation import longest_episode
    from rlbench.benchmarks.training.faults import Actions, named_as_users
    from rlbench.envs.contract import as_tensor
    from rlbench.envs.episodes import step_limit
    from rlbench.interface import rewarded

    longest, actions = longest_episode(step_limit(env.env)), Actions(agent)
    world = env.env.unwrapped
    try:
        for episode in range(episodes):
            obs = env.reset(derive(seed, "episode", episode))
            state, over, step, total = None, False, 0, 0.0
            while not over:
                with named_as_users(type(agent)):
                    chosen = agent.act(as_tensor(obs, agent)[None], state=state)
                    action = actions(chosen, 1)[0]
                if step % every == 0:
                    q = chosen.extras.get("q")
                    if q is not None and q.numel() and hasattr(world, "predictions"):
                        world.predictions = q[0].cpu().numpy()
                    picture = draw()
                    yield Shot(picture, step, total)
                obs, reward, terminated, truncated = env.step(action)
                state = rewarded(chosen.state, np.reshape(reward, (1, *np.shape(reward))))
                step, total = step + 1, total + float(np.mean(reward))
                over = terminated or truncated or step == longest
            yield Shot(picture, step, total)
    finally:
        env.close()


def captioned(shot: Shot) -> Frame:
    """The picture with a strip below it that shows the step and the return so far, uint8 [H + S, W, 3]."""
    from PIL import Image, ImageDraw, ImageFont

    width = shot.picture.shape[1]
    size = min(max(width // 16, 9), 20)
    strip = Image.new("RGB", (width, 2 * size))  # Even, because H.264 drops an odd last line.
    text = f"step {shot.step:,}, return {shot.total:,.2f}"
    where = (size // 2, size // 2)
    ImageDraw.Draw(strip).text(where, text, fill="white", font=ImageFont.load_default(size))
    return np.concatenate([shot.picture, np.asarray(strip)])


def encoded(pictures: Iterable[Frame], fps: float, ending: str) -> tuple[bytes, int]:
    """Pictures [H, W, 3] as the bytes of an mp4 or a gif, and the number of pictures."""
    imageio, count = _imageio(), 0

    def counted(multiple: int) -> Iterator[Frame]:
        nonlocal count
        for picture in pictures:
            count += 1
            height, width = (length // multiple * multiple for length in picture.shape[:2])
            yield picture[:height, :width]

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"film{ending}"
        if ending == ".gif":
            shown = list(counted(1))
            imageio.imwrite(file, shown, plugin="pillow", duration=1000 / fps, loop=0)
        else:
            imageio.imwrite(
                file, counted(2), plugin="FFMPEG", is_batch=True, fps=fps, codec="libx264",
                macro_block_size=2,  # H.264 halves the resolution of colours.
            )  # fmt: skip
        return file.read_bytes(), count


def _shrunk(picture: Frame) -> Frame:
    """Every n-th pixel of a picture that is too large for a page."""
    step = math.ceil(max(picture.shape[:2]) / SMALL_MOST)
    return picture[::step, ::step]


def _drawing(task: Task, size: int) -> tuple[Any, Callable[[], Frame]]:
    """An environment of a task that can be drawn, and a function that draws it."""
    make: Any = task.make
    kind = getattr(make, "func", None)
    env = make()
    if hasattr(env.unwrapped, "mujoco_renderer"):
        return env, _mujoco(env.unwrapped, size)
    if env.render_mode is None and kind in (make_gymnasium, make_of_module):
        if "rgb_array" not in env.metadata.get("render_modes", ()):
            raise UserError(f"{task.name} cannot be drawn (it has no render mode rgb_array)")
        env = make(render_mode="rgb_array")
    if env.render_mode != "rgb_array":
        if kind is not None and kind not in (make_gymnasium, make_of_module, make_from_factory):
            raise UserError(
                f"{task.name} has no pictures to film; `rlbench evaluate` scores its agents"
            )
        # Changes by a factory after gym.make would be lost if we made a new environment.
        raise UserError(
            f"{task.name} cannot be drawn; let its factory make it with render_mode='rgb_array'"
        )

    def draw() -> Frame:
        try:
            picture = np.array(env.render())
        except (
            FAILURES
        ) as error:  # Such as a missing pygame; each library raises its own exceptions.
            if kind in (make_from_factory, make_of_module):
                raise raised_by(task.name, "render", error, "environment") from error
            raise UserError(f"{task.name} cannot be drawn ({error})") from error
        rgb = picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3
        if not rgb or min(picture.shape[:2]) < 2:  # H.264 drops an odd last line.
            raise UserError(
                f"{task.name} cannot be drawn: its render() gave {picture.dtype} "
                f"{list(picture.shape)}, expected uint8 [H, W, 3] with 2 or more pixels each way"
            )
        times = max(1, size // max(picture.shape[:2]))
        return picture.repeat(times, axis=0).repeat(times, axis=1)

    return env, draw


def _mujoco(world: Any, size: int) -> Callable[[], Frame]:
    """Draws a MuJoCo world; see `rlbench.envs.mujoco_drawing`."""
    import mujoco

    model = world.model
    renderer = make_renderer(model, size)
    tracks = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_CAMERA, "track") >= 0
    tiles = _tiles(model) if tracks else {}

    def draw() -> Frame:
        update_scene(renderer, world.data, "track" if tracks else -1)
        scene = renderer.scene
        for shape in scene.geoms[: scene.ngeom] if tiles else ():
            if shape.objtype == mujoco.mjtObj.mjOBJ_GEOM and shape.objid in tiles:
                tile = tiles[shape.objid]
                shape.pos[:2] += tile * np.round((scene.camera[0].pos[:2] - shape.pos[:2]) / tile)
        picture: Frame = renderer.render().copy()
        return picture

    return draw


def _tiles(model: Any) -> dict[int, NDArray[np.float64]]:
    """Width and depth, [2], of one tile of each floor: moved by whole tiles, it looks the same.

    Gymnasium's floors are infinite but drawn only to 40 m, which a good cheetah reaches after ten
    seconds, so the floor moves with the camera.
    """
    import mujoco

    return {
        int(floor): 2 * model.geom_size[floor, :2] / model.mat_texrepeat[model.geom_matid[floor]]
        for floor in np.flatnonzero(model.geom_type == mujoco.mjtGeom.mjGEOM_PLANE)
        if model.geom_matid[floor] >= 0 and model.geom_size[floor, :2].all()
    }


def _imageio() -> Any:
    try:
        import imageio.v3 as imageio
        import imageio_ffmpeg  # noqa: F401  # used by imageio to write mp4
    except ModuleNotFoundError:
        raise UserError("films need imageio; install it with pip install 'rlbench[film]'") from None
    return imageio
