"""Hierarchical codes of images: Razavi et al., 2019, on pictures of MiniGrid's levels.

Two grids of codes, a coarse one and a fine one, are compared with a single fine grid whose larger codebook gives an image as many bits. Priors
over the coarse grid, gated PixelCNNs, have self-attention or not.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from rlbench.backbones.models.vq_vae import VQVAEConfig
from rlbench.benchmarks.papers._step_sizes import best, methods, name
from rlbench.benchmarks.tables.paper import Claim, Grid, Method, Paper, Scale, Verdict
from rlbench.benchmarks.tables.results import Results

TASK = "frames-minigrid-s64"
TWO, ONE, UNTRAINED = "two grids", "one grid", "untrained"
STEP_SIZES = (1e-3, 3e-3)
CODES, CODES_OF_ONE = 128, 431
"""Vectors of a codebook with two grids, of 16x16 and 8x8 codes, and with one, so that both need 2,240 bits for an image of 64x64 pixels."""
NETWORKS: Mapping[str, Mapping[str, Any]] = {
    TWO: {"codes": CODES},
    ONE: {"codes": CODES_OF_ONE, "top": False},
}
SMALL: Mapping[str, Any] = {"width": 32, "code_size": 16, "blocks": 1, "batch_size": 16}
"""Settings of all networks at the small scale."""
ATTENTION, NO_ATTENTION = "prior, attention", "prior"
PRIORS: Mapping[str, Mapping[str, Any]] = {ATTENTION: {"attention": 1}, NO_ATTENTION: {}}
SMALLER, USED, LOW = 0.9, 0.25, 0.4
"""Largest error of two grids compared with one, smallest perplexity as a share of the codes, largest change of low frequencies."""


def _grids(updates: int, of_priors: int, settings: Mapping[str, Any]) -> tuple[Grid, ...]:
    run = {
        "updates": updates, "data_size": 2_000, "eval_every": 0, "log_every": 50, "checkpoint_every": updates // 2,
    }  # fmt: skip
    networks = {title: {**settings, **own} for title, own in NETWORKS.items()}
    fixed = Method(UNTRAINED, "vq-vae", {**networks[TWO], "learning_rate": 0.0})
    quantiser = {**asdict(VQVAEConfig()), **networks[TWO]}
    tokens = "codes:codes={codes},size={code_size},channels={width},blocks={blocks},top=1".format(
        **quantiser
    )
    shared = {"tokens": tokens, "batch_size": 16, "width": 32, "layers": 4}
    priors = methods(
        "pixelcnn", {title: {**shared, **own} for title, own in PRIORS.items()}, STEP_SIZES,
        pretrained=(name(TWO, STEP_SIZES[-1]), TASK),
    )  # fmt: skip
    longer = {**run, "updates": of_priors, "checkpoint_every": of_priors // 2}
    return (
        Grid(methods("vq-vae", networks, STEP_SIZES), (TASK,), seeds=3, run=run),
        Grid((fixed,), (TASK,), seeds=3, run={**run, "updates": 1}),
        Grid(priors, (TASK,), seeds=3, run=longer),
    )


def chosen(results: Results, network: str) -> str:
    """The method of a network with the step size that gives the smallest error."""
    return best(results, network, STEP_SIZES, TASK, "mse", lowest=True)


def _hierarchy(results: Results) -> Verdict:
    two, one = chosen(results, TWO), chosen(results, ONE)
    pairs = results.paired((two, one), TASK, lambda run: run.mean("mse"))
    errors = [*pairs, results.means(UNTRAINED, TASK, "mse")]
    ratio = errors[0] / errors[1]
    sizes = {(two, "bottom"): CODES, (two, "top"): CODES, (one, "bottom"): CODES_OF_ONE}
    used = {
        (method, grid): float(results.means(method, TASK, f"perplexity_{grid}").min()) / size
        for (method, grid), size in sizes.items()
    }
    holds = bool((ratio <= SMALLER).all()) and min(used.values()) >= USED
    shown = ", ".join(f"{method}, {grid} {x:.0%}" for (method, grid), x in used.items())
    each = "/".join(f"{x:.2f}" for x in ratio)
    means = [f"{1e3 * x.mean():.2f}" for x in errors]
    return Verdict(
        holds,
        f"mean squared error in thousandths: {two} {means[0]}, {one} {means[1]}, untrained {means[2]}; ratio by seed {each}; perplexity as a "
        f"share of the codes: {shown}",
    )


def _low(results: Results) -> Verdict:
    low = results.means(chosen(results, TWO), TASK, "low")
    return Verdict(bool(low.mean() < LOW), f"{low.mean():.2f} of the energy")


def _priors(results: Results) -> Verdict:
    bits = {}
    for title in PRIORS:
        method = best(results, title, STEP_SIZES, TASK, "bits", lowest=True)
        bits[title] = results.means(method, TASK, "bits")
    shown = "; ".join(f"{title} {x.mean():.3f}" for title, x in bits.items())
    holds = bits[ATTENTION].mean() < bits[NO_ATTENTION].mean()
    return Verdict(
        bool(holds),
        f"bits for each code of the coarse grid: {shown}; uniform {math.log2(CODES):.0f}",
    )


SCALES: dict[Scale, tuple[Grid, ...]] = {
    "small": _grids(1_000, 400, SMALL),
    "full": _grids(20_000, 20_000, {}),
}

PAPER = Paper(
    name="vq-vae-2",
    title="Generating Diverse High-Fidelity Images with VQ-VAE-2",
    reference="Razavi et al., 2019, https://arxiv.org/abs/1906.00446",
    method=name(TWO, STEP_SIZES[0]),
    grids=SCALES,
    minutes={"small": 60, "full": 5_000},
    claims=(
        Claim(
            "W1a", "Two levels of codes reconstruct images better than one of equal size",
            f"mean squared error of test images, each with its best step size: at most {SMALLER} times that of one grid in each of 3 seeds; "
            f"perplexity of the codes of each grid at least {USED:.0%} of their number", _hierarchy,
        ),
        Claim(
            "W1b", "The coarse grid holds the layout and the fine one the details",
            f"energy of the change at low frequencies if the fine codes come from another image, compared with exchanging both, mean of 3 seeds: "
            f"below {LOW}", _low,
        ),
        Claim(
            "W2", "Self-attention improves the prior over the coarse grid",
            "bits for each code of the coarse grid of test images, mean of 3 seeds, each prior with its best step size: fewer with one layer of "
            "self-attention than without", _priors,
        ),
    ),
    notes=f"Both have {256 * math.log2(CODES) + 64 * math.log2(CODES):.0f} bits for an image.",
)  # fmt: skip
