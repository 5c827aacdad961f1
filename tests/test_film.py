"""`rlbench watch`: what is drawn is what the policy does, and nothing is left of a film that fails."""

import builtins
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from rlbench.benchmarks import film
from rlbench.benchmarks.config import RunConfig
from rlbench.benchmarks.film import WatchConfig
from rlbench.benchmarks.jobs import Job, execute
from rlbench.benchmarks.runner import load_run
from rlbench.envs.point_navigation import PointNavigation
from rlbench.errors import UserError
from rlbench.seeding import derive

iio = pytest.importorskip("imageio.v3")
pytest.importorskip("imageio_ffmpeg")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A TD3 run: its exploring actions differ from its others."""
    folder = tmp_path_factory.mktemp("film") / "run"
    config = RunConfig(env="point-random", out=folder, updates=20, data_size=300, eval_episodes=2)
    assert execute(Job("td3", {"hidden": (8,), "batch_size": 8}, config)).error == ""
    return folder


def test_the_film_shows_the_episode_of_its_seed_from_its_first_step(run: Path) -> None:
    pictures, fps = film.frames(run, 2, 7, 64)
    assert pictures.shape == (60, 128, 128, 3)
    assert pictures.dtype == np.uint8
    assert fps == 10
    agent, task = load_run(run)
    env = gym.make(task.make().spec, render_mode="rgb_array")  # type: ignore[arg-type]
    for episode in range(2):
        obs, _ = env.reset(seed=derive(7, "episode", episode))
        for step in range(30):
            picture: Any = env.render()
            assert np.array_equal(pictures[30 * episode + step], picture)
            action = agent.act(torch.as_tensor(obs)[None]).action[0].numpy()
            obs, *_ = env.step(action)


def test_a_short_film_leaves_out_steps_and_keeps_the_speed(run: Path) -> None:
    whole, _ = film.frames(run, 1, 1, 64)
    half, fps = film.frames(run, 1, 1, 64, most=4, slowest=5)
    assert fps == 5
    assert np.array_equal(half, whole[:8:2])


@pytest.mark.parametrize(("ending", "lossless"), [(".mp4", False), (".gif", True)])
def test_a_film_comes_back_with_its_frames_and_speed(
    run: Path, tmp_path: Path, ending: str, lossless: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / f"a{ending}"
    film.make(WatchConfig(run, out=out))
    pictures, _ = film.frames(run, 1, 1, 480)
    back = iio.imread(out, index=None)[..., :3]
    if lossless:  # A GIF shows a frame for longer where the next one is the same.
        assert np.array_equal(back[0], pictures[0])
        assert iio.immeta(out)["duration"] == 100
    else:
        assert back.shape == pictures.shape
        assert abs(back.astype(int) - pictures.astype(int)).mean() < 6
        assert iio.immeta(out)["duration"] == pytest.approx(3.0)
    assert np.array_equal(back[-1], pictures[-1]) or not lossless
    assert f"a{ending}: 30 frames, 3 s" in capsys.readouterr().out.replace("\n", "")


def test_a_film_goes_into_the_run_folder_by_default(run: Path) -> None:
    film.make(WatchConfig(run))
    assert (run / "film.mp4").stat().st_size > 1000


def test_a_small_film_is_small(run: Path) -> None:
    assert film.small_film(run)[:6] == b"GIF89a"
    assert len(film.small_film(run)) < 500_000


def test_a_failing_writer_leaves_the_old_film(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.gif").write_bytes(b"old")
    monkeypatch.setattr(film, "encoded", lambda *_: (_ for _ in ()).throw(UserError("full")))
    with pytest.raises(UserError, match="full"):
        film.make(WatchConfig(run, out=tmp_path / "a.gif"))
    assert [x.read_bytes() for x in tmp_path.iterdir()] == [b"old"]


def test_another_ending_is_one_sentence(run: Path) -> None:
    with pytest.raises(UserError, match=r"cannot be written as a\.avi; give a name in \.mp4"):
        film.make(WatchConfig(run, out=Path("a.avi")))


def test_a_missing_package_is_one_sentence(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any) -> Any:
        if name.startswith("imageio"):
            raise ModuleNotFoundError(name)
        return real(name, *args)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match=r"pip install 'rlbench\[film\]'"):
        film.make(WatchConfig(run))


class Blind(gym.Env[Any, Any]):
    """Cannot be drawn."""

    metadata = {"render_modes": []}  # noqa: RUF012


def test_what_cannot_be_drawn_is_one_sentence() -> None:
    gym.register("Blind-v0", f"{__name__}:Blind")
    with pytest.raises(UserError, match="Blind-v0 cannot be drawn"):
        film._drawing(gym.make("Blind-v0", disable_env_checker=True), 64)
    with pytest.raises(UserError, match="PointNavigation cannot be drawn; let its factory make"):
        film._drawing(PointNavigation(), 64)


def test_a_machine_without_gl_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    import mujoco

    from rlbench.envs.tasks import find_task

    def fails(*_: Any) -> Any:
        raise AttributeError("'NoneType' object has no attribute 'eglQueryString'")

    monkeypatch.setattr(mujoco, "Renderer", fails)
    with pytest.raises(UserError, match="apt-get install libegl1 libegl-mesa0 libgl1-mesa-dri"):
        film._drawing(find_task("halfcheetah-medium").make(), 64)


def test_a_choice_of_gl_by_the_user_stays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MUJOCO_GL", "glfw")
    monkeypatch.setattr("ctypes.util.find_library", lambda name: "libEGL.so.1")
    monkeypatch.setattr(Path, "glob", lambda self, pattern: [Path("mesa.json")])
    film._choose_gl()
    import os

    assert os.environ["MUJOCO_GL"] == "glfw"
    monkeypatch.delenv("MUJOCO_GL")
    film._choose_gl()
    assert os.environ["MUJOCO_GL"] == "egl"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="draws without a screen through EGL")
def test_halfcheetah_is_drawn(tmp_path: Path) -> None:
    import ctypes.util
    import subprocess

    if ctypes.util.find_library("EGL") is None:
        pytest.skip("there is no EGL here")
    folder = tmp_path / "run"
    config = RunConfig(
        env="halfcheetah-random", out=folder, updates=20, data_size=1000, eval_episodes=1
    )
    assert execute(Job("bc", {"hidden": (8,)}, config)).error == ""
    words = [sys.executable, "-m", "rlbench", "watch", str(folder), "--size", "160"]
    subprocess.run(words, check=True)  # In a process of its own, where GL is still to be chosen.
    pictures = iio.imread(folder / "film.mp4", index=None)
    assert pictures.shape == (1000, 160, 160, 3)
    # The cheetah is orange and the floor has no colour.
    orange = pictures[0][..., 0].astype(int) - pictures[0][..., 2] > 40
    assert 200 < orange.sum() < 5000
