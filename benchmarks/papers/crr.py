"""CRR: Wang et al., 2020, "Critic Regularized Regression".

The paper's tables use suites of data that are not available here. Its claims are tested on point
navigation, which takes minutes; the full scale adds D4RL's locomotion data.
"""

from rlbench.benchmarks.papers.point import CRITICS, LEARNING, listed, point_grid
from rlbench.benchmarks.papers.published import published
from rlbench.benchmarks.tables.paper import Claim, Grid, Method, Paper, Verdict
from rlbench.benchmarks.tables.results import Results

FAST = {"learning_rate": 1e-3}
CRR = CRITICS | FAST | {"layers": "mlp", "gradient_clip": 40.0}
GREEDY = CRR | {"beta": 0.1}
SMALL_METHODS = (
    Method("BC", "bc", LEARNING | FAST | {"policy": "gaussian"}),
    Method("CRR exp", "crr", CRR),
    Method("CRR exp, beta 0.1", "crr", GREEDY),
    Method("CRR binary", "crr", CRR | {"weight": "binary"}),
    Method("CRR binary max", "crr", CRR | {"weight": "binary", "baseline": "max"}),
    Method("CRR exp, sampled", "crr", CRR | {"act_mode": "sample"}),
    Method("CRR categorical", "crr", GREEDY | {"critic": "categorical", "value_range": (-40, 0)}),
    Method("AWAC", "awac", GREEDY | {"gradient_clip": None}),
    Method("TD3", "td3", CRITICS | FAST),
)
POINT = point_grid(SMALL_METHODS)
LOCOMOTION = Grid(
    (
        Method("BC", "bc"),
        Method("CRR exp", "crr"),
        Method("CRR binary", "crr", {"weight": "binary"}),
        Method("CRR binary max", "crr", {"weight": "binary", "baseline": "max"}),
        Method("CRR exp, sampled", "crr", {"act_mode": "sample"}),
        Method("TD3", "td3"),
    ),
    tuple(
        f"{family}-{level}"
        for family in ("halfcheetah", "hopper", "walker2d")
        for level in ("random", "medium", "medium-replay", "medium-expert")
    ),
    seeds=5,
    run={"updates": 500_000, "eval_every": 25_000, "eval_episodes": 20},
)


def _better_than_the_demonstrators(results: Results) -> Verdict:
    crr, bc = (results.scores(m, "point-mixed") for m in ("CRR exp", "BC"))
    behaviour = results.of("CRR exp", "point-mixed")[0].behaviour_score
    holds = bool(crr.min() > bc.max() and crr.mean() >= max(bc.mean(), behaviour) + 50)
    return Verdict(
        holds, f"point-mixed: CRR exp {listed(crr)}, BC {listed(bc)}, demonstrators {behaviour:.0f}"
    )


def _regularisation_is_needed(results: Results) -> Verdict:
    crr, td3 = (results.scores(m, "point-expert") for m in ("CRR exp", "TD3"))
    holds = bool(crr.min() > 90 and td3.max() < 20)
    return Verdict(holds, f"point-expert: CRR exp {listed(crr)}, TD3 {listed(td3)}")


def _binary_or_exp(results: Results) -> Verdict:
    found = {
        level: [results.scores(m, f"point-{level}") for m in ("CRR binary", "CRR exp")]
        for level in ("random", "mixed")
    }
    means = {level: [x.mean() for x in pair] for level, pair in found.items()}
    holds = bool(
        means["random"][0] >= means["random"][1] + 10 and means["mixed"][1] > means["mixed"][0]
    )
    shown = (f"{level}: binary {listed(b)}, exp {listed(e)}" for level, (b, e) in found.items())
    return Verdict(holds, "; ".join(shown))


def _max_is_more_selective(results: Results) -> Verdict:
    kept = {
        level: [
            results.metric(m, f"point-{level}", "weight_nonzero")
            for m in ("CRR binary max", "CRR binary")
        ]
        for level in ("random", "mixed", "medium")
    }
    holds = all(bool(highest.max() < mean.min()) for highest, mean in kept.values())
    shown = (
        f"{level}: {100 * highest.mean():.1f} % against {100 * mean.mean():.1f} %"
        for level, (highest, mean) in kept.items()
    )
    return Verdict(holds, f"actions kept, {'; '.join(shown)}")


def _the_critic_helps_acting(results: Results) -> Verdict:
    levels = ("random", "mixed", "medium")
    methods = ("CRR exp", "CRR exp, sampled")
    pairs = [results.paired(methods, f"point-{level}") for level in levels]
    holds = all(bool(weighted.mean() >= sampled.mean()) for weighted, sampled in pairs)
    shown = (
        f"{level}: weighted {listed(weighted)}, sampled {listed(sampled)}"
        for level, (weighted, sampled) in zip(levels, pairs, strict=True)
    )
    return Verdict(holds, "; ".join(shown))


CLAIMS = (
    Claim(
        "C1",
        "CRR beats behaviour cloning on data of mixed quality, and can exceed the demonstrators.",
        "point-mixed: mean of CRR exp 50 above BC and the demonstrators, every seed above every one "
        "of BC's",
        _better_than_the_demonstrators,
    ),
    Claim(
        "C2",
        "CRR beats off-policy learning without regularisation on offline data.",
        "point-expert, every seed: CRR exp above 90, TD3 below 20",
        _regularisation_is_needed,
    ),
    Claim(
        "C3",
        "The binary filter is better on simple tasks, the exponential one, which keeps more of the "
        "data, on complex ones.",
        "means at beta = 1: binary 10 above exp on point-random, exp above binary on point-mixed, "
        "where few actions are good",
        _binary_or_exp,
    ),
    Claim(
        "C4",
        "The max baseline is more selective than the mean.",
        "point-random, -mixed, -medium, at the end: every seed of binary max keeps fewer actions than "
        "every one of binary",
        _max_is_more_selective,
    ),
    Claim(
        "C5",
        "Acting through the critic is at least as good as sampling the policy.",
        "means on point-random, -mixed, -medium over the seeds that both have, with the same trained "
        "weights: critic-weighted at least sampled",
        _the_critic_helps_acting,
    ),
)

PAPER = Paper(
    name="crr",
    title="Critic Regularized Regression",
    reference="Wang et al., 2020, https://arxiv.org/abs/2006.15134",
    method="CRR exp",
    grids={"small": (POINT,), "full": (LOCOMOTION, POINT)},
    minutes={"small": 7, "full": 25_000},
    claims=CLAIMS,
    figures=published(),
    notes="beta is an advantage in units of return: on the point task 1 is mild and 0.1 is greedy. "
    "Critic-weighted and sampled runs of a seed have the same weights, bit for bit. The paper's own "
    "tables, of RL Unplugged and of robots, are not printed: no source could be read.",
)
