"""Recurrent PPO with each memory on two tasks that need one.

This is not the table of a single paper: it shows fast weights, recurrent batch normalisation, MANN, and full and sparse
attention in an agent, compared with an LSTM, a GRU and PPO without a memory. In `recall-1-10` a value is asked for after ten
distractors, and the best return is 1; in MiniGrid-MemoryS7 the right one of two objects at the end of a corridor is the
one seen at its start, and a policy that guesses reaches it in half of the episodes.
"""

from collections.abc import Mapping
from typing import Any

from rlbench.benchmarks.tables import statistics
from rlbench.benchmarks.tables.paper import Claim, Grid, Method, Paper, Scale, Verdict
from rlbench.benchmarks.tables.results import Results

RECALL, CORRIDOR = "recall-1-10", "MiniGrid-MemoryS7-v0"
NONE = "no memory"
MEMORIES = {
    "LSTM": "lstm",
    "GRU": "gru",
    "BN-LSTM": "bn-lstm:steps=64",
    "fast weights": "fast-weights",
    "MANN": "mann:slots=32,width=20,heads=2",
    "transformer": "transformer:length=32",
    "Big Bird": "big-bird:length=32,block=4,random=1",
}
PPO = {"epochs": 4, "entropy_coefficient": 0.01}
"""For all methods."""
TASKS: Mapping[str, Mapping[str, Any]] = {
    RECALL: {"envs": 32, "rollout_steps": 48, "batch_size": 768, "learning_rate": 3e-3},
    CORRIDOR: {
        "envs": 64,
        "rollout_steps": 64,
        "batch_size": 1_024,
        "learning_rate": 1e-3,
        "encoder": "one-hot-grid:pool=none",
    },
}
"""Settings of each task."""


def _grids(updates: Mapping[str, int]) -> tuple[Grid, ...]:
    grids = []
    for task, settings in TASKS.items():
        every = {**PPO, **settings}
        compared = (
            Method(NONE, "ppo", every),
            *(
                Method(title, "recurrent-ppo", {**every, "memory": x})
                for title, x in MEMORIES.items()
            ),
        )
        run = {
            "updates": updates[task],
            "eval_every": 0,
            "eval_episodes": 200,
            "checkpoint_every": updates[task] // 4,
        }
        grids.append(Grid(compared, (task,), seeds=3, run=run))
    return tuple(grids)


def _compared(results: Results, task: str) -> tuple[dict[str, float], str]:
    """Mean return of each memory, and a text that lists all of them with 95 % intervals over seeds."""
    means, shown = {}, []
    for title in (NONE, *MEMORIES):
        found = results.means(title, task, "return")
        mean = statistics.bootstrap_interval(statistics.mean, found[:, None], seed=0)
        means[title] = mean.point
        shown.append(f"{title}: {mean.point:.2f} [{mean.low:.2f}, {mean.high:.2f}]")
    return means, "; ".join(shown)


def _remembers(results: Results) -> Verdict:
    found, shown = _compared(results, RECALL)
    remembering = [title for title in MEMORIES if found[title] >= 0.9]
    return Verdict(
        len(remembering) == len(MEMORIES) and found[NONE] <= 0.3,
        f"at least 0.9 with {', '.join(remembering) or 'none'}. Return, {shown}",
    )


def _corridor(results: Results) -> Verdict:
    return Verdict(None, f"return, {_compared(results, CORRIDOR)[1]}")


SCALES: dict[Scale, tuple[Grid, ...]] = {
    "small": _grids({RECALL: 120, CORRIDOR: 50}),
    "full": _grids({RECALL: 2_000, CORRIDOR: 1_000}),
}

PAPER = Paper(
    name="policy-memories",
    title="Memories of recurrent PPO",
    reference="a table of the suite; the memories are from Hochreiter and Schmidhuber, 1997, Cho et al., 2014, Cooijmans et al., "
    "2017, Ba et al., 2016, Santoro et al., 2016, Vaswani et al., 2017, and Zaheer et al., 2020",
    method="LSTM",
    grids=SCALES,
    minutes={"small": 35, "full": 600},
    claims=(
        Claim(
            "A1", "With any of the memories, PPO learns to recall what it has seen",
            "mean return of 3 seeds on recall-1-10: at least 0.9 with every memory, and at most 0.3 "
            "without one",
            _remembers,
        ),
        Claim(
            "A2", "Memories differ in their return in a corridor where the object at the start decides which end is right",
            "none: mean returns on MiniGrid-MemoryS7 with 95 % intervals over seeds are only reported", _corridor,
        ),
    ),
    notes="Return of an episode, greedy actions. recall-1-10: 184,320 steps, the best return is 1, and 0.25 without remembering. "
    "MiniGrid-MemoryS7: 204,800 steps, 1 minus 0.9 times the share of the time limit that was used, if the right object is reached.",
)  # fmt: skip
