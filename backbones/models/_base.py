"""Code shared by models over an encoder."""

from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from gymnasium import Space, spaces
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from rlbench.errors import UserError

MOST_CLASSES = 100_000
"""Largest number of classes: more are probably numbers, and each needs a row of weights."""


def input_space(fields: Mapping[str, Space[Any]]) -> Space[Any]:
    """The space of the input of a model.

    Raises:
        UserError: The examples have no such column.
    """
    if "obs" not in fields:
        raise UserError(
            f"the examples have the columns {', '.join(fields)}; a model reads `obs`, so give the input this name"
        )
    if not fields["obs"].shape:
        raise UserError(
            "the `obs` of an example is a single number; give an array for each example, [1] or longer"
        )
    return fields["obs"]


def signal_length(fields: Mapping[str, Space[Any]], least: int) -> int:
    """The length of the signals that a model reads.

    Raises:
        UserError: The input is not a signal, or has fewer than `least` values.
    """
    shape = input_space(fields).shape or ()
    if len(shape) != 1:
        raise UserError(
            f"observations have the shape {shape}; this model needs a signal, [D], so give a source of "
            "signals, such as signals-2, or another model, such as classifier"
        )
    if shape[0] < least:
        raise UserError(
            f"observations have {shape[0]} values; this model needs a signal of {least} or more"
        )
    return int(shape[0])


def classes_of(fields: Mapping[str, Space[Any]], name: str) -> int:
    """The number of classes of a column.

    Raises:
        UserError: There is no such column, or it holds no classes.
    """
    found = {key: x for key, x in fields.items() if isinstance(x, spaces.Discrete)}
    if name not in found:
        raise UserError(
            f"the examples have no classes in a column {name!r}; they have "
            f"{', '.join(found) or 'no classes at all'}; a class is a whole number from 0, one for each example"
        )
    classes, first = int(found[name].n), int(found[name].start)
    if classes < 2:
        raise UserError(f"the column {name!r} has one class; a classifier needs 2 or more")
    if first != 0 or classes > MOST_CLASSES:
        raise UserError(
            f"the column {name!r} has classes from {first} to {first + classes - 1}; number them from 0, "
            f"without gaps, up to {MOST_CLASSES:,}"
        )
    return classes


def normalises_over_batches(network: nn.Module) -> bool:
    """Whether any layer normalises with the statistics of a batch, which a single value does not have."""
    return any(isinstance(layer, _BatchNorm) for layer in network.modules())


def judged(logits: Tensor, label: Tensor) -> dict[str, Tensor]:
    """Accuracy (1 if right), loss in nats and predicted class of each example, [B] each, from logits [B, C] and classes [B]."""
    return {
        "accuracy": right(logits, label),
        "loss": F.cross_entropy(logits, label, reduction="none"),
        "prediction": logits.argmax(dim=-1),
    }


def right(logits: Tensor, label: Tensor) -> Tensor:
    """1.0 where the largest of the logits [..., C] belongs to the class [...], else 0.0, [...]."""
    return (logits.argmax(dim=-1) == label).float()
