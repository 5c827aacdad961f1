"""Manipulated explanations: Dombrowski et al., 2019 (figures 1 to 6), on pictures of an object and on handwritten digits.

Small changes to a picture move the maps of six methods of explanation towards the map of another picture, while the answer stays. According to the paper,
noise of equal norm moves them less, and so does the same change if softplus replaces the ReLUs.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlbench.backbones.layers.attributions import METHODS
from rlbench.benchmarks.tables.paper import AnalysisGrid, Claim, Grid, Method, Paper, Scale, Verdict
from rlbench.benchmarks.tables.results import Results

OBJECTS, DIGITS = "trifeature", "digits"
SHAPES, CLASSIFIER = "classifier of shapes", "classifier"
ANALYSIS = "explain"
JUDGED = ("gradient", "gradient-times-input", "integrated-gradients", "lrp")
"""Methods about which the claims are."""
RISE, KEPT, CHANGE, ABOVE_NOISE = 0.3, 0.95, 0.05, 0.2
SMOOTH = (1.0, 3.0)
"""Parameters of softplus in the defence."""
WEAK_RISE, WEAK_RATIO = 0.15, 0.6
"""Criteria on 8x8 pixels."""


def _grids(updates: int) -> tuple[Grid, ...]:
    run = {"updates": updates, "eval_every": 0, "log_every": 50, "checkpoint_every": updates}
    shapes = Method(SHAPES, "classifier", {"encoder": "conv4:layers=3,width=16,norm=bn", "label": "shape"})  # fmt: skip
    digits = Method(CLASSIFIER, "classifier", {"encoder": "conv4:layers=2,width=16,norm=bn"})  # fmt: skip
    return (
        Grid((shapes,), (OBJECTS,), seeds=3, run={**run, "data_size": 3_000}),
        Grid((digits,), (DIGITS,), seeds=3, run=run),
    )


def _analyses(examples: int, steps: int) -> tuple[AnalysisGrid, ...]:
    settings: dict[str, Any] = {"examples": examples, "steps": steps}
    far = {**settings, "radius": 2.0}
    return (
        AnalysisGrid(ANALYSIS, (SHAPES,), (OBJECTS,), seeds=3, settings=far),
        AnalysisGrid(ANALYSIS, (CLASSIFIER,), (DIGITS,), seeds=3, settings=settings),
    )


def _numbers(results: Results, name: str, method: str, task: str = OBJECTS) -> NDArray[np.float64]:
    """A result of the explanations of a method for each seed, [R]."""
    found = results.analysed(ANALYSIS, SHAPES if task == OBJECTS else CLASSIFIER, task)
    return np.array([x.numbers[f"{method}: {name}"] for x in found])


def _rise(results: Results, method: str, task: str = OBJECTS, softplus: float | None = None) -> NDArray[np.float64]:  # fmt: skip
    """How much the correlation with the target rises in each seed, [R]."""
    what = "" if softplus is None else f", softplus {softplus:g}"
    before, after = (_numbers(results, f"target {x}{what}", method, task) for x in ("before", "after"))  # fmt: skip
    return after - before


def _by_seed(values: Sequence[float] | NDArray[np.float64]) -> str:
    return f"{np.mean(values):.2f} ({'/'.join(f'{x:.2f}' for x in values)})"


def _manipulated(results: Results) -> Verdict:
    words, holds = [], True
    for method in JUDGED:
        rise = _rise(results, method)
        kept, change = (_numbers(results, x, method) for x in ("kept", "change"))
        holds &= rise.mean() >= RISE and kept.mean() >= KEPT and change.mean() <= CHANGE
        words.append(f"{_by_seed(rise)} for {method}, with {100 * kept.mean():.0f} % of the answers kept and a mean change in probability of {change.mean():.3f}")  # fmt: skip
    return Verdict(bool(holds), f"rise of the correlation with the target, by seed: {'; '.join(words)}")  # fmt: skip


def _more_than_noise(results: Results) -> Verdict:
    words, holds = [], True
    for method in JUDGED:
        moved, noise = (_numbers(results, x, method) for x in ("original", "noise"))
        holds &= noise.mean() - moved.mean() >= ABOVE_NOISE
        words.append(f"{method}: {_by_seed(moved)}, and {_by_seed(noise)} with noise")
    return Verdict(bool(holds), f"correlation with the original map, by seed: {'; '.join(words)}")


def _smooth(results: Results) -> Verdict:
    words, holds = [], True
    for method in JUDGED:
        relu = _rise(results, method).mean()
        smooth = [float(_rise(results, method, softplus=beta).mean()) for beta in SMOOTH]
        holds &= max(smooth) <= relu / 2
        words.append(f"{method}: {relu:.2f}, {', '.join(f'{x:.2f}' for x in smooth)}")
    found = results.analysed(ANALYSIS, SHAPES, OBJECTS)
    right = [
        100 * np.mean([x.numbers[f"accuracy{what}"] for x in found])
        for what in ("", *(f" with softplus {beta:g}" for beta in SMOOTH))
    ]
    return Verdict(
        bool(holds),
        f"rise with ReLUs and with softplus of {' and '.join(f'{x:g}' for x in SMOOTH)}: {'; '.join(words)}; accuracy: {', '.join(f'{x:.0f}' for x in right)} %",
    )


def _on_digits(results: Results) -> Verdict:
    rise, smooth = (_rise(results, "gradient", DIGITS, beta) for beta in (None, 1.0))
    holds = rise.mean() >= WEAK_RISE and smooth.mean() <= WEAK_RATIO * rise.mean()
    return Verdict(
        bool(holds),
        f"rise of the correlation with the target, by seed: {_by_seed(rise)}, and {_by_seed(smooth)} with a softplus of 1",
    )


def _order(results: Results) -> Verdict:
    after = {x: _numbers(results, "target after", x).mean() for x in METHODS}
    ordered = sorted(METHODS, key=lambda x: -after[x])
    shown = ", ".join(
        f"{after[x]:.2f} for {x} (a rise of {_rise(results, x).mean():.2f})" for x in ordered
    )
    return Verdict(None, f"correlation with the target after the manipulation: {shown}")


SCALES: dict[Scale, tuple[Grid, ...]] = {"small": _grids(600), "full": _grids(3_000)}

PAPER = Paper(
    name="manipulated-explanations",
    title="Explanations can be manipulated and geometry is to blame",
    reference="Dombrowski et al., 2019, https://arxiv.org/abs/1906.07983",
    method=SHAPES,
    grids=SCALES,
    minutes={"small": 12, "full": 350},
    analyses={"small": _analyses(20, 100), "full": _analyses(50, 1_500)},
    claims=(
        Claim(
            "M1", "Small changes to a picture move its explanation towards that of another picture, while the answer stays",
            f"20 pairs of pictures of an object, changes of norm 2 at most, mean of 3 seeds, for {', '.join(JUDGED)}: the correlation of the map with the target "
            f"rises by at least {RISE}, at least {100 * KEPT:.0f} % of the answers stay, and their probability changes by {CHANGE} at most on average",
            _manipulated,
        ),
        Claim(
            "M2", "Noise of the same norm moves explanations less",
            f"for the same methods: the correlation with the original map is at least {ABOVE_NOISE} larger under noise of equal norm", _more_than_noise,
        ),
        Claim(
            "M3", "Explanations of the network with softplus in place of ReLUs are harder to manipulate",
            f"for the same methods: the same changes raise the correlation with the target at most half as much with each softplus of "
            f"{' and '.join(f'{x:g}' for x in SMOOTH)}; the accuracy is reported", _smooth,
        ),
        Claim(
            "M4", "The same holds on pictures of 8x8 pixels, where the effect is weak",
            f"digits, changes of norm 0.8 at most, gradient: the correlation rises by at least {WEAK_RISE}, and with a softplus of 1 by at most {WEAK_RATIO} times "
            "as much", _on_digits,
        ),
        Claim(
            "M5", "Maps of LRP and of pattern attribution are the easiest to move to a target", "none: correlations with the target are only reported", _order,
        ),
    ),
    notes="The score is the accuracy on test images; chance is 0.2 for shapes and 0.1 for digits. The baselines of the claims are the correlations before the "
    "manipulation and those under noise of equal norm.",
)  # fmt: skip
