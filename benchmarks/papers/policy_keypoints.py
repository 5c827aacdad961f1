"""Behaviour cloning on HalfCheetah from pictures, read by the key points of a trained pose-mrf, in place of pixels.

This is not the table of a single paper: it shows the pose model in an agent. The controls are cloning from the states behind the pictures, from
pixels with two encoders, and from the key points of a network that was not trained.
"""

from typing import Any

from rlbench.benchmarks.papers._shown import by_seed, returns
from rlbench.benchmarks.papers.tompson import LIGHT
from rlbench.benchmarks.tables.paper import Claim, Grid, Method, Paper, Scale, Verdict
from rlbench.benchmarks.tables.results import Results

STATES, TASK = "halfcheetah-medium", "halfcheetah-pixels-medium"
FRAMES = "frames-mujoco:halfcheetah"
POSE, FROM_STATES, KEY_POINTS = "pose-mrf", "states", "key points"
UNTRAINED = "key points, untrained"
PIXELS = {"Nature": "nature", "IMPALA": "impala"}
READ = "keypoints:of=conv4/layers=2/width=8/norm=gn,branches=2,hidden=16,kernel=1,points=8,maps=spatial"


def cloning(encoder: str) -> dict[str, Any]:
    """Settings of behaviour cloning with an encoder."""
    return {"encoder": encoder, "batch_size": 64, "learning_rate": 1e-3}


POLICIES = (
    Method(KEY_POINTS, "bc", cloning(READ), pretrained=(POSE, FRAMES)),
    Method(UNTRAINED, "bc", cloning(READ)),
    *(Method(name, "bc", cloning(encoder)) for name, encoder in PIXELS.items()),
)


def _grids(updates: int, size: int, episodes: int, pose: int) -> tuple[Grid, ...]:
    settings = {
        **LIGHT, "learning_rate": 1e-2, "detector_updates": pose // 2, "spatial_updates": pose // 6,
    }  # fmt: skip
    long = {
        "updates": pose, "data_size": 2_000, "eval_every": 0, "log_every": 50, "checkpoint_every": pose // 2,
    }  # fmt: skip
    run = {
        "updates": updates, "data_size": size, "data": "generated", "eval_every": 0, "eval_episodes": episodes, "log_every": updates // 10,
        "checkpoint_every": updates // 4,
    }  # fmt: skip
    states = Method(FROM_STATES, "bc", cloning("flatten"))
    return (
        Grid((Method(POSE, "pose-mrf", settings),), (FRAMES,), seeds=3, run=long),
        Grid(POLICIES, (TASK,), seeds=3, run=run),
        Grid((states,), (STATES,), seeds=3, run=run),
    )


def _compared(results: Results) -> Verdict:
    found = by_seed(100 * results.means(POSE, FRAMES, "pck"))
    from_states = returns(results, STATES, [FROM_STATES])
    rest = returns(results, TASK, [method.name for method in POLICIES])
    return Verdict(None, f"{from_states}, {rest}; correct key points of pose-mrf: {found} %")


SCALES: dict[Scale, tuple[Grid, ...]] = {
    "small": _grids(500, 10_000, 5, 600),
    "full": _grids(20_000, 20_000, 20, 6_000),
}

PAPER = Paper(
    name="policy-keypoints",
    title="Key points in behaviour cloning on HalfCheetah",
    reference="a table of the suite; the pose model is from Tompson et al., 2014",
    method=KEY_POINTS,
    grids=SCALES,
    minutes={"small": 30, "full": 1_500},
    claims=(
        Claim(
            "K1", "Policies that read key points have different returns from policies that read pixels or states",
            "none: mean returns with 95 % intervals over seeds are only reported", _compared,
        ),
    ),
    notes="Return of an episode of 1,000 steps; a random policy has a return of -280. The data are 10,000 transitions of the same episodes, as states and "
    "as pictures.",
)  # fmt: skip
