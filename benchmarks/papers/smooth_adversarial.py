"""SmoothAdv: Salman et al., 2019 (table 1 and figure 1), on handwritten digits.

Classifiers that are trained on adversarial examples of their smoothed form are compared with those that are trained with noise alone and without
noise, by the radius within which their answers under noise cannot change.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlbench.benchmarks.papers._shown import by_seed
from rlbench.benchmarks.papers._step_sizes import best, methods, name
from rlbench.benchmarks.tables.paper import AnalysisGrid, Claim, Grid, Method, Paper, Scale, Verdict
from rlbench.benchmarks.tables.results import Results

TASK = "digits"
SMOOTH, GAUSSIAN, STANDARD = "SmoothAdv", "noise alone", "no noise"
ATTACKS: Mapping[str, str] = {SMOOTH: "smoothed", GAUSSIAN: "gaussian", STANDARD: "none"}
STEP_SIZES = (0.03, 0.1)
NETWORK = "conv4:layers=2,width=16,norm=gn"
UNTRAINED = "untrained"
ANALYSIS = "certify"
RATIO = 1.05
FAR = 0.75
"""Radius at which the certified accuracies are compared."""


def _grids(updates: int) -> tuple[Grid, ...]:
    networks = {title: {"encoder": NETWORK, "attack": x} for title, x in ATTACKS.items()}
    run = {"updates": updates, "eval_every": 0, "log_every": 50, "checkpoint_every": updates // 2}
    untrained = Method(UNTRAINED, "smooth-adversarial", {"encoder": NETWORK, "learning_rate": 0.0})
    return (
        Grid(methods("smooth-adversarial", networks, STEP_SIZES), (TASK,), seeds=3, run=run),
        Grid((untrained,), (TASK,), seeds=3, run={"updates": 1, "eval_every": 0}),
    )


def _radii(results: Results, title: str) -> tuple[list[Any], str]:
    """Certified radii of the seeds of the best step size, [N] each, and a text with their means."""
    method = best(results, title, STEP_SIZES, TASK, "radius")
    found = [x.columns["radius"] for x in results.analysed(ANALYSIS, method, TASK)]
    each: NDArray[np.float64] = np.array([x.mean() for x in found])
    far = 100 * np.array([(x >= FAR).mean() for x in found])
    words = f"{method} {each.mean():.3f} ({'/'.join(f'{x:.3f}' for x in each)}), at {FAR} {by_seed(far)} %"
    return found, words


def _certifies_more(results: Results) -> Verdict:
    every = {title: _radii(results, title) for title in ATTACKS}
    mean = {title: float(np.mean([x.mean() for x in found])) for title, (found, _) in every.items()}
    far = {
        title: float(np.mean([(x >= FAR).mean() for x in found]))
        for title, (found, _) in every.items()
    }
    holds = (
        mean[SMOOTH] >= RATIO * mean[GAUSSIAN]
        and far[SMOOTH] > far[GAUSSIAN]
        and mean[STANDARD] == min(mean.values())
    )
    return Verdict(
        bool(holds),
        f"mean certified radius, and certified accuracy, by seed: {'; '.join(x for _, x in every.values())}",
    )


def _unbroken(results: Results) -> Verdict:
    broken = {}
    for title in ATTACKS:
        method = best(results, title, STEP_SIZES, TASK, "radius")
        found = results.analysed(ANALYSIS, method, TASK)
        broken[method] = sum(x.numbers.get("broken certificates", 0.0) for x in found)
    listed = "; ".join(f"{method} {count:.0f}" for method, count in broken.items())
    return Verdict(not any(broken.values()), f"broken certificates, all seeds: {listed}")


SCALES: dict[Scale, tuple[Grid, ...]] = {"small": _grids(330), "full": _grids(5_000)}
METHODS = tuple(name(title, size) for title in ATTACKS for size in STEP_SIZES)


def _analyses(samples: int, examples: int) -> tuple[AnalysisGrid, ...]:
    settings = {"samples": samples, "examples": examples}
    return tuple(AnalysisGrid(ANALYSIS, (method,), (TASK,), seeds=3, settings=settings) for method in METHODS)  # fmt: skip


PAPER = Paper(
    name="smooth-adversarial",
    title="Provably Robust Deep Learning via Adversarially Trained Smoothed Classifiers",
    reference="Salman et al., 2019, https://arxiv.org/abs/1906.04584",
    method=name(SMOOTH, STEP_SIZES[0]),
    grids=SCALES,
    minutes={"small": 10, "full": 200},
    analyses={"small": _analyses(1_000, 200), "full": _analyses(10_000, 360)},
    claims=(
        Claim(
            "S1", "Adversarial training of the smoothed classifier certifies larger radii",
            f"noise of 0.5, 1,000 draws, 200 test images, mean of 3 seeds, each method with its best step size: mean certified radius at least {RATIO} times that "
            f"with noise alone, larger certified accuracy at {FAR}, and the smallest mean radius without noise",
            _certifies_more,
        ),
        Claim(
            "S2", "No attack within its radius breaks a certificate",
            "gradient ascent of 10 steps on the loss of the smoothed classifier changes no certified answer", _unbroken,
        ),
    ),
    notes="The score is the mean certified radius with 200 draws on 360 test images; wrong and abstained answers count as 0.",
)  # fmt: skip
