"""Published scores on D4RL's locomotion data, read from `figures.csv`.

Sources: D4RL's paper (arXiv:2004.07219; only cells that a second publication repeats, so without two cells of
CQL that the second one has swapped), the result tables of
CORL (github.com/corl-team/CORL) and of d3rlpy (github.com/takuseno/d3rlpy-benchmarks).
"""

import csv
from pathlib import Path

from rlbench.benchmarks.tables.paper import Figure


def published() -> tuple[Figure, ...]:
    """All figures, in the order of the file."""
    with open(Path(__file__).with_name("figures.csv"), encoding="utf-8", newline="") as file:
        return tuple(
            Figure(
                row["method"],
                row["data_set"],
                float(row["score"]),
                float(row["std"]) if row["std"] else None,
                row["source"],
            )
            for row in csv.DictReader(file)
        )
