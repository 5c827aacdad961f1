"""Attacks on an agent that reads pixels: PPO in MiniGrid's empty room of 5x5 cells.

This is not the table of a single paper: it shows what changes to pixels, too small to be seen, do to an agent, compared with noise of the same size.
"""

from rlbench.benchmarks.papers.adversarial_examples import ANALYSIS, attacked_returns
from rlbench.benchmarks.tables.paper import AnalysisGrid, Claim, Grid, Method, Paper, Scale, Verdict
from rlbench.benchmarks.tables.results import Results

ROOM = "minigrid-empty-5"
PPO = "PPO"
BUDGETS = (0.004, 0.01, 0.03)
"""0.004 is one level of a byte."""
SETTINGS = {
    "encoder": "nature", "envs": 16, "rollout_steps": 32, "batch_size": 128, "epochs": 4, "hidden": (64,), "learning_rate": 5e-4,
    "entropy_coefficient": 0.01,
}  # fmt: skip


def _grids(updates: int) -> tuple[Grid, ...]:
    run = {
        "updates": updates, "eval_every": 0, "eval_episodes": 20, "log_every": 10, "checkpoint_every": updates // 2,
    }  # fmt: skip
    return (Grid((Method(PPO, "ppo", SETTINGS),), (ROOM,), seeds=3, run=run),)


def _analyses(steps: int, episodes: int) -> tuple[AnalysisGrid, ...]:
    settings = {"budgets": BUDGETS, "steps": steps, "episodes": episodes}
    return (AnalysisGrid(ANALYSIS, (PPO,), (ROOM,), 3, settings),)


def _blind(results: Results) -> Verdict:
    found = results.analysed(ANALYSIS, PPO, ROOM)
    shown = attacked_returns(found, BUDGETS)
    return Verdict(None, f"return by budget, mean and 95 % interval of the seeds: {shown}")


SCALES: dict[Scale, tuple[Grid, ...]] = {"small": _grids(40), "full": _grids(1_000)}

PAPER = Paper(
    name="policy-attacks",
    title="Adversarial attacks on a policy that reads pixels",
    reference="a table of the suite; attacks on policies are from Huang et al., 2017, https://arxiv.org/abs/1702.02284",
    method=PPO,
    grids=SCALES,
    minutes={"small": 20, "full": 400},
    analyses={"small": _analyses(5, 20), "full": _analyses(20, 100)},
    claims=(
        Claim(
            "P1", "Changes to pixels that cannot be seen make an agent fail, and noise of the same size does not",
            "none: mean returns by budget with 95 % intervals over seeds are only reported", _blind,
        ),
    ),
    notes="Mean return of 20 episodes; a solved episode has a return of nearly 1. Budgets limit the largest change of a value, and values are from 0 to 1.",
)  # fmt: skip
