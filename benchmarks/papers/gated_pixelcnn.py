"""Density of images pixel by pixel: van den Oord et al., 2016, on handwritten digits and on MiniGrid's views.

The gated form is compared with the plain masked form, which has about as many weights, and with a distribution of each value by itself;
a classifier judges samples of each class; prediction gains of views of visited rooms are compared with those of new rooms.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from rlbench.benchmarks.papers._step_sizes import best, methods, name
from rlbench.benchmarks.tables.paper import Claim, Grid, Method, Paper, Scale, Verdict
from rlbench.benchmarks.tables.results import Results

DIGITS, VIEWS, ROOMS = "digits", "frames-minigrid", "room-visits"
GATED, PLAIN, INDEPENDENT, UNTRAINED = "gated", "plain", "independent", "untrained"
CLASSES, NO_CLASSES, COUNTS = "gated, classes", "gated, no classes", "gated, counts"
STEP_SIZES = (3e-3, 1e-2)
TABLE_SIZES = (3e-2, 1e-1)
"""Step sizes of the networks, and of the distribution of each value by itself, which has no layers."""
VALUES: Mapping[str, Mapping[str, Any]] = {
    DIGITS: {"levels": 17},
    VIEWS: {"levels": 11, "quantise": False},
    ROOMS: {"levels": 11, "quantise": False},
}
WIDTHS = {DIGITS: (16, 30), VIEWS: (15, 32)}
"""Feature maps of the gated and of the plain form, with which they have about the same number of weights."""
LAYERS = 4
BETTER, RECOGNISED, AREA = 0.99, 0.8, 0.9
"""Largest bits of the gated form compared with the plain one, smallest share of recognised samples, smallest area under the ROC curve."""
JUDGE = "resnet:units=1,width=8"


def _networks(task: str) -> dict[str, dict[str, Any]]:
    gated, plain = WIDTHS[task]
    shared = {**VALUES[task], "layers": LAYERS}
    return {
        GATED: {**shared, "width": gated},
        PLAIN: {**shared, "width": plain, "form": "plain"},
    }


def _grids(updates: Mapping[str, int]) -> tuple[Grid, ...]:
    grids = []
    for task in (DIGITS, VIEWS):
        count = updates[task]
        run = {"updates": count, "eval_every": 0, "log_every": 50, "checkpoint_every": count // 2}
        table = {INDEPENDENT: {**VALUES[task], "form": "independent"}}
        networks = _networks(task)
        fixed = Method(UNTRAINED, "pixelcnn", {**networks[GATED], "learning_rate": 0.0})
        grids += [
            Grid(methods("pixelcnn", networks, STEP_SIZES), (task,), seeds=3, run=run),
            Grid(methods("pixelcnn", table, TABLE_SIZES), (task,), seeds=3, run=run),
            Grid((fixed,), (task,), seeds=3, run={"updates": 1, "eval_every": 0}),
        ]
    count = updates[DIGITS]
    run = {"updates": count, "eval_every": 0, "log_every": 50, "checkpoint_every": count // 2}
    judged = {**_networks(DIGITS)[GATED], "judge": JUDGE}
    classes = {CLASSES: {**judged, "condition": "label"}, NO_CLASSES: judged}
    grids.append(Grid(methods("pixelcnn", classes, STEP_SIZES), (DIGITS,), seeds=3, run=run))
    count = updates[ROOMS]
    run = {"updates": count, "eval_every": 0, "log_every": 50, "checkpoint_every": count // 2}
    counted = {COUNTS: {**VALUES[ROOMS], "width": 15, "layers": LAYERS, "gain": 1e-4}}
    grids.append(Grid(methods("pixelcnn", counted, STEP_SIZES), (ROOMS,), seeds=3, run=run))
    return tuple(grids)


def chosen(results: Results, network: str, task: str) -> str:
    """The method of a network with the step size that gives the fewest bits on a task."""
    sizes = TABLE_SIZES if network == INDEPENDENT else STEP_SIZES
    return best(results, network, sizes, task, "bits", lowest=True)


def _field(results: Results) -> Verdict:
    found, shown = {}, []
    for task in (DIGITS, VIEWS):
        for network in (GATED, PLAIN):
            method = chosen(results, network, task)
            blind, leaks = (results.means(method, task, x).max() for x in ("blind", "leaks"))
            found[network, task] = blind, leaks
            shown.append(f"{network} on {task}: {blind:.0f} blind pixels, {leaks:.0f} leaks")
    gated = all(found[GATED, task] == (0, 0) for task in (DIGITS, VIEWS))
    plain = all(
        found[PLAIN, task][0] > 0 and found[PLAIN, task][1] == 0 for task in (DIGITS, VIEWS)
    )
    return Verdict(gated and plain, "; ".join(shown))


def _density(results: Results) -> Verdict:
    holds, shown = True, []
    for task in (DIGITS, VIEWS):
        bits = {}
        for network in (GATED, PLAIN, INDEPENDENT, UNTRAINED):
            method = network if network == UNTRAINED else chosen(results, network, task)
            bits[network] = float(results.means(method, task, "bits").mean())
            shown.append(f"{method} on {task} {bits[network]:.3f}")
        holds &= bits[GATED] <= BETTER * bits[PLAIN]
        holds &= max(bits[GATED], bits[PLAIN]) < bits[INDEPENDENT]
    return Verdict(holds, f"bits per value: {'; '.join(shown)}")


def _classes(results: Results) -> Verdict:
    share = {}
    for network in (CLASSES, NO_CLASSES):
        method = chosen(results, network, DIGITS)
        share[network] = results.means(method, DIGITS, "recognised")
        judge = results.means(method, DIGITS, "judge_accuracy").mean()
    bits = [
        results.means(chosen(results, x, DIGITS), DIGITS, "bits").mean() for x in (CLASSES, GATED)
    ]
    holds = share[CLASSES].mean() >= RECOGNISED > share[NO_CLASSES].mean()
    shown = "; ".join(f"{x} {100 * y.mean():.1f} %" for x, y in share.items())
    return Verdict(
        bool(holds),
        f"samples recognised as the requested class: {shown}; the classifier is right on {100 * judge:.1f} % of the test digits; "
        f"bits per value with and without classes: {bits[0]:.3f} and {bits[1]:.3f}",
    )


def _counts(results: Results) -> Verdict:
    method = chosen(results, COUNTS, ROOMS)
    areas = results.means(method, ROOMS, "auc")
    each = ", ".join(f"{x:.3f}" for x in np.ravel(areas))
    return Verdict(bool(areas.mean() >= AREA), f"{method}: area {areas.mean():.3f} ({each})")


SCALES: dict[Scale, tuple[Grid, ...]] = {
    "small": _grids({DIGITS: 800, VIEWS: 400, ROOMS: 800}),
    "full": _grids({DIGITS: 4_000, VIEWS: 10_000, ROOMS: 4_000}),
}

PAPER = Paper(
    name="gated-pixelcnn",
    title="Conditional Image Generation with PixelCNN Decoders",
    reference="van den Oord et al., 2016, https://arxiv.org/abs/1606.05328",
    method=name(GATED, STEP_SIZES[0]),
    grids=SCALES,
    minutes={"small": 60, "full": 900},
    claims=(
        Claim(
            "X1a", "Two stacks have no blind spot",
            "gradients: every pixel within reach that comes before the last row's middle pixel affects its prediction in the gated form, some "
            "do not in the plain form, and no later value affects it in either", _field,
        ),
        Claim(
            "X1b", "Gated layers model images better than plain masked ones",
            f"bits per value of test images, mean of 3 seeds, each form with its best step size: at most {BETTER} times those of the plain form "
            "on digits and on MiniGrid's views, and both below a distribution of each value by itself", _density,
        ),
        Claim(
            "X1c", "Conditioning on a class gives samples of that class",
            f"share of samples in which a classifier recognises the requested class, mean of 3 seeds: at least {RECOGNISED:.0%} with classes, "
            "less without", _classes,
        ),
        Claim(
            "X1d", "Prediction gains distinguish new rooms from visited ones (Ostrovski et al., 2017)",
            f"area under the ROC curve over unseen views of visited rooms and views of other rooms, mean of 3 seeds: at least {AREA}", _counts,
        ),
    ),
    notes="Uniform predictions need 4.09 bits for each value of a digit and 3.46 for each value of a view. Chance is 10 % in X1c and 0.50 in X1d.",
)  # fmt: skip
