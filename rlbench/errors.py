"""The one exception that is written for the person at the keyboard."""


class UserError(ValueError):
    """One sentence: what was given, what was expected, what to do. Exit code 2, no traceback."""


class Interrupted(Exception):
    """The person stopped it, everything is saved, and the message says how to go on."""
