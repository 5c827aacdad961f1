"""The callbacks of a run: they read, and neither the learner nor random draws change unless a class says so."""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rlbench.benchmarks.training.config import RunConfig
from rlbench.benchmarks.training.faults import called
from rlbench.callbacks import Callback, Progress, is_plain
from rlbench.errors import FAILURES, UserError, raised_by
from rlbench.interface import Learner, evaluating
from rlbench.names import NameTable
from rlbench.seeding import keeping_global_generators

CALLBACKS = NameTable("callback", "rlbench", {})
"""There are none in the suite: all names are package.module:Class."""


def load(names: Sequence[str]) -> list[Callback]:
    """New callbacks by name.

    Args:
        names: `package.module:Class` each, or `package.module:function`, without parameters.

    Raises:
        UserError: There is no such class, or it cannot be called without arguments.
    """
    found = []
    for name in names:
        if ":" not in name:
            raise UserError(f"--callbacks {name}: give your own class as package.module:Class")
        make = CALLBACKS.load(name)
        try:
            found.append(make())
        except FAILURES as error:
            raise raised_by(name, "its constructor", error, "callback") from error
    return found


class Callbacks:
    """Calls the callbacks of a run in order."""

    def __init__(self, names: Sequence[str], given: Sequence[Callback] = ()) -> None:
        """Makes the callbacks of the names, unless objects are given in their place.

        Raises:
            UserError: A name cannot be loaded, is no callback or is given twice.
        """
        self.names = tuple(called(type(x)) for x in given) if given else tuple(names)
        self._callbacks = dict(zip(self.names, given or load(names), strict=True))
        if len(self._callbacks) < len(self.names):
            raise UserError(
                f"a callback is given twice among {', '.join(self.names)}; derive a class with another name for the second one"
            )
        for name, callback in self._callbacks.items():
            if not isinstance(callback, Callback):
                raise UserError(
                    f"the callback {name} is {callback!r}; derive its class from rlbench.callbacks.Callback"
                )
        self.changing = [name for name, x in self._callbacks.items() if x.changes_learner]
        """Names of those that change the learner."""

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._callbacks)

    def options(self, config: RunConfig) -> RunConfig:
        """The options of the run with these callbacks.

        Raises:
            UserError: A callback changes the learner, whose updates are compiled or batched over seeds.
        """
        if self.changing and (config.compile == "on" or config.seeds > 1):
            given = "--compile on" if config.compile == "on" else f"--seeds {config.seeds}"
            raise UserError(
                f"{self.changing[0]} changes the learner, which compiled updates may not notice; leave out {given}"
            )
        mode = "off" if self.changing else config.compile
        return dataclasses.replace(config, callbacks=self.names, compile=mode)

    def refuse_others(self, saved: Mapping[str, Any], path: Path) -> None:
        """Refuses callbacks that differ from those with which the run of a config.json began.

        Raises:
            UserError: They have other names, or others of them change the learner.
        """
        names, changing = saved["run"].get("callbacks", []), saved.get("learner_changed_by", [])
        if (list(self.names), self.changing) != (names, changing):
            raise UserError(
                f"the callbacks of {path} are {_listed(names)}, and {_listed(changing)} may change the learner, but now they are "
                f"{_listed(self.names)} and {_listed(self.changing)}; give the same classes, with the same changes_learner"
            )

    def on_log(self, progress: Progress) -> dict[str, float]:
        """Calls `on_log` of each; returns their further numbers."""
        return self._all("on_log", lambda _, callback: callback.on_log(progress))

    def on_evaluation(self, progress: Progress, learner: Learner) -> dict[str, float]:
        """Calls `on_evaluation` of each; returns their further numbers.

        Raises:
            UserError: A callback failed, or changed the learner without saying so.
        """

        def call(name: str, callback: Callback) -> Any:
            before = None if callback.changes_learner else _state_of(learner)
            with evaluating(learner), _keeping_generators(learner):
                values = callback.on_evaluation(progress, learner)
            if before is not None:
                _refuse_changes(before, _state_of(learner), name)
            return values

        return self._all("on_evaluation", call)

    def state_dict(self) -> dict[str, Any]:
        """The state of each callback by name."""
        return {name: self._state(name, x) for name, x in self._callbacks.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores the state of each callback."""
        for name, callback in self._callbacks.items():
            with _named(name, "load_state_dict"):
                callback.load_state_dict(state[name])

    def _all(self, method: str, call: Callable[[str, Callback], Any]) -> dict[str, float]:
        found: dict[str, float] = {}
        for name, callback in self._callbacks.items():
            with _named(name, method), keeping_global_generators():
                values = call(name, callback)
            found |= _checked(values, f"`{method}` of {name}")
        return found

    def _state(self, name: str, callback: Callback) -> dict[str, Any]:
        with _named(name, "state_dict"):
            state = callback.state_dict()
        if not (isinstance(state, Mapping) and _storable(state)):
            raise UserError(
                f"`state_dict` of {name} returned {state!r}; return a dict of tensors, numbers, strings, lists and nested dicts"
            )
        return dict(state)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"


@contextmanager
def _named(name: str, method: str) -> Iterator[None]:
    """Turns an error into one that names the user's callback."""
    try:
        yield
    except UserError:
        raise
    except FAILURES as error:
        raise raised_by(name, method, error, "callback") from error


@contextmanager
def _keeping_generators(learner: Learner) -> Iterator[None]:
    """Restores the random generators of a learner afterwards."""
    before = [(generator, generator.get_state()) for generator in _generators(learner)]
    yield
    for generator, state in before:
        generator.set_state(state)


def _refuse_changes(before: Mapping[str, Any], after: Mapping[str, Any], name: str) -> None:
    """Refuses a callback that changed the state of the learner.

    Raises:
        UserError: The states differ.
    """
    for part in before.keys() | after.keys():
        if part not in before or part not in after or not _equal(before[part], after[part]):
            raise UserError(
                f"{name} changed {part} of the learner in on_evaluation; change a copy, or set changes_learner = True in the class"
            )


def _generators(learner: Learner) -> Iterator[torch.Generator]:
    """The random generators of a learner and of learners in it."""
    for value in vars(learner).values():
        if isinstance(value, torch.Generator):
            yield value
        elif isinstance(value, Learner):
            yield from _generators(value)


def _state_of(learner: Learner) -> dict[str, Any]:
    """A copy of everything on which further updates depend: the state, and which weights learn."""
    flags = {
        f"requires_grad in {name}": [weight.requires_grad for weight in value.parameters()]
        for name, value in vars(learner).items()
        if isinstance(value, nn.Module)
    }
    return {**_copied(learner.state_dict()), **flags}


def _copied(value: Any) -> Any:
    """A copy of nested dicts and lists with the tensors in them."""
    if isinstance(value, Mapping):
        return {name: _copied(x) for name, x in value.items()}
    if isinstance(value, list | tuple):
        return [_copied(x) for x in value]
    return value.detach().clone() if isinstance(value, Tensor) else value


def _equal(one: Any, other: Any) -> bool:
    """Whether nested dicts and lists are equal, with the tensors in them."""
    if isinstance(one, Tensor):
        return isinstance(other, Tensor) and torch.equal(one, other)
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(_equal(x, other[k]) for k, x in one.items())
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_equal, one, other))
    return bool(one == other)


def _storable(state: Any) -> bool:
    """Whether a checkpoint can hold a state."""
    if isinstance(state, Mapping):
        return all(isinstance(name, str) and _storable(x) for name, x in state.items())
    return isinstance(state, Tensor) or is_plain(state)


def _checked(values: Any, whose: str) -> dict[str, float]:
    """The numbers that a callback returned; a line of the log has its own `update`.

    Raises:
        UserError: It returned something else.
    """
    found = {} if values is None else values
    numbers = (int, float, np.number)
    if not isinstance(found, Mapping) or not all(
        isinstance(name, str) and name != "update" and isinstance(x, numbers) and math.isfinite(x)
        for name, x in found.items()
    ):
        raise UserError(
            f"{whose} returned {values!r}; return a dict of names and finite numbers, or None"
        )
    return {name: float(x) for name, x in found.items()}
