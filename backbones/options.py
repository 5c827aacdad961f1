"""Options after a name, as in `resnet:units=1,width=8`; importing this loads the standard library only."""

import inspect
import re
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args, get_origin, get_type_hints

from rlbench.errors import UserError


def read_options(
    kind: str, name: str, words: Sequence[str], *makers: Callable[..., Any]
) -> dict[str, Any]:
    """Options such as `units=1`, as values of the types of their defaults.

    >>> def layers(channels: int, units: int = 3, gain: float = 1.0) -> None: ...
    >>> read_options("encoder", "resnet", ["units=1", "gain=2"], layers)
    {'units': 1, 'gain': 2.0}

    Args:
        kind: Kind of the name in errors, such as `encoder`.
        name: The name that has the options.
        words: The options that were given; a later one wins over an earlier one.
        *makers: Functions; their arguments with a number or a text as default are the options.

    Raises:
        UserError: There is no such option, or its value has another type or is not one of its choices.
    """
    defaults: dict[str, Any] = {}
    types: dict[str, Any] = {}
    for maker in makers:
        types |= get_type_hints(maker.__init__ if inspect.isclass(maker) else maker)
        for known in inspect.signature(maker).parameters.values():
            if isinstance(known.default, int | float | str):
                defaults[known.name] = known.default
    options = {}
    for word in words:
        option, _, value = word.partition("=")
        if option not in defaults:
            there = f"; it has {', '.join(defaults)}" if defaults else ", which has no options"
            raise UserError(f"there is no option {option!r} of the {kind} {name}{there}")
        kind_of_value = type(defaults[option])
        hint = types.get(option)
        choices = get_args(hint) if get_origin(hint) is Literal else ()
        if choices and value not in choices:
            raise UserError(
                f"{option} of {name} is {value!r}; give one of {', '.join(map(str, choices))}"
            )
        try:
            options[option] = kind_of_value(value)
        except ValueError:
            expected = "a whole number" if kind_of_value is int else "a number"
            raise UserError(
                f"{option} of the {kind} {name} is {value!r}; give {expected}, as in "
                f"{name}:{option}={defaults[option]}"
            ) from None
    return options


def inner_name(name: str) -> str:
    """The name of an encoder that is itself an option, with its options after a colon; each further level has one more slash.

    >>> inner_name("resnet/units=1/width=8")
    'resnet:units=1,width=8'
    >>> inner_name("fpn/of=conv4//layers=3/width=16")
    'fpn:of=conv4/layers=3,width=16'
    """
    base, *options = re.split("(?<!/)/(?!/)", name)
    options = [re.sub("/(/+)", r"\1", option) for option in options]
    return ":".join([base, ",".join(options)]) if options else base


def as_option(name: str) -> str:
    """The name of an encoder as an option of another one: the inverse of `inner_name`.

    >>> as_option("fpn:of=conv4/layers=3,width=16")
    'fpn/of=conv4//layers=3/width=16'
    """
    return re.sub("/+", r"\g<0>/", name).replace(":", "/").replace(",", "/")
