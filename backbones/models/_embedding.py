"""Code shared by models that embed sets of observations: an example is a set of K observations of one class."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from gymnasium import Space, spaces
from torch import Tensor, nn

from rlbench.backbones.models._base import classes_of, input_space
from rlbench.backbones.optim import Adam
from rlbench.errors import UserError

AT_ONCE = 1_000
"""Observations embedded at once in a measurement, which bounds the memory."""


def set_of(fields: Mapping[str, Space[Any]], least: int) -> spaces.Box:
    """The space of one observation of a set.

    Args:
        fields: The space of each column of one example.
        least: Smallest number of observations that a set must have.

    Raises:
        UserError: The examples are not sets of one class each, or the sets are too small.
    """
    space = input_space(fields)
    shape = space.shape or ()
    classes_of(fields, "label")
    if not isinstance(space, spaces.Box) or len(shape) < 2 or shape[0] < least:
        raise UserError(
            f"an example is {space}; this model needs sets [K, ...] of K observations of one class, with K of {least} or more "
            "for these settings, such as --env glyph-sets"
        )
    return spaces.Box(space.low[0], space.high[0], dtype=space.dtype)


def embedded(embed: Callable[[Tensor], Tensor], sets: Tensor) -> Tensor:
    """Embeddings [B, K, D] of sets [B, K, ...], without gradients, a part of the observations at a time."""
    with torch.no_grad():
        parts = [embed(part) for part in sets.flatten(0, 1).split(AT_ONCE)]
    joined: Tensor = torch.cat(parts).unflatten(0, sets.shape[:2])
    return joined


def drawn_from(sets: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Different observations of each set in random order, [B, count, ...] of [B, K, ...]."""
    noise = torch.rand(sets.shape[:2], generator=generator, device=sets.device)
    chosen = noise.argsort(dim=1)[:, :count]
    return sets[torch.arange(len(sets), device=sets.device)[:, None], chosen]


def squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """|x_i - y_j|^2 of all pairs, [N, M] of [N, D] and [M, D]; the gradient is finite at 0.

    >>> squared_distances(torch.tensor([[0.0, 0.0]]), torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
    tensor([[25.,  0.]])
    """
    squares = x.square().sum(1)[:, None] + y.square().sum(1)
    return (squares - 2 * x @ y.T).clamp(min=0)


def optimizer_of(network: nn.Module, learning_rate: float) -> Adam | None:
    """Adam for a network; None for one without weights, such as `flatten`, which is measured as it is."""
    parameters = list(network.parameters())
    return Adam(parameters, learning_rate) if parameters else None
