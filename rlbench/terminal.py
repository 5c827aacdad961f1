"""Output on a terminal: names and texts from files are shown as they are, and never control the terminal."""

from typing import Any

from rich.console import Console
from rich.text import Text

from rlbench.streams import show_all


def printable(text: str) -> str:
    r"""The text with control characters, except for tabs and ends of lines, as escape sequences of Python.

    >>> printable("\x1b[2Jrun")
    '\\x1b[2Jrun'
    """
    return "".join(
        c if c.isprintable() or c in "\t\n" else c.encode("unicode_escape").decode() for c in text
    )


def say(text: str) -> None:
    """Prints a text, with its control characters made visible."""
    print(printable(text))


class Terminal(Console):
    """A console on which square brackets and words such as `:smile:` have no meaning."""

    def __init__(self, **options: Any) -> None:
        """Takes the options of `Console`."""
        super().__init__(markup=False, emoji=False, highlight=False, **options)
        show_all(self.file)

    def render_str(self, text: str, **options: Any) -> Text:
        """See `Console`; called for every text that is printed, also in tables."""
        return super().render_str(printable(text), **options)
