"""PPO that imitates a demonstration of a humanoid from another camera, rewarded by Pr-VIPE.

This is not the table of a single paper: it shows Pr-VIPE's embedding in an agent. The controls are the reward by Procrustes distances in
the plane, which depend on the cameras, an embedding that was not trained, and the environment's own reward, the similarity in space.
"""

from typing import Any

from rlbench.benchmarks.papers._shown import returns
from rlbench.benchmarks.papers.pr_vipe import KAPPA, TASK as POSES
from rlbench.benchmarks.tables.paper import Claim, Grid, Method, Paper, Scale, Verdict
from rlbench.benchmarks.tables.results import Results

TASK = "follow-humanoid"
EMBEDDING = "Pr-VIPE's training"
MATCH, PROCRUSTES = "Pr-VIPE", "2-D Procrustes"
UNTRAINED, TRUE = "untrained Pr-VIPE", "true similarity"
ENCODER = "pose:width=256"
PPO = {
    "envs": 16, "rollout_steps": 60, "batch_size": 240, "discount": 0.8, "learning_rate": 1e-3,
}  # fmt: skip
METHODS = (
    Method(MATCH, "imitation-ppo", {**PPO, "reward_encoder": ENCODER}, pretrained=(EMBEDDING, POSES)),
    Method(PROCRUSTES, "imitation-ppo", {**PPO, "reward": "procrustes"}),
    Method(UNTRAINED, "imitation-ppo", {**PPO, "reward_encoder": ENCODER}),
    Method(TRUE, "ppo", PPO),
)  # fmt: skip


def _grids(updates: int, episodes: int, training: int, **settings: Any) -> tuple[Grid, Grid]:
    learned = {"encoder": ENCODER, "kappa": KAPPA, **settings}
    embedding = Method(EMBEDDING, "pr-vipe", learned)
    long = {
        "updates": training, "eval_every": 0, "log_every": 50, "checkpoint_every": training // 2,
    }  # fmt: skip
    run = {
        "updates": updates, "eval_every": 0, "eval_episodes": episodes, "checkpoint_every": updates // 4,
    }  # fmt: skip
    return Grid((embedding,), (POSES,), seeds=3, run=long), Grid(METHODS, (TASK,), seeds=3, run=run)


def _imitates(results: Results) -> Verdict:
    names = [method.name for method in METHODS]
    found = 100 * results.means(EMBEDDING, POSES, "exact_1")
    return Verdict(
        None,
        f"{returns(results, TASK, names)}; the embedding retrieves {found.mean():.1f} % of unseen poses first",
    )


SCALES: dict[Scale, tuple[Grid, ...]] = {
    "small": _grids(60, 20, 1_000, samples=3, batch_size=96),
    "full": _grids(1_000, 100, 50_000),
}

PAPER = Paper(
    name="policy-imitation",
    title="Imitation of a demonstration from another camera",
    reference="a table of the suite; the embedding is from Sun et al., 2020, imitation by embeddings from Sermanet et al., 2018",
    method=MATCH,
    grids=SCALES,
    minutes={"small": 10, "full": 6_000},
    claims=(
        Claim(
            "I1", "With the match probability of Pr-VIPE as its reward, a policy can imitate poses seen by another camera",
            "none: mean returns with 95 % intervals over seeds are only reported", _imitates,
        ),
    ),
    notes="Return of an episode of 60 steps, the sum of the true similarities of both poses in space; at best 60, 17.7 for a robot that "
    "keeps still. The small scale has 57,600 steps for each run.",
)  # fmt: skip
