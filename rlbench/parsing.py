"""Parses the command line to dataclasses; a line that does not fit raises an error of one sentence. Importing it loads the standard library and tyro, nothing else."""

import contextlib
import dataclasses
import difflib
import io
import re
from collections.abc import Sequence
from typing import Any, TypeVar

import tyro

from rlbench.errors import UserError

T = TypeVar("T")
FEW_FLAGS = 20
"""Largest number of flags that an error lists."""
_NUMBERS = {r"invalid literal for int\(\) with base 10": "a whole number", "could not convert string to float": "a number"}  # fmt: skip
"""Patterns of Python's messages about text that is not a number, and what was expected."""


def peek(words: Sequence[str], flag: str, default: str) -> str:
    """Value of a flag, for the presets of a learner, which are needed before the whole line can be parsed."""
    for here, following in zip(words, [*words[1:], ""], strict=False):
        if here == flag:
            return following
        if here.startswith(f"{flag}="):
            return here.partition("=")[2]
    return default


def whole_number(text: str) -> int | None:
    """A whole number as tyro reads it, such as 20_000; None for any other text."""
    try:
        return int(text)
    except ValueError:
        return None


def parse(kind: type[T], words: Sequence[str], program: str, description: str = "") -> T:
    """Parses the words to a dataclass; raises an error of one sentence if they do not fit."""
    message = io.StringIO()
    try:
        with contextlib.redirect_stderr(message):
            parsed, unknown = tyro.cli(
                kind, args=words, prog=program, description=description,
                config=(tyro.conf.OmitArgPrefixes,), return_unknown_args=True,
            )  # fmt: skip
    except SystemExit as stop:
        if not stop.code:
            raise
        _check_flags(kind, words, program)
        raise UserError(_refusal(_first_part(message.getvalue()), program)) from None
    if unknown:
        raise UserError(_unknown(unknown[0], _flags(kind), program))
    return parsed


def _refusal(text: str, program: str) -> str:
    """Tyro's message about arguments that it does not accept, as a sentence."""
    # Settings that are out of range have their own error message.
    if refused := re.match(r"Error parsing \S+: (.*; give .*)", text):
        return refused[1]
    for reason, expected in _NUMBERS.items():
        if refused := re.match(rf"Error parsing (\S+): .*{reason}: '([^']*)'", text):
            return f"{refused[1]} is {refused[2]}; give {expected}{_written_out(refused[2])}"
    return f"{text}; see `{program} --help`"


def _written_out(text: str) -> str:
    """How to write a number such as 1e4 as a whole number; empty for other text."""
    with contextlib.suppress(ValueError):
        if (number := float(text)).is_integer():
            return f", here {number:.0f}"
    return ""


def _check_flags(kind: Any, words: Sequence[str], program: str) -> None:
    """Raises an error if a flag is unknown; tyro's own message may be about the value of the flag instead."""
    known = _flags(kind)
    for word in words:
        flag = word.partition("=")[0].replace("_", "-")
        plain = flag.replace("--no-", "--", 1)
        if word.startswith("--") and not {flag, plain} & {*known, "--help", "--"}:
            raise UserError(_unknown(word, known, program))


def _flags(kind: Any) -> list[str]:
    return [f"--{name.replace('_', '-')}" for name in _field_names(kind)]


def _unknown(word: str, known: Sequence[str], program: str) -> str:
    close = difflib.get_close_matches(word.partition("=")[0], known, n=1)
    hint = "there is no such setting;"
    if close:
        hint = f"did you mean {close[0]}?"
    elif 0 < len(known) <= FEW_FLAGS:
        hint = f"expected one of {', '.join(known)};"
    return f"unknown setting {word!r}: {hint} see `{program} --help`"


def _field_names(kind: Any) -> list[str]:
    """Names of the fields of a dataclass and of the dataclasses inside it, without positional ones."""
    names: list[str] = []
    for field in dataclasses.fields(kind):
        if tyro.conf.Positional in getattr(field.type, "__metadata__", ()):
            continue
        inner = getattr(field.type, "__origin__", field.type)
        names += _field_names(inner) if dataclasses.is_dataclass(inner) else [field.name]
    return names


def _first_part(panel: str) -> str:
    """The text below the title of tyro's framed message and above the next rule, as one line."""
    part: list[str] = []
    for line in panel.splitlines()[1:]:
        text = line.strip("│ ")
        if text and not text.strip("─-╰╯"):
            if part:
                break
        else:
            part.append(text)
    return " ".join(filter(None, part)).rstrip(".") or "the command is malformed"


def choose(options: dict[str, T], name: str, what: str, help_command: str) -> T:
    """The option of a name, or an error with the closest name."""
    if name in options:
        return options[name]
    close = difflib.get_close_matches(name, options, n=1)
    hint = f"did you mean {close[0]}?" if close else f"expected one of {', '.join(options)};"
    raise UserError(f"unknown {what} {name!r}: {hint} see `{help_command}`")
