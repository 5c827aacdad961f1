"""ResNet: He et al., 2016, residual learning against the degradation of deep plain networks.

The paper's claim is about optimisation: a deeper plain network has a higher error on its training data,
a deeper residual network does not (figures 1 and 6). So accuracy on the training examples decides.
"""

from typing import Any

import numpy as np

from rlbench.benchmarks.tables.paper import Claim, Grid, Method, Paper, Scale, Verdict
from rlbench.benchmarks.tables.results import Results
from rlbench.benchmarks.training.formats import TRAIN

KINDS = {"plain": "none", "residual": "identity"}
"""The paper's name of a network to the shortcut of its units."""
STEP_SIZES = (0.1, 0.03, 0.01)
DEPTHS: dict[Scale, tuple[int, ...]] = {"small": (1, 3, 9), "full": (3, 9, 18)}
"""Units in each of the three stages; 18 make ResNet-110."""
TASK: dict[Scale, str] = {"small": "digits", "full": "glyphs"}


def encoder(units: int, width: int, **unit: str) -> str:
    """A network with batch normalisation, as in the paper; `unit` are shortcut and order."""
    words = {"units": units, "width": width, "norm": "bn", **unit}
    return "resnet:" + ",".join(f"{name}={value}" for name, value in words.items())


def name(kind: str, units: int, step_size: float) -> str:
    """The method's name, with the number of units in the whole network."""
    return f"{kind}, {3 * units} units, {step_size}"


def _grid(scale: Scale, units: int) -> Grid:
    width, settings, run = SCALES[scale]
    return Grid(
        tuple(
            Method(
                name(kind, units, step_size),
                "classifier",
                {
                    "encoder": encoder(units, width, shortcut=shortcut),
                    "learning_rate": step_size,
                    **settings,
                },
            )
            for kind, shortcut in KINDS.items()
            for step_size in STEP_SIZES
        ),
        (TASK[scale],),
        seeds=3,
        run=run,
    )


SCALES: dict[Scale, tuple[int, dict[str, Any], dict[str, Any]]] = {
    # 8 epochs of 1,437 digits.
    "small": (8, {}, {"updates": 176, "eval_every": 44, "log_every": 4, "checkpoint_every": 0}),
    "full": (
        16,
        {"batch_size": 128},
        {"updates": 64_000, "eval_every": 4_000, "log_every": 500, "checkpoint_every": 4_000},
    ),
}
"""Width of the first stage, settings and lengths; the paper trains for 64,000 updates of 128 images."""


def trained(
    results: Results, kind: str, units: int, task: str
) -> tuple[float, np.ndarray[Any, Any]]:
    """The step size that fits the training examples best, and the accuracy of its seeds on them."""
    found = {
        step_size: results.means(name(kind, units, step_size), task, "accuracy", TRAIN)
        for step_size in STEP_SIZES
    }
    best = max(found, key=lambda step_size: found[step_size].mean())
    return best, found[best]


def scale_of(results: Results) -> Scale:
    """The scale to which the task of the results belongs."""
    return "full" if any(run.task == TASK["full"] for run in results.all) else "small"


def _degradation(results: Results) -> Verdict:
    scale = scale_of(results)
    task, (shallow, *_, deep) = TASK[scale], DEPTHS[scale]
    parts, accuracy = [], {}
    for units in DEPTHS[scale]:
        for kind in KINDS:
            step_size, values = trained(results, kind, units, task)
            accuracy[kind, units] = values
            parts.append(
                f"{kind}, {3 * units} units: {values.mean():.3f} (lowest {values.min():.3f}, step size "
                f"{step_size})"
            )
    holds = (
        accuracy["residual", deep].min() >= 0.98
        and accuracy["plain", deep].max() <= 0.60
        and accuracy["plain", shallow].min() >= 0.95
    )
    return Verdict(bool(holds), f"accuracy on training examples, {'; '.join(parts)}")


R1 = Claim(
    "R1",
    "Deep plain networks are harder to train; residual networks are not",
    f"accuracy on the training examples, each network with the best of {len(STEP_SIZES)} step sizes, every "
    "seed: at least 0.98 for the deepest residual network, at most 0.60 for the deepest plain one, at least "
    "0.95 for the shallowest plain one",
    _degradation,
)

PAPER = Paper(
    name="resnet",
    title="Deep Residual Learning for Image Recognition",
    reference="He et al., 2016, https://arxiv.org/abs/1512.03385",
    method=name("residual", DEPTHS["small"][-1], STEP_SIZES[0]),
    grids={
        "small": tuple(_grid("small", units) for units in DEPTHS["small"]),
        "full": tuple(_grid("full", units) for units in DEPTHS["full"]),
    },
    minutes={"small": 5, "full": 20_000},
    claims=(R1,),
    notes="Accuracy on test examples; chance is 0.10. A unit is two 3x3 convolutions with batch "
    "normalisation. Small scale: 8 epochs of scikit-learn's 8x8 digits, width 8. Full scale: the paper's "
    "widths, depths and lengths on 28x28 glyphs, not yet run; the paper's images are not part of the suite. "
    "The step size rises and falls once instead of falling in steps.",
)
