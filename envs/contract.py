"""Requirements on environments, checked at every reset and step, and the form of observations.

Everything an environment returns or receives is copied, so it may reuse its arrays. Its errors are
reported as its own.
"""

import copy
import math
from collections.abc import Callable
from typing import Any, NoReturn

import gymnasium as gym
import numpy as np
import torch
from gymnasium.spaces import Box, Dict, Discrete
from numpy.typing import NDArray

from rlbench.envs.packing import Packing
from rlbench.errors import FAILURES, Diverged, UserError, raised_by
from rlbench.interface import Agent
from rlbench.packed import as_whole
from rlbench.sequences import TokenSequence

Array = NDArray[Any]

STEPS = 3
"""Number of steps checked before a run begins."""
LARGEST = float(np.finfo(np.float32).max)
"""Largest reward; rewards are stored as float32."""
_BYTE, _FLOAT = np.dtype(np.uint8), np.dtype(np.float32)


def as_obs(given: Any, space: gym.Space[Any], *, copy: bool = False) -> Array:
    """Observations in the form in which they are stored: float32, or uint8 for images.

    The actual values decide, not the space: an integer space does not truncate decimals. Images have a
    uint8 space and two or more dimensions.

    Args:
        given: One observation, or a batch with leading dimensions.
        space: Space of one observation.
        copy: Whether the result must not share memory with `given`.

    Raises:
        TypeError: Its values are not real numbers.
    """
    array = np.asarray(given)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{array.dtype} is not a type of real numbers")
    if array.dtype == _BYTE and is_images(space):
        return array.copy() if copy else array
    return array.astype(_FLOAT, copy=copy)


def is_images(space: gym.Space[Any]) -> bool:
    """Whether observations are stored as bytes: they have two or more dimensions and a uint8 space."""
    return space.dtype == _BYTE and len(space.shape or ()) > 1


def as_tensor(obs: Array, agent: Agent) -> torch.Tensor:
    """A copy of observations in the form of `as_obs` for an agent to act on."""
    return torch.from_numpy(obs.copy()).to(agent.device)


def made(name: str, make: Callable[[], Any]) -> gym.Env[Any, Any]:
    """The environment that `make` returns; Dict observations are packed into one vector.

    Raises:
        UserError: `make` failed, or made something other than a Gymnasium environment.
    """
    try:
        env = make()
    except UserError:
        raise
    except FAILURES as error:
        raise raised_by(name, "its factory", error, "environment") from error
    if not isinstance(env, gym.Env):
        raise UserError(
            f"{name} made a {type(env).__name__}; expected a gymnasium.Env, so return one from the "
            "factory (shimmy converts environments of the old gym package)"
        )
    for space in ("observation_space", "action_space"):
        found = getattr(env, space, None)
        if not isinstance(found, gym.Space):
            raise UserError(
                f"{name} has the {space} {found}; expected a gymnasium.Space, so set it in the "
                "environment's __init__"
            )
    return Packing(env, name) if isinstance(env.observation_space, Dict) else env


def check(make: Callable[[], gym.Env[Any, Any]], name: str) -> "Checked":
    """Makes an environment, plays a few steps in it, always the same ones, and closes it.

    Returns:
        The environment, for its spaces.

    Raises:
        UserError: It does not meet the requirements of `Checked`.
    """
    env, rng = Checked(made(name, make), name), np.random.default_rng(0)
    choices = copy.deepcopy(env.action_space)
    choices.seed(0)
    env.reset(seed=0)
    for _ in range(STEPS):
        if isinstance(choices, Box):
            action = np.clip(rng.normal(size=choices.shape), choices.low, choices.high)
            whole = np.issubdtype(choices.dtype, np.integer)
            action = action.astype(choices.dtype if whole else np.float32)
        else:
            action = choices.sample()
        _, _, terminated, truncated = env.step(action)
        if terminated or truncated:
            env.reset(seed=1)
    env.close()
    return env


class BrokenAction(Diverged):
    """An environment failed after the agent's action was not finite."""


class Checked:
    """One environment whose every reset and step is checked; seeds and actions as in Gymnasium."""

    def __init__(self, env: gym.Env[Any, Any], name: str | None = None) -> None:
        """Wraps an environment without resetting it.

        Args:
            env: Any environment.
            name: Name in errors; the environment's class if None.

        Raises:
            UserError: Its observations or actions are not single arrays or numbers.
        """
        kind = type(env.unwrapped)
        self.env, self.name = env, name or f"{kind.__module__}.{kind.__qualname__}"
        self.observation_space, self.action_space = env.observation_space, env.action_space
        for what, space, wrapper in (
            ("observation", env.observation_space, "FlattenObservation"),
            ("action", env.action_space, "TransformAction"),
        ):
            if space.shape is None:
                raise UserError(
                    f"{self.name} has the {what} space {space}; agents need a single array, so wrap "
                    f"the environment (gymnasium.wrappers.{wrapper})"
                )
        box = env.action_space
        self._bounds: tuple[Array, Array] | None = None
        if isinstance(box, Box) and not _holds_float32(box):
            self._bounds = box.low, box.high
        self._discrete = isinstance(box, Discrete)
        self._obs_shape, self._action_shape = env.observation_space.shape, box.shape
        self._dtype: np.dtype[Any] | None = None
        self._seed: int | None = None
        self._steps = 0

    def reset(self, seed: int | None = None) -> Array:
        """Begins an episode; its first observation, [D], a copy.

        Raises:
            UserError: As in `step`.
        """
        self._seed, self._steps = seed, 0
        try:
            result = self.env.reset(seed=seed)
        except UserError:
            raise
        except FAILURES as error:
            missing = [f"unexpected keyword argument '{x}'" for x in ("seed", "options")]
            if any(text in str(error) for text in missing):
                raise UserError(
                    f"{self.name}: {error}; write it as `def reset(self, *, seed=None, options=None)` "
                    "and begin with super().reset(seed=seed)"
                ) from error
            raise raised_by(self.name, "reset", error, "environment") from error
        if not (_is_tuple(result, 2) and isinstance(result[1], dict)):
            self._refuse(f"returned {_described(result)}", "(observation, info), info a dict")
        return self._obs(result[0], None)

    def step(self, action: Any) -> tuple[Array, float, bool, bool]:
        """One step.

        Args:
            action: An agent's action, an array [A] or a NumPy number; it is not modified.

        Returns:
            Observation [D], a copy; reward; terminated; truncated.

        Raises:
            UserError: The environment raised an exception or broke a rule: not five values, an
                observation of another shape, a value that is not finite, a reward that is not a
                number, flags that are not bools, an info that is not a dict; or the agent's action
                has another shape.
            BrokenAction: The agent's action was not finite, and the environment raised or returned
                a value that is not finite.
        """
        given = self._for_env(action)
        self._steps += 1
        try:
            result = self.env.step(given)
        except UserError:
            raise
        except FAILURES as error:
            if "to unpack (expected 5" in str(error):  # Raised by a wrapper that unpacked it first.
                self._refuse(f"returned something else ({error})", _FIVE)
            self._look_at(action)
            raise raised_by(self.name, "step", error, "environment") from error
        if not _is_tuple(result, 5):
            self._refuse(f"returned {_described(result)}", _FIVE)
        seen, paid, terminated, truncated, info = result
        obs, reward = self._obs(seen, action), self._reward(paid, action)
        if not (_is_flag(terminated) and _is_flag(truncated)):
            ends = f"{_described(terminated)} and {_described(truncated)}"
            self._refuse(f"returned terminated and truncated as {ends}", "two bools")
        if not isinstance(info, dict):
            self._refuse(f"returned the info {_described(info)}", "a dict")
        return obs, reward, bool(terminated), bool(truncated)

    def close(self) -> None:
        """Closes the environment."""
        try:
            self.env.close()
        except FAILURES as error:
            raise raised_by(self.name, "close", error, "environment") from error

    def _for_env(self, action: Any) -> Any:
        """A copy of an action, of a type that the action space contains."""
        if action.shape != self._action_shape:
            raise UserError(
                f"the agent's action for {self.name} has the shape {list(action.shape)}, expected "
                f"{list(self._action_shape or ())}; let its `act` return one action for each row"
            )
        if self._discrete:
            return np.int64(action)
        if self._bounds is None:
            return np.array(action)
        # Rounding to float32 may leave the bounds.
        return np.clip(action, *self._bounds).astype(self.action_space.dtype)

    def _obs(self, given: Any, action: Any) -> Array:
        """A checked observation to keep; `action` led to it, None after a reset."""
        try:
            obs = as_obs(given, self.observation_space, copy=True)
        except (
            TypeError,
            ValueError,
            RuntimeError,
        ):  # RuntimeError: a tensor that requires a gradient.
            self._refuse(f"returned the observation {_described(given)}", "an array of numbers")
        if obs.shape != self._obs_shape:
            self._refuse(
                f"returned an observation of shape {list(obs.shape)}",
                f"{list(self._obs_shape or ())} as in its observation space",
            )
        if obs.dtype != self._dtype:
            if self._dtype is not None:
                self._refuse(f"returned {obs.dtype} after {self._dtype}", "always the same type")
            self._dtype = obs.dtype
        # The sum of squares is the fastest check; it may overflow on valid numbers.
        flat = obs.ravel()
        finite = obs.dtype == _BYTE or math.isfinite(flat.dot(flat))
        if not finite and not np.isfinite(obs).all():
            self._look_at(action)
            place = np.argwhere(~np.isfinite(obs))[0].tolist()
            self._refuse(f"returned an observation that is {obs[tuple(place)]} at {place}", _FINITE)
        if isinstance(self.observation_space, TokenSequence):
            try:
                as_whole(obs, self.observation_space)
            except ValueError as error:
                self._refuse(f"returned {error}", "numbers of tokens")
        return obs

    def _reward(self, given: Any, action: Any) -> float:
        try:
            # `float` would accept text and drop imaginary parts.
            if type(given) is not float and np.asarray(given).dtype.kind in "cSU":
                raise TypeError
            reward = given if type(given) is float else float(given)
        except (TypeError, ValueError, OverflowError, RuntimeError):
            self._refuse(f"returned the reward {_described(given)}", "one number")
        if not -LARGEST <= reward <= LARGEST:
            self._look_at(action)
            self._refuse(f"returned the reward {reward}", _FINITE)
        return reward

    def _look_at(self, action: Any) -> None:
        """Raises `BrokenAction` if the agent's action caused the fault."""
        if action is not None and not np.isfinite(action).all():
            raise BrokenAction(f"the agent's action for {self.name} became {action.tolist()}")

    def _refuse(self, found: str, expected: str) -> NoReturn:
        steps, seed = self._steps, self._seed
        when = f"step {steps} of the episode with seed {seed}" if steps else f"reset(seed={seed})"
        raise UserError(
            f"{self.name}: {when} {found}; expected {expected}; correct the environment"
        )


_FIVE = "(observation, reward, terminated, truncated, info), as in Gymnasium since 0.26"
_FINITE = "finite numbers that float32 can hold"
_FLAGS = (bool, np.bool_, int, np.integer)


def _holds_float32(box: Box) -> bool:
    """Whether float32 actions between the bounds are always inside the box."""
    if not np.issubdtype(box.dtype, np.floating):
        return True  # The agent takes care of whole numbers.
    with np.errstate(over="ignore"):
        exact = all(np.array_equal(x.astype(np.float32), x) for x in (box.low, box.high))
    return exact and np.can_cast(np.float32, box.dtype)


def _is_flag(value: Any) -> bool:
    return isinstance(value, _FLAGS) and value in (0, 1)


def _is_tuple(result: Any, length: int) -> bool:
    return isinstance(result, tuple | list) and len(result) == length


def _described(value: Any) -> str:
    """A value in a few words."""
    if isinstance(value, np.ndarray):
        kind = "" if value.dtype.kind in "biuf" else f" of {value.dtype}"
        return f"an array{kind} of shape {list(value.shape)}"
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}"
    text = repr(value)
    return text if len(text) <= 40 else f"a {type(value).__name__}"
