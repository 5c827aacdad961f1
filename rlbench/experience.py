"""Experience: the input of a learner's `learn`."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Transitions:
    """Single steps, independent of each other; every column starts with [B]."""

    obs: Tensor
    """Observations, [B, D]."""
    action: Tensor
    """Actions in the units of the environment, [B, A]; int64 [B] of a Discrete space."""
    reward: Tensor
    """Rewards, [B]."""
    next_obs: Tensor
    """Observations after the step, of the same episode even if it ended, [B, D]."""
    terminated: Tensor
    """1.0 if the episode terminated, so that no value follows, [B]."""
    truncated: Tensor
    """1.0 if a time limit truncated the episode, [B]."""


@dataclass(frozen=True)
class Trajectories:
    """Steps in order, [T, B, ...]: column b is one environment; episodes may end within it."""

    obs: Tensor
    """Observations, [T, B, D]."""
    action: Tensor
    """Actions in the units of the environment, [T, B, A]; int64 [T, B] of a Discrete space."""
    reward: Tensor
    """Rewards, [T, B]."""
    terminated: Tensor
    """1.0 if the episode terminated, [T, B]."""
    truncated: Tensor
    """1.0 if a time limit truncated the episode, [T, B]."""
    final_obs: Tensor
    """Observation after each step, before any reset, [T, B, D]."""
    extras: Mapping[str, Tensor] = field(default_factory=dict)
    """Extras that `act` returned with each step, such as log-probabilities, [T, B, ...]."""


@dataclass(frozen=True)
class Examples:
    """Labelled examples, independent of each other; named columns of any dtype, [B, ...] each."""

    columns: Mapping[str, Tensor]

    def __getitem__(self, name: str) -> Tensor:
        """The column called `name`."""
        return self.columns[name]

    def __len__(self) -> int:
        """Number of examples, B."""
        return len(next(iter(self.columns.values())))

    def take(self, rows: Tensor | slice) -> "Examples":
        """Some of the examples: int64 [M] or a slice, to M examples."""
        return Examples({name: column[rows] for name, column in self.columns.items()})

    def to(self, device: torch.device | str) -> "Examples":
        """The examples on a device."""
        return Examples({name: column.to(device) for name, column in self.columns.items()})


Experience = Transitions | Trajectories | Examples


def columns_of(experience: Any) -> dict[str, Tensor]:
    """The tensors of an experience or another dataclass, by name."""
    if isinstance(experience, Examples):
        return dict(experience.columns)
    values = {x.name: getattr(experience, x.name) for x in fields(experience)}
    return {name: x for name, x in values.items() if isinstance(x, Tensor)}


def with_columns(experience: Any, columns: Mapping[str, Tensor]) -> Any:
    """A copy with other tensors, named as by `columns_of`."""
    if isinstance(experience, Examples):
        return Examples(columns)
    return replace(experience, **columns)
