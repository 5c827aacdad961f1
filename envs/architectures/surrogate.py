"""An evaluator that predicts results from some measured architectures.

Accuracy and log latency are each a sum of one number for every token, fitted by ridge regression on one-hot tokens:

    prediction = bias + sum_t weight[t, token_t],     minimise  sum of squared errors + penalty * sum of squared weights

The model ignores how tokens interact, so a search on it is easier than on real architectures. It is meant for comparisons
of searchers within seconds.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rlbench.envs.architectures.evaluate import Evaluation, Space, Tokens
from rlbench.envs.architectures.tabulated import Table
from rlbench.errors import UserError

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Additive:
    """A sum of one number for each token, for K predicted values."""

    choices: tuple[int, ...]
    """Number of values of each token, [L]."""
    bias: Array
    """Prediction for tokens without effect, [K]."""
    weight: Array
    """Effect of every value of every token, one after the other, [sum of choices, K]."""


def one_hot(tokens: NDArray[np.int64], choices: Sequence[int]) -> Array:
    """One-hot tokens, [N, sum of choices], of tokens [N, L].

    >>> one_hot(np.array([[1, 0]]), (2, 3)).tolist()
    [[0.0, 1.0, 1.0, 0.0, 0.0]]
    """
    parts = [np.eye(n)[column] for n, column in zip(choices, tokens.T, strict=True)]
    return np.concatenate(parts, axis=1)


def fit(
    tokens: NDArray[np.int64], values: Array, choices: tuple[int, ...], penalty: float
) -> Additive:
    """Ridge regression of values on one-hot tokens; the bias is not penalised.

    Args:
        tokens: Architectures, [N, L].
        values: Their measured values, [N, K].
        choices: Number of values of each token, [L].
        penalty: Weight of the squared weights, above 0.
    """
    x = one_hot(tokens, choices)
    centre, mean = x.mean(axis=0), values.mean(axis=0)
    centred = x - centre
    gram = centred.T @ centred + penalty * np.eye(len(centre))
    weight = np.linalg.solve(gram, centred.T @ (values - mean))
    return Additive(choices, mean - centre @ weight, weight)


def predict(model: Additive, tokens: NDArray[np.int64]) -> Array:
    """Predicted values, [N, K], of architectures [N, L]."""
    first = np.cumsum((0, *model.choices[:-1]))
    # Not a product of matrices, whose last bits depend on the number of rows.
    predicted: Array = model.bias + model.weight[first + tokens].sum(axis=1)
    return predicted


class SurrogateEvaluator:
    """Predicts accuracy and latency, with noise on the accuracy if wanted.

    The noise of an architecture is always the same, as if it had been trained once.
    """

    def __init__(
        self, space: Space, table: Table, *, penalty: float = 1.0, noise: float = 0.0, seed: int = 0
    ) -> None:
        """Fits the model.

        Args:
            space: The search space.
            table: Measured architectures.
            penalty: See `fit`.
            noise: Standard deviation of the noise of the accuracy.
            seed: Decides the noise.

        Raises:
            UserError: The penalty is not above 0, or the noise is negative.
        """
        if not penalty > 0 or not noise >= 0:
            raise UserError(
                f"penalty is {penalty} and noise is {noise}; give a penalty above 0 and a noise of 0 or more"
            )
        self._space, self._noise, self._seed = space, noise, seed
        values = np.stack([table.accuracy, np.log(table.latency_ms)], axis=1)
        self.model = fit(table.tokens, values, space.choices, penalty)

    def evaluate(self, batch: Sequence[Tokens]) -> list[Evaluation]:
        """See `Evaluator`."""
        tokens = np.array([self._space.canonical(x) for x in batch])
        accuracy, log_latency = predict(self.model, tokens).T
        accuracy = accuracy + [self._noise_of(row) for row in tokens.tolist()]
        return [
            Evaluation(accuracy=float(a), latency_ms=math.exp(b))
            for a, b in zip(accuracy.clip(0.0, 1.0), log_latency, strict=True)
        ]

    def _noise_of(self, tokens: list[int]) -> float:
        return self._noise * float(np.random.default_rng([self._seed, *tokens]).standard_normal())
