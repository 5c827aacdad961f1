"""Names that a user can give: one lazy table for agents, models, encoders, memories and papers.

Looking up a name imports only its own module. Standard library only.
"""

import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from functools import lru_cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from rlbench.errors import FAILURES, UserError


class NameTable(Mapping[str, str]):
    """Names with a one-line description each; `load` gives their objects."""

    def __init__(
        self, kind: str, package: str, entries: Mapping[str, tuple[str, str]], group: str = ""
    ) -> None:
        """A table of built-in names and of names registered by installed packages.

        Args:
            kind: Kind of the names in errors, such as `agent`.
            package: Where the modules are.
            entries: Name to `module:attribute` and a one-line description.
            group: Entry points under which packages register names; empty for none.
        """
        self.kind, self._package, self._entries, self._group = kind, package, entries, group

    def __getitem__(self, name: str) -> str:
        """The description of a name."""
        if name in self._entries:
            return self._entries[name][1]
        return f"from {_package(self.plugins()[name])}"

    def __iter__(self) -> Iterator[str]:
        """Names of installed packages first, then the built-in ones in order."""
        yield from (name for name in self.plugins() if name not in self._entries)
        yield from self._entries

    def __len__(self) -> int:
        """The number of names."""
        return len({*self._entries, *self.plugins()})

    def plugins(self) -> dict[str, EntryPoint]:
        """The names that packages registered."""
        found = registered(self._group) if self._group else ()
        return {entry.name: entry for entry in found}

    def place(self, name: str) -> str:
        """`package.module:attribute` of a name; a name of that form is returned unchanged.

        Raises:
            UserError: There is no such name.
        """
        if name in self._entries:
            return f"{self._package}.{self._entries[name][0]}"
        if name in (plugins := self.plugins()):
            return plugins[name].value
        if ":" in name:
            return name
        raise UserError(self.unknown(name))

    def unknown(self, name: str, others: Iterable[str] = ()) -> str:
        """The error for a name that is neither in the table nor one of `others`."""
        close = get_close_matches(name.lower(), [*self, *others], n=3)
        hint = f"did you mean {' or '.join(close)}? " if close else ""
        return (
            f"there is no {self.kind} {name!r}; {hint}`rlbench list` shows all, and "
            "package.module:Class names a custom one"
        )

    def module_of(self, attribute: str) -> str | None:
        """The built-in module of an object in the table, by its attribute name; None if there is none."""
        places = (place for place, _ in self._entries.values())
        modules = (place.partition(":")[0] for place in places if place.endswith(f":{attribute}"))
        return next((f"{self._package}.{module}" for module in modules), None)

    def load(self, name: str) -> Any:
        """The object of a name.

        Raises:
            UserError: There is no such name, or its module cannot be imported.
        """
        module_name, _, attribute = self.place(name).partition(":")
        if name not in self:  # Otherwise it is in an installed package.
            look_in_current_folder()
        try:
            module = import_module(module_name)
        except UserError:  # Its message is already complete.
            raise
        except FAILURES as error:  # A plug-in's module may fail in any way.
            raise UserError(
                f"{self.kind} {name!r}: cannot import the module {module_name!r} "
                f"({type(error).__name__}: {error}); install it or correct the name"
            ) from error
        if not hasattr(module, attribute):
            raise UserError(
                f"{self.kind} {name!r}: {attribute!r} in the module {module_name!r} is missing; "
                "expected package.module:Class"
            )
        return getattr(module, attribute)


def registered(group: str) -> tuple[EntryPoint, ...]:
    """The entry points of installed packages in a group.

    The packages are searched again, which takes many milliseconds, only if a folder with modules has changed.
    """
    return _registered(group, tuple((place, _changed(place)) for place in sys.path))


@lru_cache
def _registered(group: str, _: tuple[tuple[str, float | None], ...]) -> tuple[EntryPoint, ...]:
    return tuple(entry_points(group=group))


def _changed(place: str) -> float | None:
    """When a folder last changed, in seconds; None if it does not exist."""
    try:
        return os.stat(place or ".").st_mtime
    except OSError:
        return None


def look_in_current_folder() -> None:
    """Makes modules of the current folder importable; console scripts do not search it."""
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())


def _package(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist else entry.module
