"""MnasNet: Tan et al., 2019, a search for networks that are accurate and fast (equation 2, figures 4 and 6, tables 4 to 6).

Most claims are judged on searches that train nothing: `archsearch-tiny` looks results up, and `archsearch-nano` predicts them.
The others train every architecture that they try on small images of digits. All of this shows how the method works, not what a
search on ImageNet would find.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlbench.benchmarks.tables.paper import AnalysisGrid, Claim, Grid, Method, Paper, Scale, Verdict
from rlbench.benchmarks.tables.results import Missing, Results
from rlbench.benchmarks.training.analysing import Analysed
from rlbench.envs.architectures.names import TABULATED
from rlbench.envs.architectures.space import find_space
from rlbench.envs.architectures.tabulated import read_table

TINY, NANO, TRAINED = "archsearch-tiny", "archsearch-nano", "archsearch-digits-shift"
HARD, ACCURACY = f"{TINY}-hard", f"{TINY}-accuracy"
# With the soft reward, the target is only a factor of all rewards, and the controller normalises them.
CELL, TIGHT = f"{TRAINED}-cell", f"{TRAINED}-tight-hard"
CONTROLLER, RANDOM = "controller", "random"
SHORT, SHORT_RANDOM = "controller, 100 samples", "random, 100 samples"
SEARCHERS = {
    CONTROLLER: "nas", RANDOM: "nas-random", "evolution": "nas-evolution", "local search": "nas-local",
}  # fmt: skip
BATCH = 20
FEW = {"envs": 10, "entropy_coefficient": 0.01, "learning_rate": 0.01}
"""Settings of the controller for searches of few architectures."""
WIDTHS = (0.75, 0.5)
TOP, LAST = 10, 50
MOST = 0.7
"""Largest correlation with latency of a poor stand-in: it explains less than half of the variance."""


def _column(results: Results, method: str, task: str, read: Callable[[Analysed], float]) -> NDArray[Any]:  # fmt: skip
    """A number of the search of each seed, [R]."""
    return np.array([read(x) for x in results.analysed("front", method, task)])


def best_reward(found: Analysed) -> float:
    """The highest reward of a search."""
    return found.numbers["best reward"]


def last_reward(found: Analysed) -> float:
    """Mean reward of the last samples of a search."""
    return float(found.columns["reward"][-LAST:].mean())


def top_architectures(found: Analysed) -> tuple[float, float]:
    """Mean latency in milliseconds and accuracy of the different architectures with the highest rewards."""
    columns = found.columns
    first = np.unique(columns["number"], return_index=True)[1]
    top = first[np.argsort(-columns["reward"][first], kind="stable")][:TOP]
    return float(columns["latency_ms"][top].mean()), float(columns["accuracy"][top].mean())


def _side_of_the_target(results: Results) -> Verdict:
    share = "share above the target"
    soft, hard = (_column(results, CONTROLLER, x, lambda y: y.numbers[share]) for x in (TINY, HARD))
    parts = []
    for name, task in (("soft", TINY), ("hard", HARD)):
        each = results.analysed("front", CONTROLLER, task)
        spread, front, volume = (
            np.mean([x.numbers[y] for x in each])
            for y in ("standard deviation of log latency", "architectures on the front", "hypervolume")
        )  # fmt: skip
        above = ", ".join(f"{x.numbers[share]:.2f}" for x in each)
        parts.append(
            f"{name}: {above} (standard deviation of the log latency {spread:.2f}, {front:.1f} architectures on the "
            f"front, hypervolume {volume:.3f})"
        )
    wins = int((soft > hard).sum())
    return Verdict(wins >= 0.8 * len(soft), f"share of samples slower than T; {'; '.join(parts)}")


def _both_objectives(results: Results) -> Verdict:
    alone, both = (
        np.array([top_architectures(x) for x in results.analysed("front", CONTROLLER, task)]).mean(
            0
        )
        for task in (ACCURACY, TINY)
    )
    gain = 100 * (alone[1] - both[1])
    return Verdict(
        bool(alone[0] > both[0] and gain <= 1),
        f"accuracy alone: {alone[0]:.3f} ms, {100 * alone[1]:.1f} %; with latency: {both[0]:.3f} ms, {100 * both[1]:.1f} %",
    )


def _layer_diversity(results: Results) -> Verdict:
    parts = []
    for name, task in (("blocks differ", TRAINED), ("all blocks alike", CELL)):
        best = _column(results, CONTROLLER, task, best_reward)
        volume = _column(results, CONTROLLER, task, lambda x: x.numbers["hypervolume"])
        parts.append(f"{name}: {_several(best)}, hypervolume {volume.mean():.3f}")
    return Verdict(None, f"best reward of each seed; {'; '.join(parts)}")


def correlations() -> dict[str, float]:
    """Correlation of latency with other costs, over the measured architectures of `archsearch-nano`."""
    known = TABULATED["nano"]
    table = read_table(known.file, find_space(known.space))
    costs = {"parameters": table.parameters, "multiply-adds": table.multiply_adds}
    return {name: float(np.corrcoef(cost, table.latency_ms)[0, 1]) for name, cost in costs.items()}


def _stand_ins(results: Results) -> Verdict:
    if not results.all:
        raise Missing("the table has no runs yet")
    found = correlations()
    shown = ", ".join(f"{name} {value:.2f}" for name, value in found.items())
    return Verdict(max(found.values()) < MOST, f"correlation with latency: {shown}")


def _tighter_target(results: Results) -> Verdict:
    scaled, tight = (results.analysed("front", CONTROLLER, task) for task in (TRAINED, TIGHT))
    parts = []
    for width in WIDTHS:
        rows = [
            tuple(
                x.numbers.get(f"width {width:g}: {y}", np.nan)
                for y in ("latency in ms", "accuracy")
            )
            for x in scaled
        ]
        rivals = [best_within(x, row[0]) for x, row in zip(tight, rows, strict=False)]
        shown = ", ".join(
            f"{100 * accuracy:.1f} against {100 * rival:.1f} at {latency:.2f} ms"
            for (latency, accuracy), rival in zip(rows, rivals, strict=False)
        )
        parts.append(f"width {width:g}: {shown}")
    return Verdict(
        None,
        "accuracy in % of the best architecture with fewer filters against the best one of the search for a tight target "
        f"that is as fast, by seed; {'; '.join(parts)}",
    )


def best_within(found: Analysed, latency_ms: float) -> float:
    """The best accuracy of a search at a latency or below; NaN if nothing is as fast."""
    fits = found.columns["accuracy"][found.columns["latency_ms"] <= latency_ms]
    return float(fits.max()) if len(fits) else np.nan


def _better_than_random(results: Results) -> Verdict:
    parts, holds = [], True
    for where, task, methods in (
        ("tiny", TINY, (SHORT, SHORT_RANDOM)),
        ("nano", NANO, tuple(SEARCHERS)),
    ):
        best = {method: _column(results, method, task, best_reward) for method in methods}
        last = {method: _column(results, method, task, last_reward) for method in methods}
        ours, chance = methods[0], next(x for x in methods if "random" in x)
        holds &= bool((best[ours] > best[chance]).sum() >= 0.8 * len(best[ours]))
        shown = ", ".join(f"{x} {_several(best[x])} (last {LAST}: {last[x].mean():.3f})" for x in methods)  # fmt: skip
        parts.append(f"{where}: {shown}")
    real = {x: _column(results, x, TRAINED, best_reward) for x in (CONTROLLER, RANDOM)}
    holds &= bool(real[CONTROLLER].mean() > real[RANDOM].mean())
    shown = ", ".join(f"{name} {_several(values)}" for name, values in real.items())
    return Verdict(holds, f"best reward of each seed; {'; '.join(parts)}; trained: {shown}")


def _several(values: NDArray[Any]) -> str:
    return "/".join(f"{x:.3f}" for x in values)


def _method(name: str, learner: str, settings: Mapping[str, Any] | None = None) -> Method:
    return Method(name, learner, {"envs": BATCH, **(settings or {})})


def _grids(updates: int, seeds: int, trained_seeds: int, reported_seeds: int) -> tuple[Grid, ...]:
    run = {"updates": updates, "eval_every": 0, "eval_episodes": 1, "log_every": 1}
    few = run | {"updates": 100 // FEW["envs"], "checkpoint_every": 10}
    looked_up, trained = run | {"checkpoint_every": updates}, run | {"checkpoint_every": 1}
    every = tuple(_method(name, learner) for name, learner in SEARCHERS.items())
    ours, chance = every[:2]
    short = (
        _method(SHORT, "nas", FEW),
        _method(SHORT_RANDOM, "nas-random", {"envs": FEW["envs"]}),
    )
    return (
        Grid((ours,), (TINY, HARD, ACCURACY), seeds, looked_up),
        Grid(short, (TINY,), seeds, few),
        Grid(every, (NANO,), seeds, looked_up),
        Grid((ours, chance), (TRAINED,), trained_seeds, trained),
        Grid((ours,), (CELL, TIGHT), reported_seeds, trained),
    )


def _analyses(grids: tuple[Grid, ...]) -> tuple[AnalysisGrid, ...]:
    """The front of every search."""
    found = []
    for grid in grids:
        for task in grid.tasks:
            for method in grid.methods:
                widths = {"widths": WIDTHS} if (method.name, task) == (CONTROLLER, TRAINED) else {}
                found.append(AnalysisGrid("front", (method.name,), (task,), grid.seeds, widths))
    return tuple(found)


SCALES: dict[Scale, tuple[Grid, ...]] = {"small": _grids(15, 5, 3, 1), "full": _grids(150, 8, 5, 5)}

PAPER = Paper(
    name="mnasnet",
    title="MnasNet: Platform-Aware Neural Architecture Search for Mobile",
    reference="Tan et al., 2019, https://arxiv.org/abs/1807.11626",
    method=CONTROLLER,
    grids=SCALES,
    analyses={scale: _analyses(grids) for scale, grids in SCALES.items()},
    minutes={"small": 75, "full": 1_500},
    claims=(
        Claim(
            "C1", "A soft reward samples models on both sides of the target, a hard one on its fast side",
            "share of the samples that are slower than the target: larger with the soft reward in 4 of 5 seeds",
            _side_of_the_target,
        ),
        Claim(
            "C2", "Searching for accuracy and latency together gives a better trade-off than accuracy alone",
            f"the {TOP} best architectures, mean of the seeds: slower with accuracy alone, and at most 1 point more accurate",
            _both_objectives,
        ),
        Claim(
            "C3", "Layers that differ between blocks are better than one kind of layer",
            "none: best rewards and hypervolumes are only reported", _layer_diversity,
        ),
        Claim(
            "C4", "Multiply-adds and parameters are poor stand-ins for latency",
            f"correlation with measured latency over 240 architectures: below {MOST} for both", _stand_ins,
        ),
        Claim(
            "C5", "A search for a tighter target is better than a scaled-down model",
            "none: accuracies at equal latency are only reported", _tighter_target,
        ),
        Claim(
            "C6", "The controller finds better architectures than random search with equally many samples",
            "best reward: higher in 4 of 5 seeds on both tabulated tasks, and in the mean of the seeds with real training",
            _better_than_random,
        ),
    ),
    notes="The return is the reward of the architecture that the trained agent finds most likely; the claims compare all "
    "architectures that a search tried.",
)  # fmt: skip
