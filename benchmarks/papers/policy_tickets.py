"""Lottery tickets of a policy: from one level of MiniGrid to another, and from PPO to behaviour cloning.

This is not the table of a single paper: it shows tickets in agents. PPO's encoder is pruned to about a tenth of its weights in an empty room; what is left
restarts from its early weights in PPO on a level with a door and a key, and in a classifier that imitates PPO in the first level. The controls are encoders of
which as many weights were left at random, and whole encoders.
"""

from rlbench.benchmarks.papers._shown import acted, interval, returns
from rlbench.benchmarks.tables.paper import (
    AnalysisGrid,
    Claim,
    Grid,
    Method,
    Paper,
    Recording,
    Scale,
    Verdict,
)
from rlbench.benchmarks.tables.results import Results

EMPTY, DOOR = "MiniGrid-Empty-Random-6x6-v0", "MiniGrid-DoorKey-5x5-v0"
ENCODER = "one-hot-grid:zeros=keep"
PPO = {
    "encoder": ENCODER, "envs": 16, "rollout_steps": 64, "batch_size": 256, "epochs": 4, "learning_rate": 1e-3,
    "entropy_coefficient": 0.01,
}  # fmt: skip
FINDING = {"PPO that prunes": "large_final", "PPO that prunes at random": "random"}
"""Methods of the first level to their criteria."""
TICKET, RANDOM = FINDING
WHOLE = "whole encoder"
STARTS = {"ticket": TICKET, "random ticket": RANDOM, WHOLE: None}
"""Methods of the second level and of cloning, to those that their encoders start from."""
STEPS = Recording("steps of PPO", ((TICKET, EMPTY),), size=300)
ROUNDS = 5


def _grids(round_updates: int, updates: int, cloning: int) -> tuple[Grid, ...]:
    long = {"eval_every": 0, "eval_episodes": 100, "log_every": 5}
    rounds = {"rounds": ROUNDS, "round_updates": round_updates}
    finding = tuple(
        Method(
            name,
            "tickets-ppo",
            {**PPO, "encoder": "one-hot-grid", **rounds, "criterion": criterion},
        )
        for name, criterion in FINDING.items()
    )
    given = {name: None if start is None else (start, EMPTY) for name, start in STARTS.items()}
    policies = tuple(Method(name, "ppo", PPO, pretrained=start) for name, start in given.items())
    clones = tuple(
        Method(name, "classifier", {"encoder": ENCODER, "learning_rate": 0.03}, pretrained=start)
        for name, start in given.items()
    )
    return (
        Grid(finding, (EMPTY,), 3, {**long, "updates": (ROUNDS + 1) * round_updates}),
        Grid(policies, (DOOR,), 3, {**long, "updates": updates}),
        Grid(clones, (STEPS.name,), 3, {"eval_every": 0, "updates": cloning}, recordings=(STEPS,)),
    )


def _analyses(episodes: int) -> tuple[AnalysisGrid, ...]:
    settings = {"task": EMPTY, "episodes": episodes}
    return tuple(AnalysisGrid("acting", (name,), (STEPS.name,), 3, settings) for name in STARTS)


def _found(results: Results) -> Verdict:
    kept = 100 * results.metric(TICKET, EMPTY, "kept").mean()
    return Verdict(None, f"return, {returns(results, EMPTY, FINDING)}; {kept:.1f} % of the weights are left")  # fmt: skip


def _transferred(results: Results) -> Verdict:
    found = {name: results.means(name, DOOR, "return").mean() for name in STARTS}
    return Verdict(
        bool(found["ticket"] >= found["random ticket"] + 0.03 and found["ticket"] >= found[WHOLE] - 0.02),
        f"return, {returns(results, DOOR, STARTS)}",
    )  # fmt: skip


def _cloned(results: Results) -> Verdict:
    shown = ", ".join(f"{name} {interval(acted(results, name, STEPS.name))}" for name in STARTS)
    return Verdict(None, f"return of clones, {shown}")


SCALES: dict[Scale, tuple[Grid, ...]] = {
    "small": _grids(30, 100, 300),
    "full": _grids(500, 2_000, 2_000),
}

PAPER = Paper(
    name="policy-tickets",
    title="Lottery tickets of a policy",
    reference="a table of the suite; tickets are from Frankle and Carbin, 2019, in reinforcement learning from Yu et al., 2020, "
    "https://arxiv.org/abs/1906.02768, their transfer from Morcos et al., 2019",
    method=TICKET,
    grids=SCALES,
    minutes={"small": 15, "full": 400},
    analyses={"small": _analyses(100), "full": _analyses(1_000)},
    claims=(
        Claim(
            "T1", "PPO solves a level with a tenth of its encoder's weights",
            "none: mean returns with 95 % intervals over seeds are only reported", _found,
        ),
        Claim(
            "T2", "A ticket that PPO found in one level wins in another",
            "mean return of 3 seeds: at least 0.03 above random tickets, and at most 0.02 below whole encoders", _transferred,
        ),
        Claim(
            "T3", "A ticket that PPO found serves behaviour cloning",
            "none: mean returns of clones with 95 % intervals over seeds are only reported", _cloned,
        ),
    ),
    notes="Return of an episode, greedy actions: nearly 1 if the goal is reached soon. 1,024 steps in an update; clones learn from 300 steps.",
)  # fmt: skip
