"""Spatial pyramid pooling: He et al., 2014, one network for images of all sizes (sections 2.3 and 3.1).

Networks learn from whole levels of MiniGrid in pictures of 48 and 64 pixels and are tested on these sizes and three others.
Networks without such a head need all images in one size, so they see them resized or cropped. The same
head lets one policy act in rooms of sizes that it was not trained on.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlbench.benchmarks.tables import statistics
from rlbench.benchmarks.tables.paper import AnalysisGrid, Claim, Grid, Method, Paper, Scale, Verdict
from rlbench.benchmarks.tables.results import Missing, Results

TASK = "frames-minigrid-s48-64"
SIZES = {48: True, 64: True, 40: False, 80: False, 96: False}
"""Pixels of a side, and whether the network learned from such images."""
LABELS = ("quadrant", "door")
"""The quadrant of the level that the agent is in, and the colour of the door, wherever the door is."""
SPP, GAP, RESIZED, CROPPED = "SPP", "mean of the map", "resized", "cropped"
HEADS = {
    SPP: "head=spp,padding=trim",
    GAP: "head=gap,padding=trim",
    RESIZED: "head=flatten,padding=resize",
    CROPPED: "head=flatten,padding=crop",
}
STEP_SIZES = (0.1, 0.03)

ROOMS = "minigrid-empty-5-6-8"
ROOM_SIZES = (5, 6, 7, 8, 10, 12, 16)
PPO = {
    "envs": 16, "rollout_steps": 64, "batch_size": 256, "epochs": 4, "hidden": (64,), "learning_rate": 1e-3,
    "entropy_coefficient": 0.01,
}  # fmt: skip


def size_task(size: int) -> str:
    """The source of images of one size."""
    return f"frames-minigrid-s{size}"


def name(head: str, label: str, step_size: float) -> str:
    """The method's name."""
    return f"{head}, {label}, {step_size}"


def policy(head: str) -> str:
    """The name of PPO with a head."""
    return f"PPO, {head}"


def _classifiers(label: str, run: Mapping[str, Any]) -> Grid:
    methods = tuple(
        Method(
            name(head, label, size), "classifier",
            {
                "encoder": f"resnet:units=1,width=8,{options}", "label": label, "learning_rate": size,
                "cycle_updates": run["updates"],
            },
        )
        for head, options in HEADS.items()
        for size in STEP_SIZES
    )  # fmt: skip
    return Grid(methods, (TASK,), seeds=3, run=run)


def _policies(run: Mapping[str, Any]) -> Grid:
    methods = tuple(
        Method(policy(head), "ppo", {**PPO, "encoder": f"resnet:units=1,width=4,{HEADS[head]}"})
        for head in (SPP, GAP)
    )
    return Grid(methods, (ROOMS,), seeds=3, run=run)


def _analyses(episodes: int) -> tuple[AnalysisGrid, ...]:
    sizes = tuple(map(size_task, SIZES))
    rooms = tuple(f"minigrid-empty-{size}" for size in ROOM_SIZES)
    every = [name(head, label, size) for head in HEADS for label in LABELS for size in STEP_SIZES]
    return (
        *(AnalysisGrid("other-tasks", (method,), (TASK,), 3, {"tasks": sizes}) for method in every),
        *(
            AnalysisGrid("other-tasks", (policy(head),), (ROOMS,), 3, {"tasks": rooms, "episodes": episodes})
            for head in (SPP, GAP)
        ),
    )  # fmt: skip


def accuracies(results: Results, head: str, label: str) -> dict[int, NDArray[Any]]:
    """Accuracy in % by size, [R seeds] each, with the step size that is best at the training sizes."""
    found = {}
    for step_size in STEP_SIZES:
        each = results.analysed("other-tasks", name(head, label, step_size), TASK)
        found[step_size] = {
            size: np.array([100 * x.numbers[f"{size_task(size)}: accuracy"] for x in each])
            for size in SIZES
        }
    return max(found.values(), key=lambda by_size: _mean(by_size, learned=True))


def _mean(by_size: Mapping[int, NDArray[Any]], *, learned: bool) -> float:
    """Mean over seeds and over the training sizes, or over the other sizes."""
    return float(np.mean([by_size[size] for size, mine in SIZES.items() if mine == learned]))


def _all_sizes(results: Results) -> Verdict:
    holds, parts = True, []
    for label in LABELS:
        found = {head: accuracies(results, head, label) for head in HEADS}
        known = {head: _mean(x, learned=True) for head, x in found.items()}
        new = {head: _mean(x, learned=False) for head, x in found.items()}
        holds &= known[SPP] >= max(known.values()) - 1
        holds &= new[SPP] >= max(new[RESIZED], new[CROPPED]) + 10
        each = "; ".join(
            f"{head}: " + ", ".join(f"{found[head][size].mean():.1f}" for size in sorted(SIZES))
            for head in HEADS
        )
        parts.append(f"{label}, at {', '.join(map(str, sorted(SIZES)))} pixels, {each}")
    return Verdict(holds, f"accuracy in %, {'. '.join(parts)}")


def _where(results: Results) -> Verdict:
    found = {head: accuracies(results, head, "quadrant") for head in (SPP, GAP)}
    means = {head: float(np.mean(list(x.values()))) for head, x in found.items()}
    shown = ", ".join(f"{head} {mean:.1f} %" for head, mean in means.items())
    return Verdict(
        means[SPP] > means[GAP], f"accuracy on the quadrant, mean over all sizes: {shown}"
    )


def _rooms(results: Results) -> Verdict:
    parts = []
    for head in (SPP, GAP):
        each = results.analysed("other-tasks", policy(head), ROOMS)
        rows = []
        for size in ROOM_SIZES:
            returns = np.array([x.numbers[f"minigrid-empty-{size}: return"] for x in each])
            if len(returns) < 2:
                raise Missing("an interval needs two seeds")
            mean = statistics.bootstrap_interval(statistics.mean, returns[:, None], seed=0)
            rows.append(f"{size}: {mean.point:.2f} [{mean.low:.2f}, {mean.high:.2f}]")
        parts.append(f"{head}: {', '.join(rows)}")
    return Verdict(None, f"return by cells of a side; {'; '.join(parts)}")


def _grids(examples: Mapping[str, Any], rooms: Mapping[str, Any]) -> tuple[Grid, ...]:
    return (*(_classifiers(label, examples) for label in LABELS), _policies(rooms))


SCALES: dict[Scale, tuple[Grid, ...]] = {
    "small": _grids(
        {"updates": 400, "eval_every": 0, "log_every": 20, "checkpoint_every": 400},
        {"updates": 40, "eval_every": 0, "eval_episodes": 20, "checkpoint_every": 20},
    ),
    "full": _grids(
        {"updates": 5_000, "eval_every": 1_000, "log_every": 100, "checkpoint_every": 1_000},
        {"updates": 1_000, "eval_every": 100, "eval_episodes": 50, "checkpoint_every": 100},
    ),
}

PAPER = Paper(
    name="spp",
    title="Spatial Pyramid Pooling in Deep Convolutional Networks for Visual Recognition",
    reference="He et al., 2014, https://arxiv.org/abs/1406.4729",
    method=name(SPP, "quadrant", STEP_SIZES[0]),
    grids=SCALES,
    analyses={"small": _analyses(20), "full": _analyses(500)},
    minutes={"small": 20, "full": 1_500},
    claims=(
        Claim(
            "S1", "A network with spatial pyramid pooling classifies images of all sizes",
            "accuracy, mean of 3 seeds, each network with its best step size, both labels: at the training sizes at most 1 "
            "point below the best, at other sizes at least 10 points above resizing and cropping",
            _all_sizes,
        ),
        Claim(
            "S2", "It preserves where things are; the mean of the map does not",
            "accuracy on the quadrant, mean over all sizes: higher with SPP than with the mean of the map", _where,
        ),
        Claim(
            "S3", "A policy with spatial pyramid pooling acts in rooms of other sizes (ours)",
            "none: returns with 95 % intervals over seeds are only reported", _rooms,
        ),
    ),
    notes="Accuracy on 1,000 levels of the training sizes; chance is 0.25 for the quadrant and 0.17 for the door. A "
    "batch has images of both sizes, where the paper has one size per epoch. The policy learns in rooms of 5, 6 and 8 cells.",
)  # fmt: skip
