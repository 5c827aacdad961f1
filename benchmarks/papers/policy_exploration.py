"""PPO on MultiRoom without a bonus, with pseudo-counts, and with novelty within an episode.

This is not the table of a single paper: it shows the gated PixelCNN in an agent. Rewards are sparse: the goal alone gives one, and in
a level of three rooms two doors are on the way.
"""

from typing import Any

from rlbench.benchmarks.papers._shown import returns
from rlbench.benchmarks.tables.paper import Claim, Grid, Method, Paper, Scale, Verdict
from rlbench.benchmarks.tables.results import Results
from rlbench.benchmarks.training.formats import HELD_OUT

TASKS = ("multiroom-n2", "multiroom-n3")
PPO: dict[str, Any] = {
    "encoder": "one-hot-grid", "envs": 16, "rollout_steps": 128, "batch_size": 256, "epochs": 4, "learning_rate": 1e-3,
    "entropy_coefficient": 0.01,
}  # fmt: skip
PLAIN, COUNTS, NOVELTY = "PPO", "pseudo-counts", "novelty"
METHODS = (
    Method(PLAIN, "ppo", PPO),
    Method(COUNTS, "count-ppo", {**PPO, "levels": 11, "quantise": False, "density_width": 15}),
    Method(NOVELTY, "novelty-ppo", {**PPO, "bonus_encoder": "one-hot-grid"}),
)


def _grids(updates: int, episodes: int) -> tuple[Grid, ...]:
    run = {
        "updates": updates, "eval_every": updates // 2, "eval_episodes": episodes, "checkpoint_every": updates // 2,
    }  # fmt: skip
    return (Grid(METHODS, TASKS, seeds=3, run=run),)


def _compared(results: Results) -> Verdict:
    names = [method.name for method in METHODS]
    shown = [
        f"{task}: {returns(results, task, names)}; held-out levels: {returns(results, task, names, HELD_OUT)}"
        for task in TASKS
    ]
    return Verdict(None, "; ".join(shown))


SCALES: dict[Scale, tuple[Grid, ...]] = {"small": _grids(20, 50), "full": _grids(1_000, 500)}

PAPER = Paper(
    name="policy-exploration",
    title="Bonuses for exploration in PPO on MultiRoom",
    reference="a table of the suite; the bonuses are after Ostrovski et al., 2017, and Badia et al., 2020",
    method=COUNTS,
    grids=SCALES,
    minutes={"small": 60, "full": 3_000},
    claims=(
        Claim(
            "B1", "A bonus for new observations changes returns when rewards are sparse",
            "none: mean returns with 95 % intervals over seeds are only reported", _compared,
        ),
    ),
    notes="Returns are from 0 to 1 and count the rewards of the environment alone. The small scale has 40,960 steps.",
)  # fmt: skip
