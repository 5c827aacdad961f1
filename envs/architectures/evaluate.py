"""The parts of an architecture search: a search space, and an evaluator of its architectures."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from rlbench.architecture import Architecture

Tokens = tuple[int, ...]
"""An architecture: one number for each choice of its search space, [L]."""


class Space(Protocol):
    """A search space: architectures as sequences of tokens."""

    @property
    def name(self) -> str:
        """Its name, such as `mnas-nano`."""

    @property
    def choices(self) -> tuple[int, ...]:
        """Number of values of each token, [L]; token t is a number from 0 to `choices[t] - 1`."""

    def canonical(self, tokens: Tokens) -> Tokens:
        """The same tokens for all sequences that stand for the same architecture."""

    def decode(self, tokens: Tokens) -> Any:
        """The architecture: a dataclass of plain values."""


@dataclass(frozen=True)
class Evaluation:
    """The result of evaluating one architecture."""

    accuracy: float | None
    """Validation accuracy, from 0 to 1; None if training failed."""
    latency_ms: float | None
    """Latency in milliseconds; None if it could not be measured."""
    parameters: int = 0
    """Number of weights; 0 if unknown."""
    multiply_adds: int = 0
    """Multiplications with an addition in one forward pass on one example; 0 if unknown."""
    seconds: float = 0.0
    """Time of training, in seconds."""
    status: str = "ok"
    """`ok`, or the reason of a failure in one word, such as `diverged` or `timeout`."""
    cached: bool = False
    """Whether the result was stored before and nothing was trained."""
    test_accuracy: float | None = None
    """Accuracy on test examples, for reports only; None if unknown."""


class Evaluator(Protocol):
    """Trains and measures architectures, or predicts the result.

    An architecture must get the same result each time, in any batch and any process: a run that is resumed repeats
    evaluations.
    """

    def evaluate(self, batch: Sequence[Tokens]) -> list[Evaluation]:
        """The result for each architecture of a batch, in its order."""


@runtime_checkable
class NetworkEvaluator(Evaluator, Protocol):
    """An evaluator that also evaluates architectures outside its search space."""

    def evaluate_networks(self, networks: Sequence[Architecture]) -> list[Evaluation]:
        """The result for each architecture, in order."""

    def close(self) -> None:
        """Ends the processes that it started."""
