"""PPO on StarPilot with the objects that a trained SSD detects, as a set and as a graph, in place of pixels.

This is not the table of a single paper: it shows SSD and the relational forward model's graph networks in an agent. The
controls are PPO with two encoders of pixels, and a detector that was not trained.
"""

from typing import Any

from rlbench.benchmarks.papers._shown import returns
from rlbench.benchmarks.tables.paper import Claim, Grid, Method, Paper, Scale, Verdict
from rlbench.benchmarks.tables.results import Results
from rlbench.benchmarks.training.formats import HELD_OUT

TASK, FRAMES = "starpilot", "objects-procgen:starpilot"
CLASSES = 7
"""Classes of StarPilot's objects."""
PPO = {
    "envs": 32, "rollout_steps": 64, "batch_size": 256, "epochs": 2, "hidden": (256,), "discount": 0.999,
    "learning_rate": 5e-4, "entropy_coefficient": 0.01, "normalise_reward": True,
}  # fmt: skip
DETECTOR, SET, GRAPH, UNTRAINED = "SSD", "objects, set", "objects, graph", "objects, untrained SSD"
PIXELS = {"Nature": "nature", "IMPALA": "impala"}
LIGHT = {"encoder": "conv4:layers=4,width=16,norm=gn", "maps": 3, "learning_rate": 3e-3}
"""Settings of the detector, which is much faster than the default one: every frame is read several times."""
READ = f"objects:of=conv4/layers=4/width=16/norm=gn,maps=3,classes={CLASSES},objects=12"
OBJECTS = {SET: READ, GRAPH: f"{READ},reads=graph"}


def ppo(encoder: str) -> dict[str, Any]:
    """Settings of PPO with an encoder."""
    return {**PPO, "encoder": encoder}


METHODS = (
    *(Method(name, "ppo", ppo(encoder)) for name, encoder in PIXELS.items()),
    *(
        Method(name, "ppo", ppo(encoder), pretrained=(DETECTOR, FRAMES))
        for name, encoder in OBJECTS.items()
    ),
    Method(UNTRAINED, "ppo", ppo(OBJECTS[SET])),
)


def _grids(updates: int, episodes: int, detector: int) -> tuple[Grid, Grid]:
    ssd = Method(DETECTOR, "ssd", LIGHT)
    long = {
        "updates": detector, "data_size": 2_000, "eval_every": 0, "log_every": 50, "checkpoint_every": detector // 2,
    }  # fmt: skip
    run = {
        "updates": updates,
        "eval_every": 0,
        "eval_episodes": episodes,
        "checkpoint_every": updates // 4,
    }
    return Grid((ssd,), (FRAMES,), seeds=3, run=long), Grid(METHODS, (TASK,), seeds=3, run=run)


def _objects(results: Results) -> Verdict:
    names = [method.name for method in METHODS]
    found = 100 * results.means(DETECTOR, FRAMES, "map")
    return Verdict(
        None,
        f"training levels: {returns(results, TASK, names)}; held-out levels: {returns(results, TASK, names, HELD_OUT)}; the detector's "
        f"mean average precision is {found.mean():.1f} %",
    )


SCALES: dict[Scale, tuple[Grid, ...]] = {
    "small": _grids(40, 50, 500),
    "full": _grids(12_200, 500, 5_000),
}

PAPER = Paper(
    name="policy-objects",
    title="Detected objects in PPO on StarPilot",
    reference="a table of the suite; the detector is from Liu et al., 2016, and the graph networks from Tacchetti et al., 2019",
    method=SET,
    grids=SCALES,
    minutes={"small": 45, "full": 20_000},
    claims=(
        Claim(
            "D1", "Policies that read detected objects have different returns from policies that read pixels",
            "none: mean returns with 95 % intervals over seeds are only reported", _objects,
        ),
    ),
    notes="Return of an episode: one for each enemy that is destroyed, and ten at the end of the level. 500 training levels, "
    "100,000 held-out ones. The small scale has 81,920 frames; the full scale has 25 million, as in Procgen's paper, and has not been run.",
)  # fmt: skip
