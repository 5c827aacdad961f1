"""The properties of observation and action spaces that networks need."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import Space, spaces
from torch import Tensor

from rlbench.errors import UserError
from rlbench.packed import not_vectors
from rlbench.sequences import TokenSequence

CHANNELS = (1, 3, 4)
"""Numbers of channels by which an image is recognised."""
PAIR = 6
"""Channels of two colour frames, which must be last."""
GRID_SIDE, IMAGE_SIDE = 7, 16
"""Smallest side of a grid for the encoder `grid`, and of an array that counts as an image."""


def is_box(space: Space[Any]) -> bool:
    """Whether a space is a Box with one dimension or more."""
    return isinstance(space, spaces.Box) and len(space.shape) > 0


def vector_size(space: Space[Any]) -> int:
    """Length of an observation vector; a UserError for a space of another kind."""
    if what := not_vectors(space):
        example = "token-gru" if isinstance(space, TokenSequence) else "parts:image=one-hot-grid"
        raise UserError(
            f"the observations are {what}, which are not one vector; give --encoder {example} or another one that "
            "reads them (`rlbench list`), or another agent if this one has no --encoder"
        )
    if not isinstance(space, spaces.Box) or len(space.shape) != 1:
        encoder = (
            f", or give it an --encoder, such as {suited_encoder(space.shape or ())}, if it has one (`rlbench list`)"
            if is_box(space)
            else ""
        )
        raise UserError(
            f"the observation space is {space}; this agent needs a Box of one dimension, "
            f"so wrap the environment (gymnasium.wrappers.FlattenObservation){encoder}"
        )
    return int(space.shape[0])


def suited_encoder(shape: tuple[int, ...]) -> str:
    """The name of an encoder that reads observations of a shape: one for images, one for small grids, or one for any array.

    >>> suited_encoder((64, 64, 3)), suited_encoder((7, 7, 3)), suited_encoder((10, 2))
    ('impala', 'grid', 'flatten')
    """
    if len(shape) != 3:
        return "flatten"
    first = shape[0] in CHANNELS
    side = min(shape[1:] if first else shape[:2])
    if not first and GRID_SIDE <= side < IMAGE_SIDE:
        return "grid"
    return (
        "impala" if side >= IMAGE_SIDE and (first or shape[2] in (*CHANNELS, PAIR)) else "flatten"
    )


def unbounded(size: int) -> spaces.Box:
    """Space of vectors of this length as the drivers pass them, whatever the bounds of the original space."""
    return spaces.Box(-float("inf"), float("inf"), (size,))


def action_form(space: Space[Any], device: torch.device) -> "ActionBox | ActionChoices":
    """The form in which networks see actions; a UserError for a space of another kind."""
    if isinstance(space, spaces.Discrete):
        return ActionChoices(int(space.n), int(space.start))
    return ActionBox.of(space, device)


@dataclass(frozen=True)
class ActionChoices:
    """The map between the numbers of discrete actions and one-hot vectors."""

    size: int
    """Number of actions, A."""
    start: int
    """The smallest number."""

    def to_unit(self, action: Tensor) -> Tensor:
        """Numbers [...] to one-hot vectors [..., A]."""
        # Not F.one_hot, which looks at the numbers and so cannot be traced for compiling.
        every = torch.arange(self.start, self.start + self.size, device=action.device)
        return (action.long()[..., None] == every).float()

    def from_unit(self, action: Tensor) -> Tensor:
        """One-hot vectors [..., A] to numbers, int64 [...]."""
        return action.argmax(dim=-1) + self.start


LARGEST = float(np.sqrt(np.finfo(np.float32).max))
"""Squares of larger numbers overflow float32; bounds of this size, such as np.finfo's, count as infinite."""


@dataclass(frozen=True)
class ActionBox:
    """The affine map between the actions of the environment and [-1, 1].

    Dimensions whose two bounds are equal are left out: networks neither choose nor see them.
    """

    centre: Tensor
    """Middle of the box, [A]."""
    half: Tensor
    """Half the width of the box, [A]."""
    unit: bool
    """The box is [-1, 1] already, so nothing is computed."""
    low: Tensor
    """Lower bounds of the environment's actions, [E]."""
    high: Tensor
    """Upper bounds of the environment's actions, [E]."""
    free: Tensor | None = None
    """Indices of the A dimensions whose bounds differ among all E, int64 [A]; None if all do."""

    @classmethod
    def of(cls, space: Space[Any], device: torch.device) -> "ActionBox":
        """The map of a bounded, one-dimensional Box of floats; raises a UserError for other spaces."""
        if not isinstance(space, spaces.Box) or len(space.shape) != 1 or not _is_bounded(space):
            raise UserError(
                f"the action space is {space}; this agent needs a bounded Box of one dimension, "
                "so choose another agent or wrap the environment (gymnasium.wrappers.RescaleAction or "
                f"TransformAction); bounds of {LARGEST:.1g} or more count as infinite"
            )
        if not np.issubdtype(space.dtype, np.floating):
            raise UserError(
                f"the action space is {space}, which contains whole numbers, but this agent's actions are "
                "real numbers; use a Discrete space and an agent such as ppo, or wrap the environment "
                "(gymnasium.wrappers.TransformAction)"
            )
        low, high = (
            torch.as_tensor(x, dtype=torch.float32, device=device) for x in (space.low, space.high)
        )
        unit = bool((low == -1).all() and (high == 1).all())
        centre, half = (high + low) / 2, (high - low) / 2
        # Division by less than the smallest normal number may overflow.
        (free,) = torch.nonzero(half >= torch.finfo(torch.float32).tiny, as_tuple=True)
        if len(free) == len(half):
            return cls(centre, half, unit, low, high)
        if not len(free):
            raise UserError(
                f"the action space is {space}, which contains a single action; use an "
                "environment whose lower and upper bounds differ"
            )
        return cls(centre[free], half[free], unit, low, high, free)

    @property
    def size(self) -> int:
        """Length of an action as networks see it, A."""
        return self.half.shape[0]

    @property
    def space(self) -> spaces.Box:
        """Actions as networks see them."""
        return spaces.Box(-1, 1, (self.size,))

    def to_unit(self, action: Tensor) -> Tensor:
        """Environment units [..., E] to [-1, 1], [..., A]."""
        if self.unit:
            return action
        chosen = action if self.free is None else action[..., self.free]
        return (chosen - self.centre) / self.half

    def from_unit(self, action: Tensor) -> Tensor:
        """[-1, 1], [..., A], to environment units [..., E]; rounding never leaves the box."""
        if self.unit:
            return action
        scaled = action * self.half + self.centre
        if self.free is not None:
            whole = self.low.expand(*action.shape[:-1], -1)
            scaled = whole.index_copy(-1, self.free, scaled)
        return scaled.clamp(self.low, self.high)


def _is_bounded(box: spaces.Box) -> bool:
    return all(bool((np.abs(x.astype(np.float64)) < LARGEST).all()) for x in (box.low, box.high))


def discrete_size(space: Space[Any]) -> int:
    """Number of actions of a Discrete space; a UserError for any other space."""
    if not isinstance(space, spaces.Discrete) or space.start != 0:
        raise UserError(
            f"the action space is {space}; this agent needs a Discrete space that counts from 0, "
            "so choose another agent or wrap the environment"
        )
    return int(space.n)
