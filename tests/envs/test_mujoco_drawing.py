"""How MuJoCo draws without a screen: which library is chosen, and the error if there is none."""

import builtins
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from rlbench.envs.mujoco_drawing import load_mujoco, make_renderer, no_gl
from rlbench.errors import UserError


def test_a_machine_without_gl_is_refused_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    import mujoco

    def fails(*_: Any) -> Any:
        raise AttributeError("'NoneType' object has no attribute 'eglQueryString'")

    monkeypatch.setattr(mujoco, "Renderer", fails)
    monkeypatch.setattr("ctypes.util.find_library", lambda name: None)
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    packages = "run apt-get install libegl1 libegl-mesa0 libgl1-mesa-dri"
    model = mujoco.MjModel.from_xml_string("<mujoco/>")
    with pytest.raises(UserError, match=rf"\(MUJOCO_GL is not set\); {packages}"):
        make_renderer(model, 64)
    monkeypatch.setenv("MUJOCO_GL", "glfw")
    with pytest.raises(UserError, match=r"\(MUJOCO_GL is glfw\); .*and leave MUJOCO_GL unset"):
        make_renderer(model, 64)
    monkeypatch.setitem(sys.modules, "mujoco", None)  # What MuJoCo does where EGL is missing.
    with pytest.raises(UserError, match=packages):
        load_mujoco()


def only(monkeypatch: pytest.MonkeyPatch, *libraries: str) -> None:
    found = {name: f"lib{name}.so" for name in libraries}
    monkeypatch.setattr("ctypes.util.find_library", found.get)
    monkeypatch.setattr(Path, "glob", lambda self, pattern: [Path("mesa.json")])


def test_loading_mujoco_too_early_is_refused_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    only(monkeypatch, "EGL")
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    with pytest.raises(UserError, match="set MUJOCO_GL=egl before Python starts"):
        raise no_gl()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system's own OpenGL draws")
@pytest.mark.parametrize(
    ("libraries", "users", "chosen"),
    [
        (("EGL",), None, "egl"),
        ((), None, None),
        (("EGL",), "", "egl"),
        (("EGL",), "glfw", "glfw"),
    ],
)
def test_a_library_is_chosen_unless_the_user_did(
    monkeypatch: pytest.MonkeyPatch, libraries: tuple[str, ...], users: str | None, chosen: str
) -> None:
    only(monkeypatch, *libraries)
    monkeypatch.setenv("MUJOCO_GL", users or "")
    if users is None:
        monkeypatch.delenv("MUJOCO_GL")
    modules = {name: module for name, module in sys.modules.items() if name != "mujoco"}
    monkeypatch.setattr(sys, "modules", modules | {"imageio": None})
    monkeypatch.setattr(builtins, "__import__", lambda name, *_: sys.modules.get(name))
    load_mujoco()
    assert os.environ.get("MUJOCO_GL") == chosen
