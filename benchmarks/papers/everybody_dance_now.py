"""Everybody Dance Now: Chan et al., 2019 (tables 1 and 2), on two simulated robots instead of people.

A network that draws the target from stick figures of the source is compared with one that draws frame by frame, with its correction of the face, with
an untrained network, and with copies of training frames. The true pictures of the transfer are known.
"""

from collections.abc import Mapping
from typing import Any

from rlbench.benchmarks.papers._step_sizes import best, methods, name
from rlbench.benchmarks.tables.paper import Claim, Grid, Method, Paper, Scale, Verdict
from rlbench.benchmarks.tables.results import Results

TASK = "motion-pairs:halfcheetah"
SMOOTHED, SINGLE, UNTRAINED, COPIES = "smoothed", "frame by frame", "untrained", "nearest frame"
STEP_SIZES = (3e-4, 1e-3)
FLICKER, SIMILARITY, FACE = 0.9, 0.005, 0.95
"""Largest ratio of the flicker with and without smoothing, largest loss of similarity, and largest ratio of the face's error with and without
its correction."""


def _grids(main: int, face: int) -> tuple[Grid, ...]:
    networks: Mapping[str, Mapping[str, Any]] = {
        SMOOTHED: {"face_after": main}, SINGLE: {"smoothing": False, "face_after": main},
    }  # fmt: skip
    run = {
        "updates": main + face, "data_size": 125, "eval_every": 0, "log_every": 50, "checkpoint_every": main // 2,
    }  # fmt: skip
    once = {"updates": 1, "data_size": 125, "eval_every": 0}
    copies = {"updates": 1, "data_size": 125, "eval_every": 0}
    return (
        Grid(methods("dance", networks, STEP_SIZES), (TASK,), seeds=3, run=run),
        Grid((Method(UNTRAINED, "dance", {"learning_rate": 0.0}),), (TASK,), seeds=3, run=once),
        Grid((Method(COPIES, "nearest-frame", {"batch_size": 125}),), (TASK,), seeds=3, run=copies),
    )


def chosen(results: Results, network: str) -> str:
    """The method of a network with the step size that gives the largest similarity."""
    return best(results, network, STEP_SIZES, TASK, "ssim")


def _all(results: Results) -> tuple[str, ...]:
    return (chosen(results, SMOOTHED), chosen(results, SINGLE), COPIES, UNTRAINED)


def _mean(results: Results, method: str, measure: str) -> float:
    return float(results.means(method, TASK, measure).mean())


def _smooth(results: Results) -> Verdict:
    smoothed, single, *_ = _all(results)
    flicker = {x: _mean(results, x, "flicker") for x in _all(results)}
    similarity = {x: _mean(results, x, "ssim") for x in _all(results)}
    holds = (
        flicker[smoothed] <= FLICKER * flicker[single]
        and similarity[smoothed] >= similarity[single] - SIMILARITY
    )
    shown = "; ".join(f"{x} {flicker[x]:.4f}, {similarity[x]:.3f}" for x in _all(results))
    return Verdict(holds, f"flicker and similarity: {shown}")


def _face(results: Results) -> Verdict:
    smoothed = chosen(results, SMOOTHED)
    after, before = (_mean(results, smoothed, x) for x in ("face_error", "face_before"))
    return Verdict(
        after <= FACE * before,
        f"mean absolute error around the face of {smoothed}: {after:.4f} with the correction, {before:.4f} without",
    )


def _transfers(results: Results) -> Verdict:
    smoothed, *_ = _all(results)
    shown = "; ".join(
        f"{x} {_mean(results, x, 'ssim'):.3f}, {_mean(results, x, 'face_error'):.4f}"
        for x in (smoothed, COPIES, UNTRAINED)
    )
    return Verdict(None, f"similarity and error around the face: {shown}")


SCALES: dict[Scale, tuple[Grid, ...]] = {"small": _grids(300, 150), "full": _grids(20_000, 10_000)}
CRITERION = (
    "of 200 frames of other movements, mean of 3 seeds, each network with its best step size: "
)

PAPER = Paper(
    name="everybody-dance-now",
    title="Everybody Dance Now",
    reference="Chan et al., 2019, https://arxiv.org/abs/1808.07371",
    method=name(SMOOTHED, STEP_SIZES[0]),
    grids=SCALES,
    minutes={"small": 30, "full": 2_000},
    claims=(
        Claim(
            "E1a", "Temporal smoothing makes videos coherent and keeps their quality",
            f"{CRITERION}the flicker near the body is at most {FLICKER} times that of drawing frame by frame, and the similarity (SSIM) at most "
            f"{SIMILARITY} smaller",
            _smooth,
        ),
        Claim(
            "E1b", "A residual network for the face draws it better",
            f"{CRITERION}the absolute error around the face is at most {FACE} times the error without the correction", _face,
        ),
        Claim(
            "E1c", "The movements of one body can be drawn on another",
            "none: the similarity and the error around the face are reported, with those of the training frame with the nearest stick figure "
            "and of an untrained network",
            _transfers,
        ),
    ),
    notes="Similarity (SSIM) of 64x64 pixels, most of which are background, which copied frames draw without error. The true frames are the target robot in the poses of the source.",
)  # fmt: skip
