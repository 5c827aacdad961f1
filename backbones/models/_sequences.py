"""Code shared by the models that read sequences of tokens."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gymnasium import Space
from torch import Tensor

from rlbench.backbones.encoders import Encoder
from rlbench.backbones.encoders.transformer import TokenTransformer
from rlbench.backbones.models._base import input_space
from rlbench.backbones.optim import AdamW, gradient_step, warm_up_and_decay
from rlbench.errors import UserError
from rlbench.sequences import TokenSequence


def tokens_of(fields: Mapping[str, Space[Any]]) -> TokenSequence:
    """The space of the sequences that a model reads.

    Raises:
        UserError: The input is not a sequence of tokens.
    """
    space = input_space(fields)
    if not isinstance(space, TokenSequence):
        raise UserError(
            f"observations are {space}; this model needs sequences of tokens, so give a source of them, such as missions"
        )
    return space


def reading(encoder: Encoder) -> TokenTransformer:
    """The layers of a transformer over tokens, which has features of every token.

    Raises:
        UserError: It is another encoder.
    """
    if not isinstance(encoder.layers, TokenTransformer):
        raise UserError(
            "this encoder has no features for each token; give --encoder transformer, with options after a colon"
        )
    return encoder.layers


@dataclass(frozen=True, kw_only=True)
class ScheduledConfig:
    """Settings of the updates."""

    learning_rate: float = 1e-3
    """Largest step size of Adam."""
    decay_updates: int | None = None
    """Number of updates over which the step size rises (in the first tenth) and then falls linearly to 0; by default the whole
    run. None, which only Python can give, keeps it constant."""
    weight_decay: float = 0.0
    """In each step, matrices shrink by this times the step size; 0.01 in BERT."""
    max_grad_norm: float = 1.0
    """Largest gradient norm; larger gradients are scaled down to it."""
    batch_size: int = 64
    """Sequences in one update."""


def scheduled_step(optimizer: AdamW, loss: Tensor, update: int, config: ScheduledConfig) -> Tensor:
    """One step down `loss`; its size depends on the number of updates before it.

    Returns:
        The loss, detached.
    """
    if config.decay_updates is not None:
        # So that neither the first nor the last step is 0.
        share = warm_up_and_decay((update + 1) / (config.decay_updates + 1))
        optimizer.learning_rate.fill_(config.learning_rate * share)
    return gradient_step(optimizer, loss, config.max_grad_norm)
