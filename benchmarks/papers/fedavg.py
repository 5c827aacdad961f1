"""Federated averaging: McMahan et al., 2017 (table 2), with digits divided among 100 clients, ten of which learn in each round.

How many rounds does it take to reach a test accuracy of 93 %? More local work is compared with one step on all examples of each client, for
clients with the same distribution and for clients that mostly have images of two or three digits. Each method has the same grid of step sizes.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlbench.benchmarks.papers._curves import updates_to
from rlbench.benchmarks.papers._step_sizes import methods, name
from rlbench.benchmarks.tables.paper import Claim, Grid, Method, Paper, Scale, Verdict
from rlbench.benchmarks.tables.results import Missing, Results

IID, SHARDS = "digit-clients-iid", "digit-clients-shards"
SGD, WHOLE, AVG = "FedSGD", "FedAvg, E = 5, B = all", "FedAvg, E = 5, B = 10"
STEP_SIZES = (0.1, 0.3, 1.0, 3.0)
WORK: Mapping[str, Mapping[str, Any]] = {
    SGD: {"local_epochs": 1, "local_batch_size": None},
    WHOLE: {"local_epochs": 5, "local_batch_size": None},
    AVG: {"local_epochs": 5, "local_batch_size": 10},
}
TARGET = 0.93
RATIOS = {IID: 2.0, SHARDS: 1.5}
"""Least ratio of the rounds of FedSGD and FedAvg."""
UNTRAINED = "untrained"


def _grids(rounds: Mapping[str, int]) -> tuple[Grid, ...]:
    grids = [
        Grid(
            methods("fedavg", {work: WORK[work]}, STEP_SIZES), (IID, SHARDS), seeds=3,
            run={"updates": count, "eval_every": 1, "log_every": 10, "checkpoint_every": 50},
        )
        for work, count in rounds.items()
    ]  # fmt: skip
    once = {"updates": 1, "eval_every": 0}
    return (*grids, Grid((Method(UNTRAINED, "fedavg", {"learning_rate": 0.0}),), (IID, SHARDS), 3, once))  # fmt: skip


def _rounds(results: Results, work: str, task: str) -> tuple[float, NDArray[np.float64]]:
    """The best step size of a method, and its rounds for each seed."""
    found = {}
    for size in STEP_SIZES:
        runs = results.of(name(work, size), task)
        if not runs:
            raise Missing(f"{name(work, size)} has not been run on {task}")
        found[size] = np.array([updates_to(run, "accuracy", TARGET) for run in runs])
    best = min(found, key=lambda size: (found[size].mean(), size))
    return best, found[best]


def _fewer(results: Results, task: str) -> Verdict:
    counts = {work: _rounds(results, work, task) for work in WORK}
    shown = [
        f"{work} {rounds.mean():.0f} ({'/'.join(f'{x:.0f}' for x in rounds)}, step size {size:g})"
        for work, (size, rounds) in counts.items()
    ]
    sgd, avg = (counts[work][1].mean() for work in (SGD, AVG))
    if not np.isfinite(avg):
        return Verdict(False, f"rounds, by seed: {'; '.join(shown)}")
    ratio = sgd / avg
    return Verdict(bool(ratio >= RATIOS[task]), f"rounds, by seed: {'; '.join(shown)}; ratio {ratio:.1f}")  # fmt: skip


SCALES: dict[Scale, tuple[Grid, ...]] = {
    "small": _grids({SGD: 250, WHOLE: 150, AVG: 100}),
    "full": _grids({SGD: 2_000, WHOLE: 1_000, AVG: 1_000}),
}
CRITERION = (
    "rounds to a test accuracy of 93 %, mean of 3 seeds, each method with its best step size: FedSGD needs at least {} times as many as FedAvg "
    "with E = 5 and B = 10"
)

PAPER = Paper(
    name="fedavg",
    title="Communication-Efficient Learning of Deep Networks from Decentralized Data",
    reference="McMahan et al., 2017, https://arxiv.org/abs/1602.05629",
    method=name(AVG, 0.3),
    grids=SCALES,
    minutes={"small": 20, "full": 150},
    claims=(
        Claim(
            "F1", "Local work saves rounds of communication", CRITERION.format("2"), lambda results: _fewer(results, IID),
        ),
        Claim(
            "F2", "It does so even if every client has examples of only a few classes", CRITERION.format("1.5"),
            lambda results: _fewer(results, SHARDS),
        ),
    ),
    notes="Accuracy on test digits after all rounds; chance is 0.10. Ten clients of 14 images learn in a round, and every round is evaluated.",
)  # fmt: skip
