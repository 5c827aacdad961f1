"""Tasks: names for things that can be run. Importing this loads the standard library only."""

import difflib
import importlib
import os
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Protocol

from rlbench.envs import data_names
from rlbench.envs.data_names import DataName
from rlbench.errors import UserError

if TYPE_CHECKING:
    import gymnasium as gym
    from gymnasium.vector import VectorEnv

    from rlbench.interface import Transitions


class Demonstrations(Protocol):
    """Data that a task makes by itself, without a behaviour policy."""

    @property
    def key(self) -> Mapping[str, Any]:
        """Everything that the data depend on beside their number, in plain values."""

    def record(self, size: int) -> "Transitions":
        """So many transitions, whole episodes in order."""


@dataclass(frozen=True)
class Task:
    """Something that can be run."""

    name: str
    """What the user calls it."""
    make: "Callable[[], gym.Env[Any, Any]]"
    """Makes one environment; can be pickled, so that worker processes can call it."""
    data: DataName | None = None
    """Its data set, where it has one."""
    reference_returns: tuple[float, float] | None = None
    """Returns that score 0 and 100; None where nobody fixed them."""
    make_vector: "Callable[[int], VectorEnv[Any, Any, Any]] | None" = None
    """Makes so many environments that step as one, where that is faster than one after the other:
    a Gymnasium vector with AutoresetMode.DISABLED, whose `reset` takes a seed for each environment
    and the option `reset_mask`, as SyncVectorEnv's does."""
    held_out: "Task | None" = None
    """The same on levels that training never sees."""
    solved_above: float | None = None
    """Return above which an episode counts as solved; None where that has no meaning."""
    demonstrations: Demonstrations | None = None
    """Makes its data, where no behaviour policy has to record them."""
    draw: "Callable[[int], Task] | None" = None
    """Draws the task anew for the seed of a run, where runs are repeated on different problems."""

    def drawn(self, seed: int) -> "Task":
        """The task as the run of a seed meets it."""
        return self if self.draw is None else self.draw(seed)

    def score(self, mean_return: float) -> float | None:
        """D4RL-normalised score, 100 (R - min) / (max - min); None without reference returns."""
        if self.reference_returns is None:
            return None
        low, high = self.reference_returns
        return 100.0 * (mean_return - low) / (high - low)


def find_task(name: str) -> Task:
    """The task of a name.

    Args:
        name: A data set's name (`halfcheetah-medium`, `point-mixed`), a task that a package
            registered under the entry point `rlbench.tasks`, signals with a number of backgrounds
            (`signals-2`), a Gymnasium id (`Pendulum-v1`) or `package.module:factory`.

    Raises:
        UserError: Nothing has this name.
    """
    data = data_names.parse(name)
    if data is not None:
        options = {"use_contact_forces": True} if data.family == "ant" else {}
        make = partial(make_gymnasium, data_names.environment(data), **options)
        return Task(name, make, data, data_names.reference_returns(data))
    for point in entry_points(group="rlbench.tasks"):
        if point.name == name:
            task: Task = point.load()()
            return task
    if ":" in name:
        return Task(name, partial(make_from_factory, name))
    if name.startswith("signals-"):
        from rlbench.envs import signals

        drawn = signals.find(name)
        if drawn is not None:
            return drawn
    import gymnasium as gym

    try:
        gym.spec(name)
    except gym.error.Error:
        raise UserError(_unknown(name, list(gym.registry))) from None
    return Task(name, partial(make_gymnasium, name))


def task_names() -> list[str]:
    """Names to show in `rlbench list`: those with data and those that packages registered."""
    registered = (point.name for point in entry_points(group="rlbench.tasks"))
    return [*data_names.short_names(), "signals-2", "signals-64", *registered]


def make_gymnasium(env_id: str, **options: Any) -> "gym.Env[Any, Any]":
    """One environment of a Gymnasium id, without the checks that only its author needs."""
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


def make_from_factory(name: str) -> "gym.Env[Any, Any]":
    """One environment from `package.module:factory`, a callable without arguments."""
    module_name, _, attribute = name.partition(":")
    if os.getcwd() not in sys.path:  # a console script does not look in the current folder
        sys.path.append(os.getcwd())
    try:
        factory = getattr(importlib.import_module(module_name), attribute)
    except ModuleNotFoundError as error:
        raise UserError(
            f"no module named {error.name!r} for the task {name!r}; run the command from the "
            "folder that holds it, or install its package"
        ) from None
    except AttributeError:
        raise UserError(
            f"the module {module_name!r} has no {attribute!r}; write the task as "
            "package.module:factory, where factory() makes a Gymnasium environment"
        ) from None
    env = factory()
    if not (hasattr(env, "observation_space") and hasattr(env, "step")):
        raise UserError(
            f"{name} made a {type(env).__name__}; expected a Gymnasium environment, "
            "so return one from the factory"
        )
    return env  # type: ignore[no-any-return]


def _unknown(name: str, gymnasium_ids: list[str]) -> str:
    close = difflib.get_close_matches(name, [*task_names(), *gymnasium_ids], n=3, cutoff=0.6)
    hint = f"did you mean {' or '.join(close)}?" if close else "`rlbench list` shows the names;"
    return f"no task named {name!r}; {hint} any Gymnasium id and package.module:factory work too"


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
