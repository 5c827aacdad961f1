"""Fast weights: Ba et al., 2016, the associative retrieval of section 4.1.

    c 9 k 8 j 3 f 1 ? ? c    ->    9

A network reads letters and digits one by one and is asked for the digit after one of the letters. Fast weights store pairs
of hidden vectors while they read, so that few units are enough; an LSTM with as many units has to keep all pairs in its
state. Both also see easier sequences in training, because with four pairs alone, accuracies stay for long at 0.39, the level of a
network that ignores the question; at the small scale they stay there all the same.
"""

from collections.abc import Mapping
from typing import Any

from rlbench.benchmarks.papers._shown import by_seed
from rlbench.benchmarks.papers._step_sizes import best, methods, name
from rlbench.benchmarks.tables.paper import Claim, Grid, Method, Paper, Scale, Verdict
from rlbench.benchmarks.tables.results import Results

TASK = "assoc-retrieval-1-2-4"
FAST, LSTM, UNTRAINED = "fast weights", "LSTM", "untrained"
UNITS = 50
STEP_SIZES = (1e-3, 3e-3)
LAYERS: Mapping[str, Any] = {
    "memory_size": UNITS, "input_layers": (100, 50), "output_layers": (100,), "batch_size": 128,
    "max_grad_norm": 5.0,
}  # fmt: skip
MEMORIES = {FAST: "fast-weights:identity=0.5", LSTM: "lstm"}


def _grids(updates: int) -> tuple[Grid, ...]:
    networks = {title: {**LAYERS, "memory": memory} for title, memory in MEMORIES.items()}
    run = {
        "updates": updates,
        "eval_every": updates // 10,
        "log_every": 100,
        "checkpoint_every": updates // 4,
    }
    untrained = Method(UNTRAINED, "sequence-classifier", {**networks[FAST], "learning_rate": 0.0})
    return (
        Grid(methods("sequence-classifier", networks, STEP_SIZES), (TASK,), seeds=3, run=run),
        Grid(
            (untrained,), (TASK,), seeds=3, run={"updates": 1, "eval_every": 0, "data_size": 1_000}
        ),
    )


def _retrieves(results: Results) -> Verdict:
    found = {}
    shown = []
    for title in MEMORIES:
        method = best(results, title, STEP_SIZES, TASK)
        accuracies = 100 * results.means(method, TASK, "accuracy")
        found[title] = float(accuracies.mean())
        shown.append(f"{method}: {by_seed(accuracies)}")
    untrained = 100 * results.means(UNTRAINED, TASK, "accuracy").mean()
    holds = found[FAST] >= 95 and found[FAST] >= found[LSTM] + 20
    return Verdict(
        holds, f"accuracy in % (by seed): {'; '.join(shown)}; {UNTRAINED}: {untrained:.1f}"
    )


SCALES: dict[Scale, tuple[Grid, ...]] = {"small": _grids(5_000), "full": _grids(100_000)}

PAPER = Paper(
    name="fast-weights",
    title="Using Fast Weights to Attend to the Recent Past",
    reference="Ba et al., 2016, https://arxiv.org/abs/1610.06258",
    method=name(FAST, STEP_SIZES[0]),
    grids=SCALES,
    minutes={"small": 16, "full": 300},
    claims=(
        Claim(
            "F1", "With few units, fast weights retrieve what an LSTM with as many units cannot",
            f"accuracy with {UNITS} units and 4 pairs after the same updates, mean of 3 seeds, each network with its best step "
            "size: fast weights at least 95 %, and at least 20 points above the LSTM",
            _retrieves,
        ),
    ),
    notes="Accuracy on 2,000 sequences of 4 pairs; chance is 0.10, and a network that answers one of the four digits has about 0.39. A "
    "training sequence has 1, 2 or 4 pairs; in the paper the number is always the same.",
)  # fmt: skip
