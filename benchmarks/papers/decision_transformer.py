"""Decision Transformer compared with cloning and IQL on data of many policies.

The question is whether return-conditioned cloning does what Q-learning does: choose the better actions among those of many policies.
The two data sets are made by many policies, from poor to good ones.
"""

from rlbench.benchmarks.papers.published import published
from rlbench.benchmarks.tables.paper import Claim, Figure, Grid, Method, Paper, Verdict
from rlbench.benchmarks.tables.results import Results

DT, BC, IQL = "Decision Transformer", "BC", "IQL"
TASKS = CHEETAH, HOPPER = ("halfcheetah-medium-replay", "hopper-medium-replay")
SMALL = {
    "embedding_size": 64,
    "blocks": 2,
    "sequence_length": 10,
    "batch_size": 32,
    "learning_rate": 1e-3,
}
"""Settings with about 1/24 of the work of the defaults in each update."""
LIGHT = {"hidden": (128, 128), "batch_size": 128}
RUN = {"eval_every": 0, "eval_episodes": 20}
MARGIN = 5.0
"""Points by which the transformer must be better than cloning on Hopper."""


def _figures() -> tuple[Figure, ...]:
    """CORL's results on D4RL's data."""
    source = "CORL, 4 runs, last"
    return (
        Figure(DT, f"{CHEETAH}-v2", 38.91, 0.50, source),
        Figure(DT, f"{HOPPER}-v2", 81.77, 6.87, source),
        *(x for x in published() if x.task in {f"{t}-v2" for t in TASKS} and x.method in (BC, IQL)),
    )


def _shown(results: Results) -> str:
    return "; ".join(
        f"{task}: " + ", ".join(f"{m} {results.scores(m, task).mean():.1f}" for m in (DT, BC, IQL))
        for task in TASKS
    )


def _better_than_cloning(results: Results) -> Verdict:
    ahead = [results.scores(DT, t).mean() - results.scores(BC, t).mean() for t in TASKS]
    return Verdict(bool(ahead[0] >= 0 and ahead[1] >= MARGIN), _shown(results))


def _next_to_iql(results: Results) -> Verdict:
    return Verdict(None, _shown(results))


PAPER = Paper(
    name="decision-transformer",
    title="Decision Transformer: Reinforcement Learning via Sequence Modeling",
    reference="Chen et al., 2021, https://arxiv.org/abs/2106.01345",
    method=DT,
    grids={
        "small": (
            Grid(
                (Method(DT, "decision-transformer", SMALL),), TASKS, seeds=3,
                run={"updates": 8_000, "data_size": 200_000, **RUN},
            ),
            Grid(
                (Method(BC, "bc", LIGHT), Method(IQL, "iql", LIGHT)), TASKS, seeds=3,
                run={"updates": 20_000, "data_size": 200_000, **RUN},
            ),
        ),
        "full": (
            Grid(
                (Method(DT, "decision-transformer"), Method(BC, "bc"), Method(IQL, "iql")), TASKS,
                seeds=3, run={"updates": 100_000, **RUN},
            ),
        ),
    },
    minutes={"small": 25, "full": 2_500},
    claims=(
        Claim(
            "D1",
            "On data of many policies, cloning conditioned on the return is better than plain cloning.",
            f"means: at least BC on HalfCheetah, and {MARGIN:.0f} points above it on Hopper",
            _better_than_cloning,
        ),
        Claim(
            "D2",
            "It is as good as offline Q-learning.",
            "none: the means are only reported, because the two take different numbers of updates at the small scale",
            _next_to_iql,
        ),
    ),
    figures=_figures(),
    notes="The target return is that of the best episode of the data. Rows of `generated` data are not comparable number by number "
    "with published scores, which are of D4RL's own data. The small scale has fewer and smaller updates and a fifth of the data.",
)  # fmt: skip
