"""Recurrent batch normalisation: Cooijmans et al., 2017, on permuted pixels (section 5.1) of scikit-learn's digits.

An LSTM reads the 64 pixels of a digit in a fixed random order. With batch normalisation at each time step it learns faster
if gamma begins small; otherwise gradients vanish or explode on their way to the first steps (section 4).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from rlbench.benchmarks.papers._shown import by_seed
from rlbench.benchmarks.papers._step_sizes import best, methods, name
from rlbench.benchmarks.tables.paper import AnalysisGrid, Claim, Grid, Method, Paper, Scale, Verdict
from rlbench.benchmarks.tables.results import Missing, Results

TASK = "digits-pixels-permuted"
LSTM, UNTRAINED = "LSTM", "untrained"
GAINS = (0.1, 1.0)
"""Initial gamma; the paper's is the first."""
STEP_SIZES = (1e-3, 3e-3)
UNITS = 64
NETWORKS_DRAWN = 3
"""Untrained networks whose gradients are analysed."""
REFERENCE = 0.6
"""Accuracy of the LSTM at which both are compared."""


def normalised(gain: float) -> str:
    """The name of the LSTM with batch normalisation."""
    return f"BN-LSTM, gamma {gain:g}"


FAST = "BN-LSTM, gamma 0.1, rate 0.1"
"""Running averages that follow the weights faster than at the rate of the authors' code, 0.01."""
NETWORKS: Mapping[str, Mapping[str, Any]] = {
    LSTM: {"memory": "lstm"},
    **{normalised(gain): {"memory": f"bn-lstm:gain={gain:g},steps=64,noise=0.1"} for gain in GAINS},
    FAST: {"memory": "bn-lstm:gain=0.1,steps=64,noise=0.1,rate=0.1"},
}
BN = normalised(GAINS[0])


def _grids(updates: int, every: int) -> tuple[Grid, ...]:
    networks = {title: {**settings, "memory_size": UNITS} for title, settings in NETWORKS.items()}
    run = {
        "updates": updates,
        "eval_every": every,
        "log_every": every,
        "checkpoint_every": updates // 2,
    }
    untrained = Method(UNTRAINED, "sequence-classifier", {**networks[BN], "learning_rate": 0.0})
    return (
        Grid(methods("sequence-classifier", networks, STEP_SIZES), (TASK,), seeds=3, run=run),
        Grid((untrained,), (TASK,), seeds=3, run={"updates": 1, "eval_every": 0}),
    )


def _analyses() -> tuple[AnalysisGrid, ...]:
    """Statistics with every step size; the untrained networks of the gradients do not depend on it, nor on the run's seed."""
    statistics = (
        AnalysisGrid("batch-statistics", (name(network, size),), (TASK,), 3)
        for network in (BN, FAST)
        for size in STEP_SIZES
    )
    gradients = AnalysisGrid(
        "gradient-norms",
        (name(BN, STEP_SIZES[0]),),
        (TASK,),
        1,
        {"gains": GAINS, "networks": NETWORKS_DRAWN},
    )
    return (*statistics, gradients)


def accuracies(results: Results, method: str) -> tuple[list[int], np.ndarray[Any, Any]]:
    """Updates of the evaluations, [E], and accuracies, [R seeds, E].

    Raises:
        Missing: It has not been run.
    """
    from rlbench.benchmarks.training.run_folder import RunFolder

    runs = results.of(method, TASK)
    if not runs:
        raise Missing(f"{method} has not been run")
    saved = [RunFolder(run.folder).evaluations() for run in runs]
    return saved[0]["update"].tolist(), np.stack([x["accuracy"].mean(1) for x in saved])


def fastest(results: Results, network: str) -> str:
    """The method with the step size with the highest accuracy over all evaluations and seeds."""
    every = [name(network, size) for size in STEP_SIZES]
    return max(every, key=lambda method: float(accuracies(results, method)[1].mean()))


def _learns_faster(results: Results) -> Verdict:
    """At the first evaluation at which the mean accuracy of the LSTM reaches the reference."""
    lstm = fastest(results, LSTM)
    updates, curve = accuracies(results, lstm)
    reached = np.flatnonzero(curve.mean(0) >= REFERENCE)
    if not len(reached):
        raise Missing(f"{lstm} has not reached an accuracy of {REFERENCE:.0%}")
    found, texts = {}, []
    for at in (int(reached[0]), len(updates) - 1):
        parts = []
        for network in NETWORKS:
            method = fastest(results, network)
            values = 100 * accuracies(results, method)[1][:, at]
            found[network, at] = float(values.mean())
            parts.append(f"{method}: {by_seed(values)}")
        texts.append(f"after {updates[at]} updates, {'; '.join(parts)}")
    untrained = 100 * results.means(UNTRAINED, TASK, "accuracy").mean()
    return Verdict(
        found[BN, reached[0]] >= found[LSTM, reached[0]] + 5,
        f"accuracy in % (by seed) {'. '.join(texts)}; {UNTRAINED}: {untrained:.1f}",
    )


def _keeps_gradients(results: Results) -> Verdict:
    (found,) = results.analysed("gradient-norms", name(BN, STEP_SIZES[0]), TASK)
    small, large = (
        np.array(
            [
                found.numbers[f"gamma {gain:g}, network {i}: log10 ratio"]
                for i in range(NETWORKS_DRAWN)
            ]
        )
        for gain in GAINS
    )
    trained = found.numbers["trained memory: log10 ratio"]
    holds = bool((np.abs(small) <= 0.5).all() and (np.abs(large) >= 1.5).all())
    shown = "; ".join(
        f"gamma {gain:g}: {', '.join(f'{x:+.2f}' for x in each)}"
        for gain, each in zip(GAINS, (small, large), strict=True)
    )
    return Verdict(
        holds, f"log10 of |dL/dh_1| / |dL/dh_T|, {shown}; a trained BN-LSTM: {trained:+.2f}"
    )


def _averages_are_enough(results: Results) -> Verdict:
    """With the rate of the authors' code; with the other it is only shown."""
    close, parts = {}, []
    for network in (BN, FAST):
        method = best(results, network, STEP_SIZES, TASK)
        every = results.analysed("batch-statistics", method, TASK)
        averages, batch = (
            100 * np.array([x.numbers[kind] for x in every])
            for kind in ("running averages", "statistics of the batch")
        )
        close[network] = bool(np.abs(averages.mean() - batch.mean()) <= 2)
        listed = "; ".join(f"{a:.1f} and {b:.1f}" for a, b in zip(averages, batch, strict=True))
        parts.append(f"{method}: {listed}")
    return Verdict(
        close[BN],
        f"accuracy in % with running averages and with statistics of the batch, by seed, {'. '.join(parts)}",
    )


SCALES: dict[Scale, tuple[Grid, ...]] = {"small": _grids(600, 50), "full": _grids(20_000, 500)}

PAPER = Paper(
    name="recurrent-batch-norm",
    title="Recurrent Batch Normalization",
    reference="Cooijmans et al., 2017, https://arxiv.org/abs/1603.09025",
    method=name(BN, STEP_SIZES[0]),
    grids=SCALES,
    analyses={"small": _analyses(), "full": _analyses()},
    minutes={"small": 25, "full": 700},
    claims=(
        Claim(
            "N1", "An LSTM learns faster with recurrent batch normalisation",
            "test accuracy, mean of 3 seeds, each network with the step size that is best over all evaluations, at the first "
            f"evaluation at which the LSTM has {REFERENCE:.0%}: at least 5 points higher with gamma = {GAINS[0]:g}",
            _learns_faster,
        ),
        Claim(
            "N2", "With a small gamma the gradient keeps its scale over the sequence, with gamma = 1 it does not",
            "log10 of |dL/dh_1| / |dL/dh_T| of each of 3 untrained tanh networks: at most 0.5 in absolute value with "
            f"gamma = {GAINS[0]:g}, at least 1.5 in absolute value with gamma = {GAINS[1]:g}",
            _keeps_gradients,
        ),
        Claim(
            "N3", "The running averages of each time step are enough for the test",
            "accuracy with running averages and with the statistics of test batches, mean of 3 seeds: within 2 points",
            _averages_are_enough,
        ),
    ),
    notes="Accuracy on 360 test digits; chance is 0.10. The paper reads 784 pixels of MNIST with 100 units and RMSProp; here it is Adam "
    "for all networks.",
)  # fmt: skip
