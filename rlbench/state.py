"""Capture and restore everything in an object that changes while it learns.

One rule for agents and drivers: an attribute that is a network, an optimiser, a random generator, a
tensor, a number or a string is state. No list is needed, so nothing can be forgotten.
"""

import copy
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer


@runtime_checkable
class Stateful(Protocol):
    """An object with its own state, such as a replay buffer."""

    def state_dict(self) -> dict[str, Any]:
        """The state, as nested dicts of tensors and plain values."""

    def load_state_dict(self, state: Mapping[str, Any]) -> Any:
        """Restores the state."""


def capture(owner: object) -> dict[str, Any]:
    """State of all attributes of `owner` that have state."""
    return {name: _get(value) for name, value in vars(owner).items() if _has_state(value)}


def restore(owner: object, state: Mapping[str, Any]) -> None:
    """Restores a state from `capture`.

    Raises:
        ValueError: The parts of `state` differ from those of `owner` in name or shape.
    """
    mine = {name for name, value in vars(owner).items() if _has_state(value)}
    if mine != set(state):
        raise ValueError(
            f"the state has the parts {sorted(state)}, but {type(owner).__name__} "
            f"has {sorted(mine)}"
        )
    for name, value in state.items():
        old = getattr(owner, name)
        try:
            new = _set(old, value)
        except (RuntimeError, KeyError) as error:
            first_line = str(error).splitlines()[0]
            raise ValueError(f"the state of {name!r} does not fit: {first_line}") from error
        if new is not old:
            setattr(owner, name, new)


def _has_state(value: object) -> bool:
    if isinstance(value, (bool, int, float, str, Tensor)):
        return True
    return isinstance(value, (torch.Generator, np.random.Generator, Stateful))


def _get(value: Any) -> Any:
    if isinstance(value, Optimizer):
        # Group settings come from the config; only the learning rate may change during a run.
        rates = [float(group["lr"]) for group in value.param_groups]
        moments = {str(i): dict(slot) for i, slot in value.state_dict()["state"].items()}
        return {"rates": rates, "moments": moments}
    if isinstance(value, torch.Generator):
        return value.get_state()
    if isinstance(value, np.random.Generator):
        return dict(value.bit_generator.state)
    if isinstance(value, Tensor):
        return value.detach()
    if isinstance(value, Stateful):
        return dict(value.state_dict())
    return value


def _set(old: Any, new: Any) -> Any:
    """Loads `new` into `old`, in place if possible; returns the object to keep."""
    if isinstance(old, Optimizer):
        whole = old.state_dict()
        # The optimiser keeps the tensors themselves, which may belong to another optimiser.
        whole["state"] = {int(i): copy.deepcopy(slot) for i, slot in new["moments"].items()}
        for group, rate in zip(whole["param_groups"], new["rates"], strict=True):
            group["lr"] = rate
        old.load_state_dict(whole)
    elif isinstance(old, torch.Generator):
        old.set_state(new.cpu())
    elif isinstance(old, np.random.Generator):
        old.bit_generator.state = new
    elif isinstance(old, Tensor):
        with torch.no_grad():
            old.copy_(new)
    elif isinstance(old, nn.Module):
        old.load_state_dict(new, strict=True)
    elif isinstance(old, Stateful):
        old.load_state_dict(new)
    else:
        return new
    return old
