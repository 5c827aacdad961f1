"""An embedding for verification: Schroff et al., 2015, on glyphs and on Procgen's levels instead of faces.

Do two drawings show the same glyph, two frames the same level, of classes that training never saw? Semi-hard negatives are compared
with random and with the hardest ones, with the features of a classifier of the training classes, an untrained encoder and pixels.
"""

from collections.abc import Mapping
from typing import Any

from rlbench.benchmarks.papers._step_sizes import best, methods, name
from rlbench.benchmarks.tables.paper import Claim, Grid, Method, Paper, Scale, Verdict
from rlbench.benchmarks.tables.results import Results

GLYPHS, LEVELS = "glyph-sets", "level-sets:coinrun"
SEMI, RANDOM, HARDEST = "semi-hard", "random triplets", "hardest"
SOFTMAX, PIXELS, UNTRAINED = "softmax", "pixels", "untrained"
STEP_SIZES = (1e-3, 3e-3)
NETWORKS: Mapping[str, Mapping[str, Any]] = {
    SEMI: {},
    RANDOM: {"mining": "random"},
    HARDEST: {"mining": "hardest"},
    SOFTMAX: {"objective": "softmax"},
}
ENCODERS = {GLYPHS: "conv4:width=32", LEVELS: "conv4:width=16"}
BARS = {GLYPHS: 0.95, LEVELS: 0.90}
"""Smallest area under the ROC curve for the claims."""


def _grids(updates: Mapping[str, int]) -> tuple[Grid, ...]:
    grids = []
    for task, count in updates.items():
        encoder = {"encoder": ENCODERS[task]}
        learned = {title: {**encoder, **settings} for title, settings in NETWORKS.items()}
        fixed = (
            Method(UNTRAINED, "facenet", {**encoder, "learning_rate": 0.0}),
            Method(PIXELS, "facenet", {"encoder": "flatten", "embedding_size": None}),
        )
        run = {"updates": count, "eval_every": 0, "log_every": 50, "checkpoint_every": count // 4}
        grids += [
            Grid(methods("facenet", learned, STEP_SIZES), (task,), seeds=3, run=run),
            Grid(fixed, (task,), seeds=3, run={"updates": 1, "eval_every": 0}),
        ]
    return tuple(grids)


def chosen(results: Results, network: str, task: str) -> str:
    """The method of a network with the step size that is best on a task."""
    return best(results, network, STEP_SIZES, task, "auc")


def _compared(results: Results, task: str) -> tuple[dict[str, float], str]:
    """Mean area under the curve of each network with its best step size, and a text that lists all of them with their spreads."""
    areas, shown = {}, []
    for title in (*NETWORKS, UNTRAINED, PIXELS):
        method = chosen(results, title, task) if title in NETWORKS else title
        areas[title] = float(results.means(method, task, "auc").mean())
        spread = results.means(method, task, "spread").mean()
        shown.append(f"{method} {areas[title]:.3f} (spread {spread:.2f})")
    return areas, f"area under the ROC curve: {'; '.join(shown)}"


def _verifies(results: Results, task: str) -> Verdict:
    found, shown = _compared(results, task)
    others = max(found[title] for title in (SOFTMAX, UNTRAINED, PIXELS))
    holds = found[SEMI] >= max(BARS[task], others - 0.01) and found[SEMI] > found[RANDOM]
    return Verdict(holds, shown)


SCALES: dict[Scale, tuple[Grid, ...]] = {
    "small": _grids({GLYPHS: 300, LEVELS: 100}),
    "full": _grids({GLYPHS: 6_000, LEVELS: 4_000}),
}
CRITERION = (
    "area under the ROC curve over 6,000 pairs of unseen {}, mean of 3 seeds, each network with its best step size: at least {}, at most "
    "0.01 below the best of a classifier's features, an untrained encoder and pixels, and above random triplets"
)

PAPER = Paper(
    name="facenet",
    title="FaceNet: A Unified Embedding for Face Recognition and Clustering",
    reference="Schroff et al., 2015, https://arxiv.org/abs/1503.03832",
    method=name(SEMI, STEP_SIZES[0]),
    grids=SCALES,
    minutes={"small": 30, "full": 450},
    claims=(
        Claim(
            "N1", "Triplets with semi-hard negatives give distances that verify unseen identities", CRITERION.format("glyphs", BARS[GLYPHS]),
            lambda results: _verifies(results, GLYPHS),
        ),
        Claim(
            "N2", "The same for levels of a game", CRITERION.format("levels of CoinRun", BARS[LEVELS]),
            lambda results: _verifies(results, LEVELS),
        ),
    ),
    notes="Area under the ROC curve; chance is 0.50. A spread near 0 is a collapsed embedding. Two levels often "
    "differ in their backgrounds, of which there are only a few.",
)  # fmt: skip
