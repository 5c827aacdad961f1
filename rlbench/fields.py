"""Checks of the types of settings, which a file or a program may give; the command line has its own."""

from collections.abc import Sequence
from dataclasses import fields
from functools import cache
from numbers import Integral, Real
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from rlbench.errors import UserError

PLAIN: dict[Any, tuple[tuple[type, ...], str]] = {
    bool: ((bool,), "true or false"),
    int: ((Integral,), "a whole number"),
    float: ((Real,), "a number"),
    str: ((str,), "a text"),
    Path: ((str, Path), "a path"),
}
"""Type to the types of valid values, and to its name in words."""


def check_types(settings: Any) -> None:
    """Refuses values of other types than their fields have; lists are valid as tuples.

    Args:
        settings: A dataclass.

    Raises:
        UserError: A value has another type, or is not one of the choices.
    """
    kind: Any = type(settings)
    hints = _hints(kind)
    for name in (field.name for field in fields(settings)):
        value = getattr(settings, name)
        if not _fits(value, hints[name]):
            raise UserError(f"{name} is {value!r}; give {_words(hints[name])}")


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value has a type; types that no setting of the suite has fit everything."""
    origin, parts = get_origin(hint), get_args(hint)
    if hint in PLAIN:
        # True is an int in Python, but no number to a reader of settings.
        return isinstance(value, PLAIN[hint][0]) and (hint is bool or not isinstance(value, bool))
    if hint in (None, NoneType):
        return value is None
    if origin is Literal:
        return isinstance(value, str | int | None) and value in parts
    if origin in (Union, UnionType):
        return any(_fits(value, part) for part in parts)
    if origin is tuple:
        if isinstance(value, str) or not isinstance(value, Sequence):
            return False
        if parts[1:] == (...,):
            return all(_fits(each, parts[0]) for each in value)
        return len(value) == len(parts) and all(map(_fits, value, parts))
    return True


def _words(hint: Any) -> str:
    """What to give for a type."""
    origin, parts = get_origin(hint), get_args(hint)
    if hint in PLAIN:
        return PLAIN[hint][1]
    if hint in (None, NoneType):
        return "None"
    if origin is Literal:
        return f"one of {', '.join(map(str, parts))}"
    if origin in (Union, UnionType):
        return " or ".join(map(_words, parts))
    count = "any number" if parts[1:] == (...,) else str(len(parts))
    return f"a list with {count} of: {_words(parts[0])}"
