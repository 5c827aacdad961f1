"""The one exception that is written for the person at the keyboard."""


class UserError(ValueError):
    """One sentence: what was given, what was expected, what to do. Exit code 2, no traceback."""


class Interrupted(Exception):
    """The person stopped it, everything is saved, and the message says how to go on."""


def raised_by(name: str, where: str, error: Exception, kind: str) -> UserError:
    """The error of code that is not ours; to be raised `from error`, which --debug shows.

    Args:
        name: What the user calls it, such as `my_envs:make`.
        where: The method or function that raised, such as `step`.
        error: What it raised.
        kind: What it is: environment, agent or task.

    >>> print(raised_by("my_envs:make", "step", KeyError("door"), "environment"))
    my_envs:make raised KeyError in step: 'door'; this comes from your environment, and the same command with --debug shows where
    """
    text = " ".join(str(error).split())
    return UserError(
        f"{name} raised {type(error).__name__} in {where}{': ' if text else ''}{text}; this comes "
        f"from your {kind}, and the same command with --debug shows where"
    )
