"""PPO on CoinRun with encoders from several papers: size, normalisation, and an encoder from segmentation.

This is not the table of a single paper: it shows MobileNetV2, ResNet, batch normalisation and FCN in an agent.
"""

from typing import Any

import numpy as np

from rlbench.benchmarks.papers._shown import returns
from rlbench.benchmarks.tables import statistics
from rlbench.benchmarks.tables.paper import Claim, Grid, Method, Paper, Scale, Verdict
from rlbench.benchmarks.tables.results import Missing, Results
from rlbench.benchmarks.training.formats import HELD_OUT

TASK, FRAMES = "coinrun", "frames-procgen:coinrun"
PPO = {
    "envs": 32, "rollout_steps": 64, "batch_size": 256, "epochs": 2, "hidden": (256,), "discount": 0.999,
    "learning_rate": 5e-4, "entropy_coefficient": 0.01, "normalise_reward": True,
}  # fmt: skip
ENCODERS = {
    "Nature": "nature",
    "IMPALA": "impala",
    "ResNet": "resnet:units=1,width=8",
    "MobileNetV2": "mobilenet-v2:width=0.35,stem=2",
}
NORMS = {
    "Nature, group norm": "nature:norm=gn",
    "Nature, batch norm": "nature:norm=bn",
}
OF_BATCH = "Nature, batch norm by the batch"
"""With the statistics of the batch, which has 32 observations in acting and 256 in learning."""
SAME, OTHER = 1e-6, 1e-4
"""Divergences in nats: below the first, a policy counts as unchanged; above the second, as a different one."""
SEGMENTER, PRETRAINED = "segmenter", "IMPALA, pretrained"


def ppo(encoder: str) -> dict[str, Any]:
    """Settings of PPO with an encoder."""
    return {**PPO, "encoder": encoder}


METHODS = (
    *(Method(name, "ppo", ppo(encoder)) for name, encoder in (ENCODERS | NORMS).items()),
    Method(
        # Without noise, IBAC-SNI is PPO; its batch normalisation is as in its authors' code.
        OF_BATCH, "ibac-sni",
        {
            **ppo("nature"), "batch_norm": True, "noise": "none", "mixture": 1.0, "hidden": (), "code_size": 256,
            "augment": False, "weight_decay": 0.0, "value_clip_range": None, "value_coefficient": 0.5,
            "decay_updates": None,
        },
    ),
    Method(PRETRAINED, "ppo", ppo("impala"), pretrained=(SEGMENTER, FRAMES)),
)  # fmt: skip


def _grids(updates: int, episodes: int) -> tuple[Grid, Grid]:
    segmenter = Method(
        SEGMENTER, "segmenter", {"encoder": "impala", "head": "fcn-8s", "learning_rate": 3e-3}
    )
    long = {"updates": 1_000, "data_size": 2_000, "eval_every": 0, "checkpoint_every": 500}
    run = {
        "updates": updates,
        "eval_every": 0,
        "eval_episodes": episodes,
        "checkpoint_every": updates // 4,
    }
    return Grid((segmenter,), (FRAMES,), seeds=3, run=long), Grid(
        METHODS, (TASK,), seeds=3, run=run
    )


def _both(results: Results, names: tuple[str, ...]) -> str:
    return f"training levels: {returns(results, TASK, names)}; held-out levels: {returns(results, TASK, names, HELD_OUT)}"


def _encoders(results: Results) -> Verdict:
    return Verdict(None, _both(results, tuple(ENCODERS)))


def _norms(results: Results) -> Verdict:
    return Verdict(None, _both(results, ("Nature", *NORMS, OF_BATCH)))


def _first_ratio(results: Results) -> Verdict:
    """The divergence of a policy from itself, before the first step of an update."""
    running = results.metric("Nature, batch norm", TASK, "first_kl")
    of_batch = results.metric(OF_BATCH, TASK, "first_kl")
    if not (np.isfinite(running).all() and np.isfinite(of_batch).all()):
        raise Missing("the divergence was not logged")
    return Verdict(
        bool(running.max() < SAME and of_batch.min() > OTHER),
        f"nats, running statistics: at most {running.max():.1g}; statistics of the batch: "
        f"{', '.join(f'{x:.4f}' for x in of_batch)}",
    )


def _pretrained(results: Results) -> Verdict:
    names = (PRETRAINED, "IMPALA")
    parts = []
    for where, prefix in (("training", ""), ("held-out", HELD_OUT)):
        pairs = results.paired(names, TASK, lambda run, prefix=prefix: run.mean("return", prefix))  # type: ignore[misc]
        found = statistics.paired_difference(*pairs, seed=0)
        parts.append(f"{where} levels {found.point:+.2f} [{found.low:+.2f}, {found.high:+.2f}]")
    miou = 100 * results.means(SEGMENTER, FRAMES, "miou")
    return Verdict(
        None,
        f"difference in return, paired by seed: {'; '.join(parts)}; the segmenter's mean IoU is {miou.mean():.1f} %",
    )


SCALES: dict[Scale, tuple[Grid, ...]] = {"small": _grids(40, 50), "full": _grids(12_200, 500)}

PAPER = Paper(
    name="policy-encoders",
    title="Encoders of PPO on CoinRun",
    reference="a table of the suite; the encoders are from Mnih et al., 2015, Espeholt et al., 2018, He et al., 2016, and "
    "Sandler et al., 2018",
    method="IMPALA",
    grids=SCALES,
    minutes={"small": 55, "full": 20_000},
    claims=(
        Claim(
            "P1", "Encoders differ in return at an equal number of frames",
            "none: mean returns with 95 % intervals over seeds are only reported", _encoders,
        ),
        Claim(
            "P2", "Normalisation matters for the return",
            "none: mean returns with 95 % intervals over seeds are only reported", _norms,
        ),
        Claim(
            "P3", "Batch statistics in normalisation make PPO's first ratio differ from 1; running statistics do not",
            "KL divergence of the policy from itself before the first gradient step of an update, every seed: below "
            f"{SAME:g} with running statistics, above {OTHER:g} with statistics of the batch",
            _first_ratio,
        ),
        Claim(
            "P4", "An encoder that was trained to segment the game's frames is a better starting point",
            "none: the mean difference, paired by seed, is only reported", _pretrained,
        ),
    ),
    notes="Return of an episode: 10 if the coin is reached, else 0. 500 training levels, 100,000 held-out ones."
    " The small scale has 81,920 frames; the full scale has 25 million, as in Procgen's paper, and has not been run.",
)  # fmt: skip
