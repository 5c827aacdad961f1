"""Errors of an agent that is the user's own, named as theirs."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from rlbench.benchmarks.training.interrupt import Unfinished
from rlbench.errors import Interrupted, UserError, raised_by
from rlbench.interface import Agent


@contextmanager
def named_as_agents(agent: type[Agent]) -> Iterator[None]:
    """Around code that runs an agent.

    Raises:
        UserError: Something failed, and the agent is not one of rlbench's.
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
            "rlbench.interface.Action of a row for each observation, and `learn` a mapping of scalars; "
            "the same command with --debug shows where"
        ) from error
