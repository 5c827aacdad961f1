"""Exceptions with messages for the user."""

FAILURES = (Exception, SystemExit)
"""Exceptions of a user's code that are reported as theirs: `sys.exit` must not end the process."""


class UserError(ValueError):
    """One sentence: what was given, what was expected, what to do. Exit code 2, no traceback."""


class CannotWrite(UserError):
    """A file cannot be written until the user corrects what `reason` says; what to do then depends on the command."""

    def __init__(self, reason: str) -> None:
        """Stores the reason."""
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        """The reason, and what to do with most commands."""
        return f"{self.reason}; afterwards run the same command again"


class Diverged(UserError):
    """An agent has a value that is not finite; the message names it, and the run adds the context."""


class Unsuited(UserError):
    """A learner's settings do not suit its data, which only showed during training; a resumed run, with the same settings, would fail again."""


class Interrupted(Exception):
    """The user stopped the run, and everything is saved; the message explains how to resume."""


class RunsFailed(Exception):
    """Some of the runs of a table or a sweep failed, and the others are complete. Exit code 1, no traceback."""


def raised_by(name: str, where: str, error: BaseException, kind: str) -> UserError:
    """The error for an exception in the user's own code.

    Raise it `from error` so that --debug shows the traceback.

    Args:
        name: The user's name for it, such as `my_envs:make`.
        where: The method or function that raised, such as `step`.
        error: What it raised.
        kind: What it is: environment, agent or task.

    >>> print(raised_by("my_envs:make", "step", KeyError("door"), "environment"))
    my_envs:make raised KeyError in step: 'door'; this comes from your environment; run the same command with --debug for the traceback
    """
    text = " ".join(str(error).split())
    return UserError(
        f"{name} raised {type(error).__name__} in {where}{': ' if text else ''}{text}; this comes "
        f"from your {kind}; run the same command with --debug for the traceback"
    )
