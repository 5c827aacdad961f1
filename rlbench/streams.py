"""Output streams whose encoding lacks a character, such as ± in ASCII. Standard library only."""

import io
from typing import IO


def show_all(*streams: IO[str]) -> None:
    """Makes streams write characters that their encoding lacks as escape sequences of Python, instead of raising an error.

    Streams that are not Python text files, such as those of a notebook, stay as they are.
    """
    for stream in streams:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
