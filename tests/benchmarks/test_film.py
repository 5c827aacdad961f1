"""`rlbench watch`: what is drawn is what the policy does, and nothing is left of a film that fails."""

import builtins
import ctypes.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from rlbench.benchmarks.commands import watch as film
from rlbench.benchmarks.commands.watch import WatchConfig
from rlbench.benchmarks.tables.jobs import Job, execute
from rlbench.benchmarks.training import loading
from rlbench.benchmarks.training.config import RunConfig
from rlbench.benchmarks.training.loading import load_agent_run
from rlbench.envs.point_navigation import PointNavigation
from rlbench.envs.tasks import Task, find_task
from rlbench.errors import UserError
from rlbench.seeding import derive
from tests.agents.case import make

iio = pytest.importorskip("imageio.v3")
pytest.importorskip("imageio_ffmpeg")

headless = pytest.mark.skipif(
    sys.platform != "linux" or ctypes.util.find_library("EGL") is None,
    reason="draws without a screen through EGL",
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A TD3 run: its exploring actions differ from its others."""
    folder = tmp_path_factory.mktemp("film") / "run"
    config = RunConfig(env="point-random", out=folder, updates=20, data_size=300, eval_episodes=2)
    assert execute(Job("td3", {"hidden": (8,), "batch_size": 8}, config)).error == ""
    return folder


def drawn(*asked: Any) -> tuple[NDArray[np.uint8], float]:
    pictures, fps = film.frames(*asked)
    return np.stack([shot.picture for shot in pictures]), fps


def test_the_film_shows_the_episode_of_its_seed_from_its_first_step(run: Path) -> None:
    pictures, fps = drawn(run, 2, 7, 64)
    assert pictures.shape == (62, 128, 128, 3)
    assert pictures.dtype == np.uint8
    assert fps == 10
    agent, task = load_agent_run(run)
    env = gym.make(task.make().spec, render_mode="rgb_array")  # type: ignore[arg-type]
    for episode in range(2):
        obs, _ = env.reset(seed=derive(7, "episode", episode))
        for step in range(30):
            picture: Any = env.render()
            assert np.array_equal(pictures[31 * episode + step], picture)
            action = agent.act(torch.as_tensor(obs)[None]).action[0].numpy()
            obs, *_ = env.step(action)


def test_films_carry_the_step_and_the_return(run: Path) -> None:
    shots = list(film.frames(run, 1, 7, 64, max_fps=1.0)[0])
    assert [shot.step for shot in shots] == [0, 10, 20, 30]
    agent, task = load_agent_run(run)
    env, total = task.make(), 0.0
    obs, _ = env.reset(seed=derive(7, "episode", 0))
    for step in range(30):
        if step % 10 == 0:
            assert shots[step // 10].total == pytest.approx(total)
        obs, reward, *_ = env.step(agent.act(torch.as_tensor(obs)[None]).action[0].numpy())
        total += float(reward)
    assert shots[-1].total == pytest.approx(total)
    first, last = film.captioned(shots[0]), film.captioned(shots[-1])
    assert first.shape == (146, 128, 3)
    assert np.array_equal(first[:128], shots[0].picture)
    assert (first[128:] > 128).any()
    assert not np.array_equal(first[128:], last[128:])


def test_rooms_are_drawn_from_above() -> None:
    env, draw = film._drawing(find_task("multiroom-n2"), 64)
    env.reset(seed=0)
    assert draw().shape == (144, 144, 3)
    assert env.metadata["render_fps"] == 10


def test_pictures_are_drawn_one_by_one(run: Path) -> None:
    pictures, _ = film.frames(run, 10**9, 1, 64)  # All at once would not fit into memory.
    assert next(pictures).picture.shape == (128, 128, 3)


@pytest.mark.parametrize(("max_fps", "every"), [(10, 1), (5, 2), (4, 3)])
def test_fewer_frames_per_second_leave_out_steps_and_keep_the_speed(
    run: Path, max_fps: float, every: int
) -> None:
    whole, _ = drawn(run, 1, 1, 64)
    some, fps = drawn(run, 1, 1, 64, max_fps)
    assert fps == 10 / every
    assert np.array_equal(some[:-1], whole[:-1:every])
    assert np.array_equal(some[-1], some[-2]), "the last one is not drawn"


@pytest.mark.parametrize(("ending", "lossless"), [(".mp4", False), (".gif", True)])
def test_a_film_comes_back_with_its_frames_and_speed(
    run: Path, tmp_path: Path, ending: str, lossless: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / f"a{ending}"
    film.make(WatchConfig(run, out=out))
    pictures = np.stack([film.captioned(shot) for shot in film.frames(run, 1, 1, 480)[0]])
    back = iio.imread(out, index=None)[..., :3]
    if lossless:  # A GIF shows a frame for longer where the next one is the same.
        assert np.array_equal(back[0], pictures[0])
        assert iio.immeta(out)["duration"] == 100
    else:
        assert back.shape == pictures.shape
        assert abs(back.astype(int) - pictures.astype(int)).mean() < 6
        assert iio.immeta(out)["duration"] == pytest.approx(3.1)
    assert np.array_equal(back[-1], pictures[-1]) or not lossless
    assert f"a{ending}: 31 frames, 3 s" in capsys.readouterr().out.replace("\n", "")


def test_a_film_goes_into_the_run_folder_by_default(run: Path) -> None:
    film.make(WatchConfig(run))
    assert (run / "film.mp4").stat().st_size > 1000


def test_a_gif_is_slow_enough_for_browsers(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PointNavigation.metadata, "render_fps", 125)
    film.make(WatchConfig(run, out=tmp_path / "a.gif"))
    assert iio.immeta(tmp_path / "a.gif")["duration"] == 40
    assert len(iio.imread(tmp_path / "a.gif", index=None)) == 7


def test_a_small_film_is_as_small_as_promised(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = film.small_film(run)
    assert whole[:6] == b"GIF89a"
    assert len(whole) < 500_000
    monkeypatch.setattr(film, "SMALL_BYTES", len(whole) // 2)
    assert len(film.small_film(run)) <= len(whole) // 2


def test_large_pictures_are_shrunk_for_a_page() -> None:
    picture = np.zeros((250, 600, 3), np.uint8)
    picture[::3, ::3] = 9
    assert film._shrunk(picture).shape == (84, 200, 3)
    assert (film._shrunk(picture) == 9).all()


def test_a_failing_writer_leaves_the_old_film(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.gif").write_bytes(b"old")
    monkeypatch.setattr(film, "encoded", lambda *_: (_ for _ in ()).throw(UserError("full")))
    with pytest.raises(UserError, match="full"):
        film.make(WatchConfig(run, out=tmp_path / "a.gif"))
    assert [x.read_bytes() for x in tmp_path.iterdir()] == [b"old"]


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        (
            {"out": Path("a.avi")},
            r"cannot be written as a\.avi; give a name that ends in \.mp4 or \.gif",
        ),
        ({"episodes": 0}, "episodes is 0; give 1 or more"),
        ({"size": 0}, "size is 0; give 16 to 4,096"),
        ({"size": 5000}, "size is 5000; give 16 to 4,096"),
    ],
)
def test_a_film_that_cannot_be_is_one_sentence(
    run: Path, asked: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        film.make(WatchConfig(run, **asked))


def test_a_missing_package_is_one_sentence(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any) -> Any:
        if name.startswith("imageio"):
            raise ModuleNotFoundError(name)
        return real(name, *args)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match=r"pip install 'rlbench\[film\]'"):
        film.make(WatchConfig(run))


class Painted(PointNavigation):
    """Draws what a test puts here."""

    picture: Any = np.zeros((33, 47, 3), np.uint8)

    def render(self) -> Any:
        if isinstance(self.picture, Exception):
            raise self.picture
        return self.picture


class Blind(PointNavigation):
    """Cannot be drawn."""

    metadata = {"render_modes": []}  # noqa: RUF012


def ready() -> gym.Env[Any, Any]:
    return gym.wrappers.TimeLimit(Painted("rgb_array"), 5)


class Stubborn(gym.Wrapper[Any, Any, Any, Any]):
    """A wrapper of a user's, which Gymnasium could not make again."""


def wrapped() -> gym.Env[Any, Any]:
    return Stubborn(find_task("point-random").make())


def film_of(
    task: Task, monkeypatch: pytest.MonkeyPatch, out: Path, size: int = WatchConfig.size
) -> None:
    monkeypatch.setattr(loading, "load_agent_run", lambda _, trust: (make("td3"), task))
    film.make(WatchConfig(out.parent, out=out, size=size))


@pytest.mark.parametrize(("size", "times"), [(47, 1), (93, 1), (94, 2), (480, 10)])
def test_small_pictures_are_enlarged_as_far_as_they_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, times: int
) -> None:
    picture = np.zeros((33, 47, 3), np.uint8)
    picture[::2, 1::3] = 255
    monkeypatch.setattr(Painted, "picture", picture)
    film_of(Task("mine:ready", ready), monkeypatch, tmp_path / "a.gif", size)
    shown = iio.imread(tmp_path / "a.gif", index=0)
    assert (shown[: 33 * times] == np.kron(picture, np.ones((times, times, 1)))).all()
    assert shown.shape[0] == 33 * times + 2 * min(max(47 * times // 16, 9), 20)


@pytest.mark.parametrize("ending", [".mp4", ".gif"])
def test_a_factory_may_draw_itself_and_in_an_odd_size(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    ending: str,
) -> None:
    film_of(Task("mine:ready", ready), monkeypatch, tmp_path / f"a{ending}", size=47)
    height, width = (50, 46) if ending == ".mp4" else (51, 47)
    assert iio.imread(tmp_path / f"a{ending}", index=0).shape[:2] == (height, width)
    assert "WARNING" not in "".join(capfd.readouterr())


def test_what_cannot_be_drawn_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gym.register("Blind-v0", f"{__name__}:Blind")
    with pytest.raises(UserError, match=r"Blind-v0 cannot be drawn \(it has no render mode"):
        film_of(find_task("Blind-v0"), monkeypatch, tmp_path / "a.gif")
    with pytest.raises(UserError, match="follow-swimmer has no pictures to film"):
        film_of(find_task("follow-swimmer"), monkeypatch, tmp_path / "a.gif")
    for factory in (PointNavigation, wrapped):
        with pytest.raises(UserError, match=r"mine:make cannot be drawn; let its factory make"):
            film_of(Task("mine:make", factory), monkeypatch, tmp_path / "a.gif")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("picture", "sentence"),
    [
        (gym.error.DependencyNotInstalled("no pygame"), r"cannot be drawn \(no pygame\)"),
        (None, r"its render\(\) gave object \[\], expected uint8 \[H, W, 3\]"),
        (np.zeros((8, 8), np.uint8), r"its render\(\) gave uint8 \[8, 8\]"),
        (
            np.zeros((0, 0, 3), np.uint8),
            r"gave uint8 \[0, 0, 3\], expected uint8 .* with 2 or more pixels",
        ),
        (np.zeros((1, 500, 3), np.uint8), r"gave uint8 \[1, 500, 3\], expected"),
        (np.zeros((8, 8, 3)), r"its render\(\) gave float64 \[8, 8, 3\]"),
    ],
)
def test_a_render_that_fails_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, picture: Any, sentence: str
) -> None:
    monkeypatch.setattr(Painted, "picture", picture)
    for ending in (".mp4", ".gif"):
        with pytest.raises(UserError, match=sentence):
            film_of(Task("mine:ready", ready), monkeypatch, tmp_path / f"a{ending}")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("error", [OSError("no ink"), SystemExit("no ink")])
def test_an_error_in_a_custom_render_is_reported_as_the_users(
    monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def fail(self: Painted) -> Any:
        raise error

    monkeypatch.setattr(Painted, "render", fail)
    _, draw = film._drawing(find_task(f"{__name__}:ready"), 64)
    with pytest.raises(
        UserError, match=r":ready raised .* in render: no ink; this comes from your"
    ):
        draw()


@pytest.mark.parametrize(("name", "tile"), [("halfcheetah", 80 / 60), ("hopper", 40 / 60)])
def test_tiles_of_the_floor_by_hand(name: str, tile: float) -> None:
    world: Any = find_task(f"{name}-medium").make().unwrapped
    (size,) = film._tiles(world.model).values()
    assert size == pytest.approx([tile, tile])


DRAW = """
import gymnasium as gym, numpy as np, sys
from rlbench.benchmarks.commands import watch as film
from rlbench.envs import mujoco_drawing
mujoco_drawing.load_mujoco()
world = gym.make("HalfCheetah-v4").unwrapped
world.reset(seed=0)
draw = film._mujoco(world, 96)
pictures = []
for metres in (0.0, 80 / 60 / 2, 80.0, 800.0):
    position = world.data.qpos.copy()
    position[0] = metres
    world.set_state(position, world.data.qvel)
    pictures.append(draw())
np.save(sys.argv[1], pictures)
"""


@headless
@pytest.mark.slow
def test_the_floor_has_no_end_and_does_not_come_along(tmp_path: Path) -> None:
    # In a process of its own, where GL is still to be chosen.
    environment = {k: v for k, v in os.environ.items() if k != "MUJOCO_GL"}
    words = [sys.executable, "-W", "ignore", "-c", DRAW, str(tmp_path / "a.npy")]
    subprocess.run(words, check=True, env=environment)
    start, half_a_tile, *far = np.load(tmp_path / "a.npy").astype(int)
    for picture in far:  # After whole tiles everything looks as at the start.
        assert abs(picture - start).max() <= 2
    assert abs(half_a_tile - start)[60:].mean() > 20


@headless
@pytest.mark.slow
def test_halfcheetah_is_drawn(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    config = RunConfig(
        env="halfcheetah-random", out=folder, updates=20, data_size=1000, eval_episodes=1
    )
    assert execute(Job("bc", {"hidden": (8,)}, config)).error == ""
    words = [sys.executable, "-m", "rlbench", "watch", str(folder), "--size", "160"]
    subprocess.run(words, check=True)  # In a process of its own, where GL is still to be chosen.
    pictures = iio.imread(folder / "film.mp4", index=None)
    assert pictures.shape == (1001, 180, 160, 3)
    # The cheetah is orange and the floor has no colour.
    orange = pictures[0, :160][..., 0].astype(int) - pictures[0, :160][..., 2] > 40
    assert 200 < orange.sum() < 5000
