"""Errors raised by custom agents, reported as the user's own."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from rlbench.benchmarks.training.interrupt import Unfinished
from rlbench.errors import Interrupted, UserError, raised_by
from rlbench.interface import Agent


@contextmanager
def named_as_agents(agent: type[Agent]) -> Iterator[None]:
    """Reports errors of a custom agent as the user's own.

    Raises:
        UserError: The code failed, and the agent is not part of rlbench.
    """
    try:
        yield
    except (UserError, Interrupted, Unfinished):
        raise
    except Exception as error:
        theirs = {kind.__module__ for kind in agent.__mro__[:-1]} - {"abc"}
        theirs = {module for module in theirs if not module.startswith("rlbench.")}
        if not theirs:
            raise
        name = f"{agent.__module__}:{agent.__qualname__}"
        for frame, _ in traceback.walk_tb(error.__traceback__):
            if frame.f_globals.get("__name__") in theirs:
                raise raised_by(name, frame.f_code.co_name, error, "agent") from error
        text = " ".join(str(error).split())
        raise UserError(
            f"{name} cannot be run ({type(error).__name__}: {text}): `act` must return an "
            "rlbench.interface.Action with one row per observation, and `learn` a mapping of scalars; "
            "run the same command with --debug for the traceback"
        ) from error
