"""A moving robot from new angles: Park et al., 2021, on captures of a simulated humanoid instead of people with phones.

Training sees each of 40 moments from one angle, and tests show the same moments from a second, synchronised camera (table 1). A field of motions
is compared with a radiance field that reads a code for each frame, and with one that treats the scene as static; then without coarse-to-fine
frequencies and without the elastic loss.
"""

from collections.abc import Mapping
from typing import Any

from rlbench.benchmarks.papers._shown import by_seed
from rlbench.benchmarks.papers._step_sizes import best, methods, name
from rlbench.benchmarks.tables.paper import Claim, Grid, Method, Paper, Scale, Verdict
from rlbench.benchmarks.tables.results import Results

TASK = "captures:humanoid"
MOTIONS, CODES, STATIC = "motions", "codes", "static"
NO_ANNEALING, NO_ELASTIC = "no annealing", "no elastic loss"
UNTRAINED = "untrained"
STEP_SIZES = (2e-3, 1e-2)
NETWORKS: Mapping[str, Mapping[str, Any]] = {
    MOTIONS: {},
    CODES: {"deformation": "latent"},
    STATIC: {"deformation": "none"},
    NO_ANNEALING: {"anneal_updates": None},
    NO_ELASTIC: {"elastic_weight": 0.0},
}
SMALL: Mapping[str, Any] = {"bands": 5, "samples": 24, "rays": 512, "elastic_weight": 0.03}
"""Fewer and lower frequencies, and a stronger elastic loss than the authors' 0.001, for short runs."""
FULL: Mapping[str, Any] = {
    "width": 256, "depth": 8, "warp_width": 128, "warp_depth": 6, "samples": 128, "fine_samples": 128, "rays": 6_144,
}  # fmt: skip
"""The authors' sizes."""


def _grids(updates: int, sizes: Mapping[str, Any]) -> tuple[Grid, ...]:
    learned = {title: {**sizes, **settings} for title, settings in NETWORKS.items()}
    run = {"updates": updates, "eval_every": 0, "log_every": 50, "checkpoint_every": updates // 4}
    untrained = Method(UNTRAINED, "nerfies", {**sizes, "learning_rate": 0.0})
    return (
        Grid(methods("nerfies", learned, STEP_SIZES), (TASK,), seeds=3, run=run),
        Grid((untrained,), (TASK,), seeds=3, run={"updates": 1, "eval_every": 0}),
    )


def chosen(results: Results, network: str) -> str:
    """The method of a network with the step size that is best inside the mask."""
    return best(results, network, STEP_SIZES, TASK, "robot_psnr")


def _means(results: Results, network: str, measure: str) -> float:
    return float(results.means(chosen(results, network), TASK, measure).mean())


def _shown(results: Results, networks: tuple[str, ...], measure: str) -> str:
    found = (chosen(results, x) if x in NETWORKS else x for x in networks)
    return ", ".join(f"{x} {by_seed(results.means(x, TASK, measure))}" for x in found)


def _motions_help(results: Results) -> Verdict:
    motions, codes, static = (
        _means(results, x, "robot_psnr") for x in (MOTIONS, CODES, STATIC)
    )  # fmt: skip
    every = MOTIONS, CODES, STATIC, UNTRAINED
    shown = (
        f"PSNR inside the mask in dB: {_shown(results, every, 'robot_psnr')}; "
        f"of whole pictures: {_shown(results, every, 'psnr')}"
    )
    return Verdict(motions >= static + 2 and static <= codes <= motions, shown)


def _parts_help(results: Results) -> Verdict:
    psnr, stretch = (
        {x: _means(results, x, measure) for x in (MOTIONS, NO_ANNEALING, NO_ELASTIC)}
        for measure in ("robot_psnr", "stretch")
    )
    holds = all(
        psnr[x] <= psnr[MOTIONS] - 0.3 or stretch[x] > stretch[MOTIONS]
        for x in (NO_ANNEALING, NO_ELASTIC)
    )
    shown = (
        f"PSNR inside the mask in dB: {_shown(results, tuple(psnr), 'robot_psnr')}; mean |log s|: "
        + ", ".join(f"{x} {y:.3f}" for x, y in stretch.items())
    )
    return Verdict(holds, shown)


def _codes_encode(results: Results) -> Verdict:
    means = (
        f"{x} {_means(results, x, 'pose_r2'):.2f}" for x in (MOTIONS, CODES)
    )  # fmt: skip
    return Verdict(None, f"R^2 of the joints' angles: {', '.join(means)}")


SCALES: dict[Scale, tuple[Grid, ...]] = {
    "small": _grids(1_000, SMALL),
    "full": _grids(250_000, FULL),
}
BEST = "mean of 3 seeds, each network with its best step size"

PAPER = Paper(
    name="nerfies",
    title="Nerfies: Deformable Neural Radiance Fields",
    reference="Park et al., 2021, https://arxiv.org/abs/2011.12948",
    method=name(MOTIONS, STEP_SIZES[0]),
    grids=SCALES,
    minutes={"small": 45, "full": 400_000},
    claims=(
        Claim(
            "Z1", "A field of motions shows moving things from new angles better than a static field and one with codes",
            f"PSNR inside the robot's mask, {BEST}: motions at least 2 dB above static, and codes not above motions and not below static",
            _motions_help,
        ),
        Claim(
            "Z2", "Coarse-to-fine frequencies and the elastic loss help",
            f"{BEST}: without each of them, PSNR inside the robot's mask is at least 0.3 dB lower, or the Jacobian's mean |log s| is larger",
            _parts_help,
        ),
        Claim(
            "Z3", "The codes of the frames encode the pose", "none: the paper has no poses; R^2 of a linear map, each frame by a map fitted to all others",
            _codes_encode,
        ),
    ),
    notes="PSNR in dB on pictures from a camera that training does not see, inside the robot's mask.",
)  # fmt: skip
