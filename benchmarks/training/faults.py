"""Errors raised by custom learners, and faulty actions of custom agents, reported as the user's own."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from gymnasium import Space, spaces
from numpy.typing import NDArray

from rlbench.benchmarks.training.interrupt import Unfinished
from rlbench.envs.contract import BrokenAction
from rlbench.errors import FAILURES, Interrupted, UserError, raised_by
from rlbench.interface import Action, Agent, Learner, Model
from rlbench.meta_learner import MetaLearner

Array = NDArray[Any]

ROUNDING = 1e-5
"""Share of the larger bound by which an action may lie outside its box."""


@contextmanager
def named_as_users(learner: type[Learner]) -> Iterator[None]:
    """Reports errors of a custom agent or model as the user's own.

    Raises:
        UserError: The code failed, and the learner is not part of rlbench; or an action of any agent
            is not finite.
    """
    try:
        yield
    except BrokenAction as error:
        raise UserError(
            f"{error}, expected finite numbers; correct its `act`, or train it with a smaller "
            "learning rate"
        ) from error
    except (UserError, Interrupted, Unfinished):
        raise
    except FAILURES as error:
        theirs = {kind.__module__ for kind in learner.__mro__[:-1]} - {"abc"}
        theirs = {module for module in theirs if not module.startswith("rlbench.")}
        if not theirs:
            raise
        name = called(learner)
        title, duty = _duty(learner)
        for frame, _ in traceback.walk_tb(error.__traceback__):
            if frame.f_globals.get("__name__") in theirs:
                raise raised_by(name, frame.f_code.co_name, error, title) from error
        text = " ".join(str(error).split())
        raise UserError(
            f"{name} cannot be run ({type(error).__name__}: {text}): {duty}, and `learn` a mapping of "
            "scalars; run the same command with --debug for the traceback"
        ) from error


MEASURE = "`measure` must return a mapping of tensors with one row per "


def _duty(learner: type[Learner]) -> tuple[str, str]:
    """What a learner of this kind is called, and what it must do besides learning."""
    if issubclass(learner, Model):
        return "model", f"{MEASURE}example"
    if issubclass(learner, MetaLearner):
        return "meta-learner", f"{MEASURE}lifetime"
    return "agent", "`act` must return an rlbench.interface.Action with one row per observation"


def called(kind: type[Any]) -> str:
    """The name of a class in errors, as a user would give it."""
    return f"{kind.__module__}:{kind.__qualname__}"


class Actions:
    """Extracts the actions from the result of an agent's `act`, and refuses faulty ones."""

    def __init__(self, agent: Agent) -> None:
        """Reads the action space of the agent's environment."""
        self._name, space = called(type(agent)), agent.spec.action_space
        self._space, self._shape = space, tuple(space.shape or ())
        self._whole = not np.issubdtype(space.dtype or np.float32, np.floating)
        self._low, self._high = _bounds(space)

    def __call__(self, chosen: Action, rows: int, *, learned: bool = True) -> Array:
        """The actions, [B, ...].

        Args:
            chosen: The result of `act`.
            rows: Number of observations that it was given, B.
            learned: Whether the agent has learned anything yet.

        Raises:
            UserError: The actions have another shape, or one is outside the action space.
            BrokenAction: An action is not finite, and the agent has learned.
        """
        action: Array = chosen.action.cpu().numpy()
        if action.shape != (rows, *self._shape):
            raise UserError(
                f"`act` of {self._name} returned actions of shape {list(action.shape)}, expected "
                f"{[rows, *self._shape]}; let it return one action for each observation"
            )
        inside = (self._low <= action) & (action <= self._high)
        if action.dtype.kind == "c":
            inside[...] = False
        elif self._whole and action.dtype.kind == "f":
            inside &= action == np.floor(action)
        if not inside.all():
            row = int(np.argwhere(~inside)[0][0])
            self._refuse(action[row], learned)
        return action

    def _refuse(self, action: Any, learned: bool) -> None:
        if np.isfinite(action).all():
            raise UserError(
                f"`act` of {self._name} returned the action {action.tolist()}, expected one of "
                f"{self._space}; let it return actions inside the action space, clipped if need be"
            )
        if learned:
            raise BrokenAction(f"the action of {self._name} became {action.tolist()}")
        raise UserError(
            f"`act` of {self._name} returned the action {action.tolist()} before its first update, "
            "expected finite numbers; correct `act` or the agent's initial weights"
        )


def _bounds(space: Space[Any]) -> tuple[Any, Any]:
    """Smallest and largest action, with a tolerance for rounding to float32."""
    if isinstance(space, spaces.Discrete):
        return int(space.start), int(space.start + space.n - 1)
    if isinstance(space, spaces.MultiDiscrete):
        return space.start, space.start + space.nvec - 1
    if not isinstance(space, spaces.Box):
        return -np.inf, np.inf
    low, high = space.low.astype(np.float64), space.high.astype(np.float64)
    sizes = [np.where(np.isfinite(bound), abs(bound), 0) for bound in (low, high)]
    with np.errstate(over="ignore"):
        slack = ROUNDING * np.maximum(*sizes)
        return low - slack, high + slack
