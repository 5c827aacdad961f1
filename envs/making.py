"""Makes the environments and sources of tasks; importing this loads the standard library only."""

import importlib
import warnings
from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Any

from rlbench.envs.architectures.names import SearchName
from rlbench.envs.examples import made_source
from rlbench.envs.grids.names import GridName
from rlbench.envs.multiroom.names import Floor
from rlbench.envs.procgen.names import ProcgenName
from rlbench.errors import FAILURES, UserError, raised_by
from rlbench.names import look_in_current_folder

if TYPE_CHECKING:
    import gymnasium as gym
    from gymnasium.vector import VectorEnv

    from rlbench.envs.examples import Source
    from rlbench.experience import Lifetimes

MINATAR = "MinAtar/"
"""Prefix of the ids of the package minatar."""


def make_lifetimes(family: str, count: int, workers: int, **options: Any) -> "Lifetimes":
    """Lifetimes in grids; see `rlbench.envs.grids.make.make_lifetimes`."""
    from rlbench.envs.grids.make import make_lifetimes

    return make_lifetimes(family, count, workers, **options)


def make_procgen(game: ProcgenName) -> "gym.Env[Any, Any]":
    """One environment of Procgen."""
    from rlbench.envs.procgen import pool as procgen

    return procgen.make_env(game)


def make_procgen_vector(game: ProcgenName, count: int) -> "VectorEnv[Any, Any, Any]":
    """`count` environments of Procgen, stepped as a batch."""
    from rlbench.envs.procgen import pool as procgen

    return procgen.make_vector(game, count)


def make_atari(game: str, clipped: bool) -> "gym.Env[Any, Any]":
    """One environment of Atari."""
    from rlbench.envs.atari.pool import AtariEnv

    return AtariEnv(game, clipped=clipped)


def make_atari_vector(game: str, clipped: bool, count: int) -> "VectorEnv[Any, Any, Any]":
    """`count` environments of Atari, stepped as a batch."""
    from rlbench.envs.atari import pool as atari

    return atari.make_vector(game, count, clipped=clipped)


def make_gymnasium(env_id: str, **options: Any) -> "gym.Env[Any, Any]":
    """One environment of a Gymnasium id, without the checks that only the environment's author needs."""
    from rlbench.envs.contract import made

    return made(env_id, partial(_registered, env_id, **options))


def make_mujoco_pixels(env_id: str) -> "gym.Env[Any, Any]":
    """One environment of a Gymnasium id whose observations MuJoCo draws without a screen."""
    from rlbench.envs.mujoco_drawing import load_mujoco

    load_mujoco()  # Before anything else loads it.
    return make_gymnasium(env_id)


def _registered(env_id: str, **options: Any) -> "gym.Env[Any, Any]":
    import gymnasium as gym

    _keep_mujoco_quiet()

    try:
        with warnings.catch_warnings():
            # The D4RL names mean -v4 on purpose; Gymnasium would advise -v5.
            warnings.filterwarnings("ignore", ".*out of date.*", DeprecationWarning)
            return gym.make(env_id, disable_env_checker=True, **options)
    except gym.error.DependencyNotInstalled as error:
        raise UserError(f"{env_id} needs a package that is not installed: {error}") from None
    except gym.error.Error as error:
        raise UserError(f"{env_id} cannot be made: {error}") from None


def make_of_module(env_id: str, **options: Any) -> "gym.Env[Any, Any]":
    """One environment of `package.module:EnvId-v0`, an id that the module registers with Gymnasium."""
    _imported(env_id)
    return make_gymnasium(env_id, **options)


def make_minigrid(env_id: str, *, whole: bool = False) -> "gym.Env[Any, Any]":
    """One environment of the package minigrid.

    Args:
        env_id: Its Gymnasium id.
        whole: Whether observations also have the direction and the words of the mission; otherwise they are the image alone.
    """
    register_minigrid(env_id)
    from rlbench.envs.contract import made

    def make() -> "gym.Env[Any, Any]":
        from minigrid.wrappers import ImgObsWrapper

        from rlbench.envs.minigrid.missions import Missions
        from rlbench.envs.minigrid.view import quicken

        env = _registered(env_id, render_mode="rgb_array")
        quicken(env)
        return Missions(env) if whole else ImgObsWrapper(env)

    return made(env_id, make)


def make_empty_rooms(sizes: tuple[int, ...]) -> "gym.Env[Any, Any]":
    """One environment of empty rooms of several sizes."""
    from rlbench.envs.minigrid.rooms import EmptyRooms

    return EmptyRooms(sizes)


def make_minatar(env_id: str) -> "gym.Env[Any, Any]":
    """One environment of the package minatar, whose episodes depend on their seeds alone."""
    register_minatar(env_id)
    from rlbench.envs.minatar.world import MinAtar

    return MinAtar(make_gymnasium(env_id))


def make_multiroom(floor: Floor, held_out: bool) -> "gym.Env[Any, Any]":
    """One environment of rooms with doors."""
    from rlbench.envs.multiroom.engine import MultiRoom

    return MultiRoom(floor, held_out=held_out)


def make_multiroom_vector(floor: Floor, held_out: bool, count: int) -> "VectorEnv[Any, Any, Any]":
    """`count` environments of rooms with doors, stepped as a batch."""
    from rlbench.envs.multiroom.engine import MultiRoomVector

    return MultiRoomVector(floor, count, held_out=held_out)


def make_recall(pairs: int, distractors: int) -> "gym.Env[Any, Any]":
    """One environment of recall."""
    from rlbench.envs.recall.engine import Recall

    return Recall(pairs, distractors)


def make_recall_vector(pairs: int, distractors: int, count: int) -> "VectorEnv[Any, Any, Any]":
    """`count` environments of recall, stepped as a batch."""
    from rlbench.envs.recall.engine import RecallVector

    return RecallVector(pairs, distractors, count)


def make_follow(family: str) -> "gym.Env[Any, Any]":
    """One environment in which a robot follows a demonstration."""
    from rlbench.envs.poses.follow import Follow

    return Follow(family)


def make_follow_vector(family: str, count: int) -> "VectorEnv[Any, Any, Any]":
    """`count` environments in which a robot follows a demonstration, stepped as a batch."""
    from rlbench.envs.poses.follow import FollowVector

    return FollowVector(family, count)


def make_grid(name: GridName, render_mode: str | None = "rgb_array") -> "gym.Env[Any, Any]":
    """One level of a grid or chain."""
    from rlbench.envs.grids.single import GridEnv

    return GridEnv(name.family, name.level, render_mode)


def make_search(name: SearchName) -> "gym.Env[Any, Any]":
    """One search for an architecture."""
    from rlbench.envs.architectures.make import make_env

    return make_env(name)


def make_search_vector(name: SearchName, count: int) -> "VectorEnv[Any, Any, Any]":
    """`count` searches for an architecture, evaluated as a batch."""
    from rlbench.envs.architectures.make import make_vector

    return make_vector(name, count)


def make_from_factory(name: str) -> "gym.Env[Any, Any]":
    """One environment from `package.module:factory`, a callable without arguments."""
    from rlbench.envs.contract import made

    return made(name, factory(name))


def no_episodes(name: str) -> "gym.Env[Any, Any]":
    """Refuses to make an environment of a task that has none."""
    raise UserError(
        f"{name} has labelled examples and no episodes; give it to a model such as classifier, or give "
        "the agent an environment"
    )


def source_from_factory(name: str) -> "Source":
    """A source of examples from `package.module:factory`, a callable without arguments."""
    return made_source(name, factory(name))


def factory(name: str) -> Callable[[], Any]:
    """The callable that `package.module:factory` names."""
    module_name, _, attribute = name.partition(":")
    module = _imported(name)
    found: Any = getattr(module, attribute, None)
    if not callable(found):
        raise UserError(
            f"the module {module_name!r} has no function {attribute!r}; write the task as "
            "package.module:factory, and let factory() return a Gymnasium environment or a source of "
            "examples"
        )
    return found  # type: ignore[no-any-return]


def _imported(name: str) -> ModuleType:
    """The module in the name of a task; it may lie in the current folder."""
    module_name = name.partition(":")[0]
    look_in_current_folder()
    try:
        return importlib.import_module(module_name)
    except UserError:
        raise
    except ModuleNotFoundError as error:
        raise UserError(
            f"no module named {error.name!r} for the task {name!r}; run the command from the "
            "folder that contains it, or install its package"
        ) from None
    except FAILURES as error:  # A user's module can fail in any way.
        raise raised_by(name, f"its module {module_name!r}", error, "environment") from error


def register_minigrid(env_id: str) -> None:
    """Loads minigrid, which registers its ids with Gymnasium."""
    try:
        importlib.import_module("minigrid")
    except ModuleNotFoundError:
        raise UserError(
            f"{env_id} needs the package minigrid; install it with pip install 'rlbench[minigrid]'"
        ) from None


def register_minatar(env_id: str) -> None:
    """Makes minatar register its ids with Gymnasium."""
    try:
        package = importlib.import_module("minatar.gym")
    except ModuleNotFoundError:
        raise UserError(
            f"{env_id} needs the package minatar; install it with pip install 'rlbench[minatar]'"
        ) from None
    import gymnasium as gym

    # Gymnasium finds the ids of an installed package itself, and warns if they are registered again.
    if not any(name.startswith(MINATAR) for name in gym.registry):
        package.register_envs()


def _keep_mujoco_quiet() -> None:
    """Sends MuJoCo's warnings to Python instead of MUJOCO_LOG.TXT in the current folder."""
    try:
        import mujoco
    except ModuleNotFoundError:
        return
    mujoco.set_mju_user_warning(_pass_on)


def _pass_on(message: str) -> None:
    # HalfCheetah's model makes MuJoCo warn of a deprecated setting each time it loads.
    if "settotalmass" not in message:
        warnings.warn(f"MuJoCo: {message}", stacklevel=2)
