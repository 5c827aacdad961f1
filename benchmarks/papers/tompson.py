"""Joint training of a ConvNet and a spatial model for pose: Tompson et al., 2014, on simulated robots instead of people.

Key points of HalfCheetah in frames with pasted limbs, in place of the other people in the paper's photographs. A part detector alone,
a spatial model trained on the finished detector, and both trained together are compared at one and at two resolutions. The
head of the detector has 1x1 convolutions, so that at one resolution it sees a quarter of the robot, as the paper's detector sees of a person.
"""

from collections.abc import Mapping
from typing import Any

from rlbench.benchmarks.papers._step_sizes import best, methods, name
from rlbench.benchmarks.tables.paper import Claim, Grid, Method, Paper, Scale, Verdict
from rlbench.benchmarks.tables.results import Results

TASK = "frames-mujoco-clutter:halfcheetah"
JOINT, STAGED, DETECTOR, UNTRAINED = "joint", "staged", "detector", "untrained"
TWO = ", two resolutions"
STEP_SIZES = (3e-3, 1e-2)
LIGHT = {"encoder": "conv4:layers=2,width=8,norm=gn", "width": 16, "kernel": 1}
"""Settings that all networks share."""


def _grids(updates: int) -> tuple[Grid, ...]:
    long = {"detector_updates": updates // 2, "spatial_updates": updates // 6}
    networks: Mapping[str, Mapping[str, Any]] = {
        stages + resolutions: {**LIGHT, **long, "stages": stages, "branches": branches}
        for branches, resolutions in ((1, ""), (2, TWO))
        for stages in (JOINT, STAGED, DETECTOR)
    }
    untrained = Method(UNTRAINED, "pose-mrf", {**LIGHT, "stages": DETECTOR, "learning_rate": 0.0})
    run = {
        "updates": updates, "data_size": 2_000, "eval_every": 0, "log_every": 50, "checkpoint_every": updates // 4,
    }  # fmt: skip
    return (
        Grid(methods("pose-mrf", networks, STEP_SIZES), (TASK,), seeds=3, run=run),
        Grid((untrained,), (TASK,), seeds=3, run={"updates": 1, "data_size": 2_000, "eval_every": 0}),
    )  # fmt: skip


def _found(results: Results) -> tuple[dict[str, dict[str, float]], str]:
    """Means of the measures of each network with its best step size, in percent and pixels, and a text that lists them."""
    found, shown = {}, []
    for title in (*(x + y for y in ("", TWO) for x in (JOINT, STAGED, DETECTOR)), UNTRAINED):
        method = title if title == UNTRAINED else best(results, title, STEP_SIZES, TASK, "pck")
        found[title] = own = {
            measure: scale * float(results.means(method, TASK, measure).mean())
            for measure, scale in (("pck", 100), ("clean_pck", 100), ("error", 1))
        }
        shown.append(f"{method} {own['pck']:.1f}/{own['clean_pck']:.1f}/{own['error']:.2f}")
    words = "correct key points in %, the same without clutter, mean error in pixels"
    return found, f"{words}: {'; '.join(shown)}"


def _corrects(results: Results) -> Verdict:
    found, shown = _found(results)
    joint, staged, alone = (found[x] for x in (JOINT, STAGED, DETECTOR))
    holds = (
        joint["pck"] >= alone["pck"] + 5
        and joint["pck"] >= staged["pck"]
        and joint["clean_pck"] >= alone["clean_pck"] - 1
    )
    return Verdict(holds, shown)


def _resolutions(results: Results) -> Verdict:
    found, shown = _found(results)
    return Verdict(found[JOINT + TWO]["pck"] >= found[JOINT]["pck"], shown)


SCALES: dict[Scale, tuple[Grid, ...]] = {"small": _grids(600), "full": _grids(6_000)}

PAPER = Paper(
    name="tompson",
    title="Joint Training of a Convolutional Network and a Graphical Model for Human Pose Estimation",
    reference="Tompson et al., 2014, https://arxiv.org/abs/1406.2984",
    method=name(JOINT, STEP_SIZES[0]),
    grids=SCALES,
    minutes={"small": 30, "full": 300},
    claims=(
        Claim(
            "J1", "A spatial model that is trained together with the detector removes false peaks",
            "share of the visible key points at most 1.5 cells away, in 1,000 frames with clutter, mean of 3 seeds, each network with its best "
            "step size, at one resolution: joint training at least 5 points above the detector alone, and not below the spatial model on a "
            "finished detector; in the same frames without clutter at most 1 point below the detector",
            _corrects,
        ),
        Claim(
            "J2", "A second resolution finds more key points",
            "the same share after joint training: two resolutions not below one", _resolutions,
        ),
    ),
    notes="A cell has 4x4 pixels, and a frame 16x16 cells. All networks have the same number of updates.",
)  # fmt: skip
