"""What networks need to know of observation and action spaces."""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from gymnasium import Space, spaces
from torch import Tensor

from rlbench.errors import UserError


def vector_size(space: Space[Any]) -> int:
    """Length of an observation vector; a UserError for a space of another kind."""
    if not isinstance(space, spaces.Box) or len(space.shape) != 1:
        raise UserError(
            f"the observation space is {space}; this agent needs a Box of one dimension, "
            "so wrap the environment (gymnasium.wrappers.FlattenObservation)"
        )
    return int(space.shape[0])


def unbounded(size: int) -> spaces.Box:
    """Vectors of this length as the drivers pass them, whatever the bounds of the space they are of."""
    return spaces.Box(-float("inf"), float("inf"), (size,))


def action_form(space: Space[Any], device: torch.device) -> "ActionBox | ActionChoices":
    """The form in which networks see actions; a UserError for a space of another kind."""
    if isinstance(space, spaces.Discrete):
        return ActionChoices(int(space.n), int(space.start))
    return ActionBox.of(space, device)


@dataclass(frozen=True)
class ActionChoices:
    """The map between the numbers of choices and one-hot vectors."""

    size: int
    """Number of choices, A."""
    start: int
    """The smallest number."""

    def to_unit(self, action: Tensor) -> Tensor:
        """Numbers [...] to one-hot vectors [..., A]."""
        return F.one_hot(action.long() - self.start, self.size).float()

    def from_unit(self, action: Tensor) -> Tensor:
        """One-hot vectors [..., A] to numbers, int64 [...]."""
        return action.argmax(dim=-1) + self.start


@dataclass(frozen=True)
class ActionBox:
    """The affine map between the actions of the environment and [-1, 1]."""

    centre: Tensor
    """Middle of the box, [A]."""
    half: Tensor
    """Half the width of the box, [A]."""
    unit: bool
    """The box is [-1, 1] already, so nothing is computed."""

    @classmethod
    def of(cls, space: Space[Any], device: torch.device) -> "ActionBox":
        """The map of a bounded, one-dimensional Box; a UserError for any other space."""
        if not isinstance(space, spaces.Box) or len(space.shape) != 1 or not space.is_bounded():
            raise UserError(
                f"the action space is {space}; this agent needs a bounded Box of one dimension, "
                "so choose another agent or wrap the environment"
            )
        low, high = (torch.as_tensor(x, dtype=torch.float32) for x in (space.low, space.high))
        unit = bool((low == -1).all() and (high == 1).all())
        return cls(((high + low) / 2).to(device), ((high - low) / 2).to(device), unit)

    @property
    def size(self) -> int:
        """Length of an action, A."""
        return self.half.shape[0]

    def to_unit(self, action: Tensor) -> Tensor:
        """Environment units to [-1, 1]."""
        return action if self.unit else (action - self.centre) / self.half

    def from_unit(self, action: Tensor) -> Tensor:
        """[-1, 1] to environment units."""
        return action if self.unit else action * self.half + self.centre


def discrete_size(space: Space[Any]) -> int:
    """Number of actions of a Discrete space; a UserError for any other space."""
    if not isinstance(space, spaces.Discrete) or space.start != 0:
        raise UserError(
            f"the action space is {space}; this agent needs a Discrete space that counts from 0, "
            "so choose another agent or wrap the environment"
        )
    return int(space.n)
