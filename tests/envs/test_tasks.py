"""Names of tasks, and what they make."""

import pickle
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

from rlbench.envs.d4rl import names as d4rl_names
from rlbench.envs.multiroom import names as multiroom_names
from rlbench.envs.tasks import find_task, task_names
from rlbench.errors import UserError


@pytest.mark.parametrize("version", ["", "-v0", "-v1", "-v2"])
@pytest.mark.parametrize("name", d4rl_names.short_names())
def test_every_d4rl_name_is_a_task_with_its_shapes(name: str, version: str) -> None:
    task = find_task(name + version)
    assert str(task.data) == name + (version or "-v2")
    if not version:
        family = name.partition("-")[0]
        env = task.make()
        assert env.spec is not None
        assert env.spec.id == d4rl_names.ENVIRONMENTS[family]
        shapes = (*(env.observation_space.shape or ()), *(env.action_space.shape or ()))
        assert shapes == d4rl_names.SHAPES[family]


def test_reference_returns_score_0_and_100() -> None:
    task = find_task("halfcheetah-medium")
    assert task.score(-280.178953) == 0
    assert task.score(12135.0) == 100
    assert find_task("Pendulum-v1").score(-1000.0) is None


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("HalfCheetah-medium", "did you mean halfcheetah-medium"),
        ("halfcheetah-mediun", "did you mean halfcheetah-medium"),
        ("halfcheetah-medium-v3", "halfcheetah-medium"),
        ("Pendulum-v99", "did you mean Pendulum-v1"),
        ("", "rlbench list"),
    ],
)
def test_an_unknown_name_is_one_sentence_with_close_names(name: str, words: str) -> None:
    with pytest.raises(UserError, match=words) as error:
        find_task(name)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("no_such_module:make", "no module named 'no_such_module'"),
        ("my_tasks:missing", "has no function 'missing'"),
        ("my_tasks:three", "has no function 'three'"),
        ("my_tasks:number", "made a int"),
    ],
)
def test_a_bad_factory_is_one_sentence(
    name: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_tasks.py").write_text("three = 3\n\ndef number():\n    return 3\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    with pytest.raises(UserError, match=words):
        find_task(name).make()
    sys.modules.pop("my_tasks", None)


def test_a_registered_environment_that_cannot_be_made_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(**_: object) -> gym.Env[object, object]:
        raise ValueError("no licence")

    monkeypatch.setitem(gym.registry, "Broken-v0", gym.envs.registration.EnvSpec("Broken-v0", fail))
    with pytest.raises(UserError, match="Broken-v0 raised ValueError in its factory: no licence"):
        find_task("Broken-v0").make()


def test_a_factory_in_the_current_folder_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "import gymnasium\ndef make():\n    return gymnasium.make('CartPole-v1')\n"
    (tmp_path / "own_task.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    assert isinstance(find_task("own_task:make").make(), gym.Env)


def test_mujoco_leaves_no_log_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    find_task("halfcheetah-medium").make().reset(seed=0)
    assert list(tmp_path.iterdir()) == []


def test_the_list_holds_the_twenty_names() -> None:
    assert len(d4rl_names.short_names()) == 20
    assert set(d4rl_names.short_names()) <= set(task_names())


@pytest.mark.parametrize("name", multiroom_names.names())
def test_rooms_are_tasks_with_held_out_levels(name: str) -> None:
    task = find_task(name)
    assert task.solved_above == 0
    make, make_vector = pickle.loads(pickle.dumps((task.make, task.make_vector)))
    obs, _ = make().reset(seed=11)
    assert obs.shape == task.make().observation_space.shape
    assert np.array_equal(make_vector(3).reset(seed=[0, 11, 0])[0][1], obs)
    if name in ("multiroom-n3r", "multiroom-n1-held-out"):
        assert task.held_out is None
    if name == "multiroom-n2":
        assert task.held_out is not None
        assert task.held_out.name == "multiroom-n2-held-out"
        other, named = task.held_out.make(), find_task("multiroom-n2-held-out").make()
        assert np.array_equal(other.reset(seed=11)[0], named.reset(seed=11)[0])
        assert not np.array_equal(other.reset(seed=11)[0], obs)


def test_the_list_holds_the_rooms() -> None:
    assert {"multiroom-n2", "multiroom-n2-held-out", "multiroom-n3r"} <= set(task_names())
    with pytest.raises(UserError, match="did you mean multiroom-n"):
        find_task("multiroom-n4")


REGISTERS = """
import gymnasium as gym
from gymnasium.envs.classic_control import CartPoleEnv

gym.register("Mine/Pole-v0", CartPoleEnv, max_episode_steps=7)
"""


def test_an_id_that_a_module_registers_is_a_task(
    in_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(gym.envs.registration, "registry", {**gym.registry})
    Path("registers.py").write_text(REGISTERS)
    task = find_task("registers:Mine/Pole-v0")
    assert "registers" not in sys.modules, "nothing is imported before it is used"
    assert task.imports == "registers:Mine/Pole-v0"
    env = pickle.loads(pickle.dumps(task)).make()
    assert env.spec.max_episode_steps == 7
    with pytest.raises(UserError, match="registers:Other-v0 cannot be made"):
        find_task("registers:Other-v0").make()
    with pytest.raises(
        UserError, match="no module named 'no_module' for the task 'no_module:A-v0'"
    ):
        find_task("no_module:A-v0").make()
