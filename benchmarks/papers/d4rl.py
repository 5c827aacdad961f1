"""The offline agents on D4RL's locomotion tasks, compared with published scores.

This is not a single paper, but the table that offline papers share. Behaviour policies of the suite record the
data unless D4RL's own files are available; the table shows which were used.
"""

from rlbench.benchmarks.papers.published import published
from rlbench.benchmarks.tables.paper import Claim, Grid, Method, Paper, Verdict
from rlbench.benchmarks.tables.results import Results
from rlbench.envs.d4rl import names as d4rl_names

BETTER = ("CRR", "TD3+BC", "IQL", "AWAC")
METHODS = (
    Method("BC", "bc"),
    Method("TD3+BC", "td3-bc"),
    Method("IQL", "iql"),
    Method("AWAC", "awac"),
    Method("CRR", "crr"),
)
LIGHT = {"hidden": (128, 128), "batch_size": 128}
"""Settings with a quarter of the work of the defaults, so that the small scale takes hours and not days."""
LIGHT_METHODS = tuple(Method(m.name, m.learner, LIGHT) for m in METHODS)
ALL_METHODS = (
    *METHODS,
    Method("CRR binary", "crr", {"weight": "binary"}),
    Method("BEAR", "bear"),
    Method("BCQ", "bcq"),
    Method("BRAC", "brac"),
    Method("CQL", "cql"),
    Method("AWR", "awr"),
    Method("SAC", "sac"),
    Method("TD3", "td3"),
)
FAMILIES = ("halfcheetah", "hopper", "walker2d")
RUN = {"eval_every": 25_000, "eval_episodes": 20}


def _mean(results: Results, method: str, task: str) -> float:
    return float(results.scores(method, task).mean())


def _shown(results: Results, level: str) -> str:
    return "; ".join(
        f"{family}: BC {_mean(results, 'BC', f'{family}-{level}'):.1f}, "
        + ", ".join(f"{m} {_mean(results, m, f'{family}-{level}'):.1f}" for m in BETTER)
        for family in FAMILIES
    )


def _at_least_cloning(results: Results) -> Verdict:
    holds = all(
        _mean(results, method, f"{family}-medium") >= _mean(results, "BC", f"{family}-medium")
        for family in FAMILIES
        for method in BETTER
    )
    return Verdict(holds, _shown(results, "medium"))


def _better_on_mixed_data(results: Results) -> Verdict:
    wins = [
        all(_mean(results, m, task) >= _mean(results, "BC", task) + 5 for m in BETTER)
        for task in (f"{family}-medium-replay" for family in FAMILIES)
    ]
    return Verdict(sum(wins) >= 2, _shown(results, "medium-replay"))


CLAIMS = (
    Claim(
        "O4 medium",
        "On data of one policy, offline agents are at least as good as cloning.",
        "means on the three medium sets: CRR, TD3+BC, IQL and AWAC each at least BC",
        _at_least_cloning,
    ),
    Claim(
        "O4 replay",
        "On data of many policies they are clearly better.",
        "means: CRR, TD3+BC, IQL and AWAC all 5 points above BC on two of the three medium-replay sets",
        _better_on_mixed_data,
    ),
)

PAPER = Paper(
    name="d4rl",
    title="D4RL: Datasets for Deep Data-Driven Reinforcement Learning",
    reference="Fu et al., 2020, https://arxiv.org/abs/2004.07219",
    method="CRR",
    grids={
        "small": (
            Grid(
                LIGHT_METHODS,
                tuple(f"{f}-{level}" for level in ("medium", "medium-replay") for f in FAMILIES),
                seeds=3,
                run={"updates": 100_000, **RUN},
            ),
        ),
        "full": (
            Grid(
                ALL_METHODS,
                tuple(d4rl_names.short_names()),
                seeds=5,
                run={"updates": 1_000_000, **RUN},
            ),
        ),
    },
    minutes={"small": 240, "full": 250_000},
    claims=CLAIMS,
    figures=published(),
    notes="The small scale has networks of 128-128 units and batches of 128, the full scale the "
    "defaults of each agent. Published scores are of D4RL's own data and of five to ten times as many updates; rows of "
    "`generated` data are not comparable with them number by number.",
)
