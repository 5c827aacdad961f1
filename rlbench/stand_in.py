"""A stand-in for PyTorch, with which `--help` takes a fraction of a second.

The settings of a learner are in the module of its networks and losses, which imports PyTorch, and that takes seconds. Showing the settings needs only
the names of PyTorch, not what they do. So while a command prints its help, PyTorch and the packages that are built on it are empty
modules, in which every name is a class that may be subclassed, called and used as a decorator.
"""

import importlib.util
import sys
from abc import ABCMeta
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

PACKAGES = ("torch", "safetensors", "stable_baselines3")


class Name(ABCMeta):
    """The type of a name of an empty module; each of its own names is another one."""

    def __getattr__(cls, name: str) -> Any:
        """Another name, but none that Python itself looks for."""
        return _name(name)

    def __getitem__(cls, _: object) -> Any:
        """The class itself, as in `Tensor[float]`."""
        return cls


class Nothing(metaclass=Name):
    """What a name of an empty module is; its instances decorate functions without changing them."""

    def __init__(self, *_: Any, **__: Any) -> None:
        """Accepts everything."""

    def __call__(self, function: Any = None, *_: Any, **__: Any) -> Any:
        """The function that it decorates."""
        return function

    def __getattr__(self, name: str) -> Any:
        """Another one."""
        return _name(name)()


def _itself(self: Any, *_: Any) -> Any:
    return self


for _kind in (Name, Nothing):
    for _operation in (
        "neg",
        "add",
        "radd",
        "sub",
        "rsub",
        "mul",
        "rmul",
        "truediv",
        "rtruediv",
        "pow",
        "rpow",
    ):
        setattr(_kind, f"__{_operation}__", _itself)


def _name(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    return Name(name, (Nothing,), {})


class Empty(ModuleType):
    """A module in which every name can be found."""

    def __getattr__(self, name: str) -> Any:
        """A new class."""
        found = _name(name)
        setattr(self, name, found)
        return found


class _Finder(MetaPathFinder, Loader):
    """Finds every module of some packages, as an empty one."""

    def __init__(self, packages: Sequence[str]) -> None:
        self.packages = packages

    def find_spec(self, name: str, *_: Any) -> ModuleSpec | None:
        found = name.partition(".")[0] in self.packages
        return ModuleSpec(name, self, is_package=True) if found else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return Empty(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        pass


@contextmanager
def without_torch() -> Iterator[None]:
    """Imports empty modules in place of PyTorch, unless it is loaded; afterwards, what was imported with them is forgotten."""
    before = set(sys.modules)
    if "torch" in before:
        yield
        return
    finder = _Finder([x for x in PACKAGES if importlib.util.find_spec(x)])
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in set(sys.modules) - before:
            if name.startswith("rlbench.") or _uses_nothing(sys.modules[name]):
                del sys.modules[name]


def _uses_nothing(module: ModuleType) -> bool:
    """Whether a module is empty, or holds something of an empty module."""
    return any(isinstance(x, Empty | Name | Nothing) for x in (module, *vars(module).values()))


def quickly(show: Callable[[], None]) -> None:
    """Prints a help with the stand-in, or without it if code that is not part of the suite needs PyTorch for that."""
    try:
        with without_torch():
            show()
    except Exception:  # noqa: BLE001  (Code of others may fail in any way.)
        show()
