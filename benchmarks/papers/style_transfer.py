"""Neural style transfer: Gatys et al., 2016 (figures 2, 3 and 5), with an untrained network.

A photograph is drawn in the style of three textures, with content weights over three decades and with the content in each of three maps. Each
seed has its own random weights of the network.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from rlbench.benchmarks.tables.paper import AnalysisGrid, Claim, Grid, Method, Paper, Scale, Verdict
from rlbench.benchmarks.tables.results import Results
from rlbench.benchmarks.training.analysing import Analysed

TASK, METHOD = "photographs", "random VGG"
STYLES = ("brick", "grass", "gravel")
WEIGHTS, STRIDES = (1.0, 0.1, 10.0, 100.0), (4, 2, 1)
REDUCED, NEAREST, LAYOUT = 1_000, 10, 0.7
"""Least factor by which the style loss falls, least ratio of the distances to another style and to its own, least correlation with the content."""
SETTINGS = {"styles": STYLES, "content_weights": WEIGHTS, "content_strides": STRIDES}


def _grids() -> tuple[Grid, ...]:
    untrained = Method(METHOD, "classifier", {"encoder": "vgg", "learning_rate": 0.0})
    run = {"updates": 1, "data_size": 100, "eval_every": 0}
    return (Grid((untrained,), (TASK,), seeds=3, run=run),)


def _analyses(iterations: int) -> tuple[AnalysisGrid, ...]:
    settings = {**SETTINGS, "iterations": iterations}
    return (AnalysisGrid("style", (METHOD,), (TASK,), seeds=3, settings=settings),)


def _analysed(results: Results) -> list[Analysed]:
    return results.analysed("style", METHOD, TASK)


def _by_seed(values: list[float], form: str = ".3g") -> str:
    return "/".join(format(x, form) for x in values)


def _styles(results: Results) -> Verdict:
    holds, shown = True, []
    for number, style in enumerate(STYLES):
        reduced, nearest, layout = [], [], []
        for found in _analysed(results):
            start, loss, distances, own = (
                found.columns[name][number] for name in ("start_loss", "style_loss", "distances", "layout")
            )  # fmt: skip
            reduced.append(start / loss)
            nearest.append(np.delete(distances, number).min() / distances[number])
            layout.append(float(own))
        holds &= min(reduced) >= REDUCED and min(nearest) >= NEAREST and min(layout) >= LAYOUT
        shown.append(
            f"{style} {_by_seed(reduced, ',.0f')} times, {_by_seed(nearest, ',.0f')} times, {_by_seed(layout, '.2f')}"
        )
    return Verdict(
        holds,
        f"fall of the style loss, distance to the nearest other style divided by that to its own, correlation of the layout, by seed: {'; '.join(shown)}",
    )


def _swept(
    results: Results, column: str, chosen: Callable[[Analysed], NDArray[np.int64]]
) -> list[NDArray[np.float64]]:
    """A column of the first style in the order of a sweep, [K] for each seed."""
    return [found.columns[column][chosen(found)] for found in _analysed(results)]


def by_weight(found: Analysed) -> NDArray[np.int64]:
    """Rows of the first style and stride, from the smallest content weight to the largest."""
    columns = found.columns
    rows = np.flatnonzero((columns["style"] == STYLES[0]) & (columns["stride"] == STRIDES[0]))
    return rows[np.argsort(columns["content_weight"][rows])]


def by_stride(found: Analysed) -> NDArray[np.int64]:
    """Rows of the first style and content weight, from the finest map to the coarsest."""
    columns = found.columns
    rows = np.flatnonzero(
        (columns["style"] == STYLES[0]) & (columns["content_weight"] == WEIGHTS[0])
    )
    return rows[np.argsort(columns["stride"][rows])]


def _weights(results: Results) -> Verdict:
    content, style = (_swept(results, x, by_weight) for x in ("content_loss", "style_loss"))
    holds = all((np.diff(x) < 0).all() for x in content) and all(
        (np.diff(x) > 0).all() for x in style
    )
    means = (", ".join(f"{x:.2g}" for x in np.mean(each, axis=0)) for each in (content, style))
    shown = " and style losses ".join(means)
    return Verdict(
        holds,
        f"means over seeds for the weights {', '.join(f'{x:g}' for x in sorted(WEIGHTS))}: content losses {shown}",
    )


def _layers(results: Results) -> Verdict:
    found = _swept(results, "correlation", by_stride)
    shown = ", ".join(f"{x:.2f}" for x in np.mean(found, axis=0))
    holds = all((np.diff(x) < 0).all() for x in found)
    return Verdict(
        holds,
        f"correlation of all pixels with the content, means over seeds, for the strides {', '.join(map(str, sorted(STRIDES)))}: {shown}",
    )


SCALES: tuple[Scale, Scale] = ("small", "full")

PAPER = Paper(
    name="style-transfer",
    title="Image Style Transfer Using Convolutional Neural Networks",
    reference="Gatys et al., 2016, CVPR; Gatys et al., 2015, https://arxiv.org/abs/1508.06576",
    method=METHOD,
    grids={scale: _grids() for scale in SCALES},
    minutes={"small": 2, "full": 10},
    analyses={"small": _analyses(80), "full": _analyses(500)},
    claims=(
        Claim(
            "Y1a", "Optimising pixels transfers the style and keeps the content",
            f"for each of three textures and every seed: the style loss falls by a factor of at least {REDUCED:,}, the Gram matrices are at "
            f"least {NEAREST} times as far from any other style as from their own, and means over 1/8 of each side have a correlation "
            f"of at least {LAYOUT} with the content",
            _styles,
        ),
        Claim(
            "Y1b", "The weights trade content against style",
            "over three decades of content weights, the content loss falls and the style loss rises with every step, every seed", _weights,
        ),
        Claim(
            "Y1c", "In coarser maps the content keeps less of the pixels",
            "the correlation of all pixels with the content falls with every step from the finest map to the coarsest, every seed", _layers,
        ),
    ),
    notes="The run has no trained weights, so its accuracy is chance, about 0.17; only its network is used.",
)  # fmt: skip
