"""Identity mappings: He et al., 2016, which shortcuts and activations let the signal pass (tables 1 and 2).

All variants have 27 units and learn from the same digits with the same seeds, so the training loss shows
which of them hinder optimisation.
"""

from typing import Any

import numpy as np

from rlbench.benchmarks.papers.resnet import SCALES, STEP_SIZES, TASK, encoder, scale_of
from rlbench.benchmarks.tables.paper import Claim, Grid, Method, Paper, Scale, Verdict
from rlbench.benchmarks.tables.results import Results

VARIANTS: dict[str, dict[str, str]] = {
    "identity": {},
    "full pre-activation": {"order": "full-preactivation"},
    "ReLU pre-activation": {"order": "relu-preactivation"},
    "ReLU before addition": {"order": "relu-before-addition"},
    "BN after addition": {"order": "norm-after-addition"},
    "shortcut gate": {"shortcut": "shortcut-gate"},
    "exclusive gate": {"shortcut": "exclusive-gate"},
    "1x1 convolution": {"shortcut": "conv"},
    "scaled by 0.5": {"shortcut": "scale"},
    "both scaled by 0.5": {"shortcut": "scale-both"},
    "dropout": {"shortcut": "dropout"},
}
"""Variant of the paper to shortcut and order of a unit; gates start with a bias of -6."""
UNITS: dict[Scale, int] = {"small": 9, "full": 18}
"""Units in each stage; 18 make the paper's ResNet-110."""


def name(variant: str, step_size: float = STEP_SIZES[0]) -> str:
    """The method's name; the paper's step size is left out."""
    return variant if step_size == STEP_SIZES[0] else f"{variant}, {step_size}"


def _grid(scale: Scale, step_size: float) -> Grid:
    width, settings, run = SCALES[scale]
    return Grid(
        tuple(
            Method(
                name(variant, step_size),
                "classifier",
                {
                    "encoder": encoder(UNITS[scale], width, **unit),
                    "learning_rate": step_size,
                    **settings,
                },
            )
            for variant, unit in VARIANTS.items()
        ),
        (TASK[scale],),
        seeds=3,
        run=run,
    )


def _losses(results: Results, step_size: float) -> dict[str, np.ndarray[Any, Any]]:
    """Loss of the last epoch of each seed, in nats, by variant."""
    task = TASK[scale_of(results)]
    return {x: results.metric(name(x, step_size), task, "loss") for x in VARIANTS}


def _shortcuts(results: Results) -> Verdict:
    losses = _losses(results, STEP_SIZES[0])
    mean = {variant: float(values.mean()) for variant, values in losses.items()}
    stuck = ("scaled by 0.5", "both scaled by 0.5", "dropout", "BN after addition")
    holds = (
        max(mean[x] for x in ("identity", "full pre-activation", "shortcut gate")) < 0.1
        and min(mean["1x1 convolution"], mean["exclusive gate"]) >= 3 * mean["identity"]
        and min(mean[x] for x in stuck) > 1
        and mean["identity"] < mean["ReLU before addition"] < mean["1x1 convolution"]
    )
    shown = "; ".join(
        f"{variant} {values.mean():.3f} ({values.min():.3f} to {values.max():.3f})"
        for variant, values in losses.items()
    )
    return Verdict(
        holds, f"loss of the last epoch in nats, mean of seeds (lowest to highest): {shown}"
    )


def _searched(results: Results) -> Verdict:
    by_size = {size: _losses(results, size) for size in STEP_SIZES}
    parts = []
    for variant in VARIANTS:
        best = min(STEP_SIZES, key=lambda size: by_size[size][variant].mean())
        parts.append(f"{variant} {by_size[best][variant].mean():.3f} (step size {best})")
    return Verdict(None, f"loss of the last epoch in nats, best step size: {'; '.join(parts)}")


R2 = Claim(
    "R2",
    "A shortcut that is scaled, gated or dropped hinders the signal; only the identity, or a gate that begins "
    "open, lets it pass, and what stands after the addition matters likewise",
    "mean loss of the last epoch: identity, full pre-activation and shortcut gate below 0.1; 1x1 convolution and "
    "exclusive gate at least 3 times identity; both scalings, dropout and BN after addition above 1; ReLU "
    "before addition between identity and 1x1 convolution",
    _shortcuts,
)
R2_SEARCHED = Claim(
    "R2, step sizes",
    "(not in the paper) the same with the best step size of each variant",
    "none: reported",
    _searched,
)

PAPER = Paper(
    name="identity-mappings",
    title="Identity Mappings in Deep Residual Networks",
    reference="He et al., 2016, https://arxiv.org/abs/1603.05027",
    method="identity",
    grids={
        "small": tuple(_grid("small", size) for size in STEP_SIZES),
        "full": tuple(_grid("full", size) for size in STEP_SIZES),
    },
    minutes={"small": 10, "full": 40_000},
    claims=(R2, R2_SEARCHED),
    notes="Accuracy on test examples; chance is 0.10. The paper compares test errors of ResNet-110 on "
    "CIFAR-10; at the depth of the small scale pre-activation need not be better than the original order (the "
    "paper: from 164 layers on). Full scale: ResNet-110 on 28x28 glyphs, not yet run.",
)
