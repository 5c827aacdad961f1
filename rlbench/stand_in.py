"""A stand-in for PyTorch, with which `--help` takes a fraction of a second.

The settings of a learner are in the module with its networks and losses, which imports PyTorch, and this takes seconds. Help shows only the settings
and calls no function of PyTorch. So while a command prints its help, PyTorch and packages that use it are replaced by placeholder
modules. Every attribute of these is a class that may be subclassed, called and used as a decorator.
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
"""Packages that are replaced."""


class PlaceholderType(ABCMeta):
    """The type of placeholder classes, whose attributes are placeholder classes too."""

    def __getattr__(cls, name: str) -> Any:
        """A new placeholder class; special names such as `__wrapped__` raise an AttributeError."""
        return _placeholder(name)

    def __getitem__(cls, _: object) -> Any:
        """The class itself, as in `Tensor[float]`."""
        return cls


class Placeholder(metaclass=PlaceholderType):
    """Stands for any class, function or number of a replaced package; an instance is a decorator that changes nothing."""

    def __init__(self, *_: Any, **__: Any) -> None:
        """Accepts any arguments."""

    def __call__(self, function: Any = None, *_: Any, **__: Any) -> Any:
        """Returns the decorated function unchanged."""
        return function

    def __getattr__(self, name: str) -> Any:
        """A new placeholder."""
        return _placeholder(name)()

    def __bool__(self) -> bool:
        """Refuses a condition such as `torch.cuda.is_available()`, on which defaults may depend."""
        raise TypeError("the value is only known with PyTorch")


def _itself(self: Any, *_: Any) -> Any:
    return self


for _kind in (PlaceholderType, Placeholder):
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


def _placeholder(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    return PlaceholderType(name, (Placeholder,), {})


class PlaceholderModule(ModuleType):
    """A module that has every attribute."""

    def __getattr__(self, name: str) -> Any:
        """A new placeholder class, which the module keeps."""
        found = _placeholder(name)
        setattr(self, name, found)
        return found


class _Finder(MetaPathFinder, Loader):
    """Finds every module of the given packages, and makes it a placeholder module."""

    def __init__(self, packages: Sequence[str]) -> None:
        self.packages = packages

    def find_spec(self, name: str, *_: Any) -> ModuleSpec | None:
        found = name.partition(".")[0] in self.packages
        return ModuleSpec(name, self, is_package=True) if found else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return PlaceholderModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        pass


@contextmanager
def without_torch() -> Iterator[None]:
    """Replaces PyTorch by placeholder modules, unless it is already loaded; afterwards all modules that used them are unloaded."""
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
        new = set(sys.modules) - before
        # Whole packages, because a package that is imported again does not find the modules that are left of it.
        packages = {"rlbench"} | {_package(x) for x in new if _has_placeholders(sys.modules[x])}
        for name in new:
            if _package(name) in packages:
                del sys.modules[name]


def _package(module: str) -> str:
    return module.partition(".")[0]


def _has_placeholders(module: object) -> bool:
    """Whether a module is a placeholder or has a placeholder among its attributes."""
    kinds = (PlaceholderModule, PlaceholderType, Placeholder)
    values = (module, *getattr(module, "__dict__", {}).values())
    # Not `isinstance`, because the `__class__` of an object of another package may run any code.
    return any(issubclass(type(x), kinds) for x in values)


def show_help(show: Callable[[], None]) -> None:
    """Calls a function that prints help, without importing PyTorch if possible; custom code may need the real one."""
    try:
        with without_torch():
            show()
    except Exception:  # noqa: BLE001  (Custom code may fail in any way.)
        show()
