"""Trains and measures the architectures behind the tasks `archsearch-tiny` and `archsearch-nano`.

    python -m docs.make_architecture_tables tiny            # all architectures of nas-tiny, each with 3 seeds
    python -m docs.make_architecture_tables nano            # 240 random ones of mnas-nano
    python -m docs.make_architecture_tables tiny --only 5   # 5 of them, to see how long it takes; writes no table

All of them learn `digits-shift`. Each result is stored in the user's cache as soon as it is known, so a stopped command can be
repeated without losing work. The tables are next to the code, in envs/architectures/.
"""

import argparse
import json
from itertools import islice, product

import numpy as np

from rlbench.envs.architectures.evaluate import Evaluation, Tokens
from rlbench.envs.architectures.names import TABULATED
from rlbench.envs.architectures.space import Space, find_space
from rlbench.envs.architectures.targets import random_tokens
from rlbench.envs.architectures.trained import TrainedEvaluator
from rlbench.envs.examples import find_source

SOURCE = "digits-shift"
SEEDS = {"tiny": 3, "nano": 1}
RANDOM = 240
"""Architectures of `nano`."""
AT_ONCE = 20
"""Architectures that are trained before their latencies are measured."""


def main() -> None:
    """Makes one table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("name", choices=sorted(TABULATED))
    parser.add_argument("--only", type=int, help="number of architectures; no table is written")
    asked = parser.parse_args()
    space, source = find_space(TABULATED[asked.name].space), find_source(SOURCE)
    assert source is not None
    rows = chosen(space, asked.name)[: asked.only]
    results = []
    for seed in range(SEEDS[asked.name]):
        evaluator = TrainedEvaluator(space, source(), SOURCE, seed=seed)
        results.append(evaluated(evaluator, rows))
        evaluator.close()
    seconds = np.mean([one.seconds for column in results for one in column])
    print(f"{len(rows)} architectures, {seconds:.1f} seconds of training each")
    if asked.only is None:
        file = TABULATED[asked.name].file
        file.write_text(json.dumps(table(space, rows, results)) + "\n", encoding="utf-8")
        print(f"written to {file}")


def chosen(space: Space, name: str) -> list[Tokens]:
    """Canonical tokens of the architectures of a table, each once."""
    if name == "nano":
        distinct = (space.canonical(x) for x in random_tokens(space, 2 * RANDOM))
        return list(islice(dict.fromkeys(distinct), RANDOM))
    every = product(*(range(count) for count in space.choices))
    return list(dict.fromkeys(space.canonical(tokens) for tokens in every))


def evaluated(evaluator: TrainedEvaluator, rows: list[Tokens]) -> list[Evaluation]:
    """The result of each architecture."""
    found: list[Evaluation] = []
    for first in range(0, len(rows), AT_ONCE):
        found += evaluator.evaluate(rows[first : first + AT_ONCE])
        print(f"seed {evaluator.seed}: {len(found)} of {len(rows)}", flush=True)
    return found


def table(space: Space, rows: list[Tokens], results: list[list[Evaluation]]) -> dict[str, object]:
    """The contents of a table: means over seeds; see `rlbench.envs.architectures.tabulated`."""
    # An architecture that diverged has no accuracy; it is as good as guessing.
    accuracy = np.array([[x.accuracy or 0.0 for x in column] for column in results])
    first = results[0]
    return {
        "space": space.name,
        "source": SOURCE,
        "tokens": rows,
        "accuracy": accuracy.mean(0).round(4).tolist(),
        "accuracy_sd": accuracy.std(0).round(4).tolist(),
        "latency_ms": [round(x.latency_ms or 0.0, 4) for x in first],
        "parameters": [x.parameters for x in first],
        "multiply_adds": [x.multiply_adds for x in first],
        "seconds": np.mean([[x.seconds for x in column] for column in results], 0)
        .round(2)
        .tolist(),
    }


if __name__ == "__main__":
    main()
