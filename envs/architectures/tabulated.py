"""An evaluator that looks up results which were measured before, and the files that hold them.

A file is a JSON object with the name of the search space, the canonical tokens of N architectures, and a list of length N
for each measured value:

    {"space": "nas-tiny", "tokens": [[0, 1], [1, 0]], "accuracy": [0.81, 0.84], "latency_ms": [0.31, 0.52],
     "parameters": [1200, 2300], "multiply_adds": [81000, 120000], "seconds": [1.1, 1.3]}
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlbench.envs.architectures.evaluate import Evaluation, Space, Tokens
from rlbench.errors import UserError


@dataclass(frozen=True)
class Table:
    """Measured architectures of one search space."""

    tokens: NDArray[np.int64]
    """Canonical tokens, [N, L], each architecture once."""
    accuracy: NDArray[np.float64]
    """Validation accuracies, [N]."""
    latency_ms: NDArray[np.float64]
    """Latencies in milliseconds, [N]."""
    parameters: NDArray[np.int64]
    """Numbers of weights, [N]."""
    multiply_adds: NDArray[np.int64]
    """Multiplications with an addition in one forward pass, [N]."""
    seconds: NDArray[np.float64]
    """Times of training in seconds, [N]."""


def read_table(path: Path, space: Space) -> Table:
    """Reads a file of measured architectures.

    Args:
        path: See the module.
        space: Their search space.

    Raises:
        UserError: The file is missing or malformed, belongs to another space, or contains an architecture that the space
            does not have, that is not canonical, or that occurs twice.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        name = found["space"]
        columns = {x.name: _column(found[x.name], x.name) for x in fields(Table)}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is not a table of architectures ({type(error).__name__}: {error}); give a JSON file "
            f"with space, {', '.join(x.name for x in fields(Table))}"
        ) from None
    if name != space.name:
        raise UserError(
            f"{path} holds architectures of the space {name!r}; give a table of {space.name!r}"
        )
    table = Table(**columns)
    rows = [tuple(row) for row in table.tokens.tolist()] if table.tokens.ndim == 2 else []
    for row in rows:
        inside = len(row) == len(space.choices) and all(
            0 <= x < n for x, n in zip(row, space.choices, strict=True)
        )
        if not inside or space.canonical(row) != row:
            raise UserError(
                f"{path} holds the tokens {list(row)}, which are not canonical tokens of {space.name}; "
                "measure the table again with this version"
            )
    lengths = {len(column) for column in columns.values()}
    if not rows or len(set(rows)) != len(rows) or lengths != {len(rows)}:
        raise UserError(
            f"{path} has {len(set(rows))} different architectures and columns of {sorted(lengths)} rows; give "
            "each architecture once, and one number of it in each column"
        )
    return table


def _column(values: Any, name: str) -> NDArray[Any]:
    """A column as an array of finite numbers."""
    dtype = np.float64 if name in ("accuracy", "latency_ms", "seconds") else np.int64
    column = np.array(values, dtype)
    if not np.isfinite(column).all():
        raise ValueError(f"{name} is not finite")
    return column


class TabulatedEvaluator:
    """Looks every architecture up in a table."""

    def __init__(self, space: Space, table: Table) -> None:
        """Looks up the canonical tokens of `space` in `table`, which should have all of them."""
        self._space, self._table = space, table
        self._rows = {tuple(row): n for n, row in enumerate(table.tokens.tolist())}

    def evaluate(self, batch: Sequence[Tokens]) -> list[Evaluation]:
        """See `Evaluator`.

        Raises:
            UserError: The table lacks an architecture.
        """
        return [self._find(self._space.canonical(tokens)) for tokens in batch]

    def _find(self, tokens: Tokens) -> Evaluation:
        if tokens not in self._rows:
            raise UserError(
                f"the table of {self._space.name} lacks the architecture {list(tokens)}; give a table of all "
                "architectures, or predict the others with a surrogate"
            )
        row, table = self._rows[tokens], self._table
        return Evaluation(
            accuracy=float(table.accuracy[row]),
            latency_ms=float(table.latency_ms[row]),
            parameters=int(table.parameters[row]),
            multiply_adds=int(table.multiply_adds[row]),
            seconds=float(table.seconds[row]),
            cached=True,
        )
