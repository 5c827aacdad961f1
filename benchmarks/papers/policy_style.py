"""PPO on CoinRun with frames that a style network redraws, compared with PPO without it, on levels that training never sees.

This is not the table of a single paper: it shows style transfer in an agent. The controls are PPO, and a style network that was not trained.
"""

from functools import partial
from typing import Any

from rlbench.benchmarks.papers._shown import returns
from rlbench.benchmarks.tables import statistics
from rlbench.benchmarks.tables.paper import Claim, Grid, Method, Paper, Scale, Verdict
from rlbench.benchmarks.tables.results import Result, Results
from rlbench.benchmarks.training.formats import HELD_OUT

TASK, FRAMES = "coinrun", "frames-procgen:coinrun"
PPO: dict[str, Any] = {
    "encoder": "impala", "envs": 32, "rollout_steps": 64, "batch_size": 256, "epochs": 2, "hidden": (256,), "discount": 0.999,
    "learning_rate": 5e-4, "entropy_coefficient": 0.01, "normalise_reward": True,
}  # fmt: skip
NETWORK, PLAIN, STYLED, RANDOM = "style network", "PPO", "style PPO", "style PPO, untrained network"
METHODS = (
    Method(PLAIN, "ppo", PPO),
    Method(STYLED, "style-ppo", PPO, pretrained=(NETWORK, FRAMES)),
    Method(RANDOM, "style-ppo", PPO),
)


def _grids(updates: int, episodes: int, network: int) -> tuple[Grid, Grid]:
    long = {
        "updates": network, "data_size": 2_000, "eval_every": 0, "log_every": 50, "checkpoint_every": network // 2,
    }  # fmt: skip
    run = {
        "updates": updates, "eval_every": 0, "eval_episodes": episodes, "checkpoint_every": updates // 4,
    }  # fmt: skip
    painter = Method(NETWORK, "style-network")
    return Grid((painter,), (FRAMES,), seeds=3, run=long), Grid(METHODS, (TASK,), seeds=3, run=run)


def _styles(results: Results) -> Verdict:
    names = tuple(method.name for method in METHODS)
    parts = []
    for where, prefix in (("training", ""), ("held-out", HELD_OUT)):
        pairs = results.paired(
            (STYLED, PLAIN), TASK, partial(Result.mean, name="return", prefix=prefix)
        )
        found = statistics.paired_difference(*pairs, seed=0)
        parts.append(f"{where} levels {found.point:+.2f} [{found.low:+.2f}, {found.high:+.2f}]")
    style, start = (results.means(NETWORK, FRAMES, name).mean() for name in ("style_loss", "start"))
    return Verdict(
        None,
        f"training levels: {returns(results, TASK, names)}; held-out levels: {returns(results, TASK, names, HELD_OUT)}; difference to PPO, "
        f"paired by seed: {'; '.join(parts)}; the network reduces the style loss from {start:.3g} to {style:.3g}",
    )


SCALES: dict[Scale, tuple[Grid, ...]] = {
    "small": _grids(40, 50, 500),
    "full": _grids(12_200, 500, 5_000),
}

PAPER = Paper(
    name="policy-style",
    title="PPO on CoinRun with frames in several styles",
    reference="a table of the suite; the losses are from Gatys et al., 2016, and the network from Johnson et al., 2016, and Dumoulin et al., 2017",
    method=STYLED,
    grids=SCALES,
    minutes={"small": 30, "full": 10_000},
    claims=(
        Claim(
            "Y2", "Policies that learn from frames in several styles have different returns on held-out levels",
            "none: mean returns and the difference, paired by seed, with 95 % intervals are only reported", _styles,
        ),
    ),
    notes="Return of an episode: 10 if the coin is reached, else 0. 500 training levels, 100,000 held-out ones; evaluations show the original frames. "
    "The small scale has 81,920 frames; the full scale has 25 million, as in Procgen's paper, and has not been run.",
)  # fmt: skip
