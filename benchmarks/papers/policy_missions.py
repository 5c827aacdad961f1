"""PPO on a level of BabyAI with encoders of the mission: without it, from scratch, and pre-trained.

This is not the table of a single paper: it shows BERT's pre-training in an agent, and feature-wise modulation (FiLM; Perez
et al., 2018, https://arxiv.org/abs/1709.07871, which BabyAI's authors use as well). In BabyAI-GoToLocalS5N2 the agent sees
two objects and is told to go to one of them. Reaching the wrong one does not end the episode, so a policy that does not read the mission can still
solve the level. In MiniGrid-Fetch-5x5-N2 the first object that the agent picks up ends the episode.
"""

import numpy as np

from rlbench.benchmarks.papers._shown import by_seed
from rlbench.benchmarks.papers.bert import WORDS
from rlbench.benchmarks.tables import statistics
from rlbench.benchmarks.tables.paper import Claim, Grid, Method, Paper, Scale, Verdict
from rlbench.benchmarks.tables.results import Missing, Result, Results

GO, FETCH = "BabyAI-GoToLocalS5N2-v0", "MiniGrid-Fetch-5x5-N2-v0"
SUCCESS = 90
"""Percentage of solved episodes."""
PPO = {
    "envs": 32, "rollout_steps": 64, "batch_size": 512, "epochs": 4, "learning_rate": 1e-3, "entropy_coefficient": 0.01,
}  # fmt: skip
IMAGE = "one-hot-grid/pool=none"
WITHOUT, SCRATCH, PRETRAINED = "without the mission", "from scratch", "pre-trained"
MODEL = "language model, hidden words"


READS = {**PPO, "encoder": f"parts:image={IMAGE},text=transformer,join=film"}
"""Settings of PPO with an encoder of the mission."""


METHODS = (
    Method(WITHOUT, "ppo", {**PPO, "encoder": "one-hot-grid:pool=none"}),
    Method(SCRATCH, "ppo", READS),
    Method(PRETRAINED, "ppo", READS, pretrained=(MODEL, WORDS)),
)


def _grids(updates: int, words: int) -> tuple[Grid, ...]:
    model = Method(MODEL, "language-model", {"encoder": "transformer"})
    long = {"updates": words, "eval_every": 0, "log_every": 100, "checkpoint_every": words // 2}
    run = {
        "updates": updates,
        "eval_every": updates // 5,
        "eval_episodes": 100,
        "checkpoint_every": updates // 5,
    }
    return Grid((model,), (WORDS,), seeds=3, run=long), Grid(METHODS, (GO, FETCH), seeds=3, run=run)


def _solved(run: Result) -> float:
    """Percentage of solved episodes in the last evaluation."""
    return 100 * float((run.columns["return"] > 0).mean())


def _by_seed(results: Results, method: str, task: str) -> list[float]:
    """The percentage of every seed.

    Raises:
        Missing: The method has not been run on the task.
    """
    runs = results.of(method, task)
    if not runs:
        raise Missing(f"{method} has not been run on {task}")
    return [_solved(run) for run in runs]


def _follows(results: Results) -> Verdict:
    found = {
        task: {method.name: _by_seed(results, method.name, task) for method in METHODS}
        for task in (GO, FETCH)
    }
    going, fetching = found.values()
    reads = fetching[SCRATCH] + fetching[PRETRAINED]
    solved = max(float(np.mean(going[name])) for name in (SCRATCH, PRETRAINED))
    shown = (
        f"{task}: {', '.join(f'{name} {by_seed(each)}' for name, each in methods.items())}"
        for task, methods in found.items()
    )
    return Verdict(
        solved > SUCCESS and min(reads) > max(fetching[WITHOUT]),
        f"solved episodes in % (by seed), {'; '.join(shown)}",
    )


def _pretraining(results: Results) -> Verdict:
    shown = []
    for task in (GO, FETCH):
        pairs = results.paired((PRETRAINED, SCRATCH), task, _solved)
        found = statistics.paired_difference(*pairs, seed=0)
        shown.append(f"{task} {found.point:+.1f} [{found.low:+.1f}, {found.high:+.1f}]")
    return Verdict(
        None,
        "difference from learning from scratch, in percentage points, paired by seed: "
        f"{'; '.join(shown)}",
    )


SCALES: dict[Scale, tuple[Grid, ...]] = {"small": _grids(200, 2_000), "full": _grids(2_000, 50_000)}

PAPER = Paper(
    name="policy-missions",
    title="Encoders of the mission in PPO",
    reference="a table of the suite; the level is from Chevalier-Boisvert et al., 2019, https://arxiv.org/abs/1810.08272",
    method=SCRATCH,
    grids=SCALES,
    minutes={"small": 60, "full": 800},
    claims=(
        Claim(
            "L1", "A policy that reads the mission solves levels; one that does not fails if it cannot try again",
            f"solved episodes: on {GO} above {SUCCESS} % on average, from scratch or pre-trained; on {FETCH} every seed of both above every seed "
            "without the mission",
            _follows,
        ),
        Claim(
            "L2", "Pre-training with hidden words helps the policy",
            "none: the mean difference, paired by seed, is only reported", _pretraining,
        ),
    ),
    notes="Return of an episode: 1 minus 0.9 times the share of the time limit that was used if the right object is reached or picked up, else 0; "
    "100 episodes, greedy actions. All methods have 409,600 steps and the same settings.",
)  # fmt: skip
