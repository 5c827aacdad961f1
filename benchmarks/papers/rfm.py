"""RFM: Tacchetti et al., 2019, relational forward models for multi-agent learning.

Only the abstract and introduction of the paper were available to us, so no published figure is shown, and only
orderings are compared. The games, sizes, data and criteria are ours.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlbench.backbones.analyses._base import bootstrap
from rlbench.benchmarks.tables import statistics
from rlbench.benchmarks.tables.paper import AnalysisGrid, Claim, Grid, Method, Paper, Scale, Verdict
from rlbench.benchmarks.tables.results import Missing, Result, Results

Array = NDArray[Any]

NETWORKS = {
    "RFM": "rfm", "RFM, no memory": "rfm-ff", "RFM, no edges between agents": "rfm-noaa",
    "RFM, no edges": "rfm-norel", "MLP + LSTM": "mlp-lstm", "VAIN": "vain", "NRI": "nri",
}  # fmt: skip
"""Name in the table to the network of rfm-predictor."""
OTHERS = tuple(name for name in NETWORKS if name != "RFM")
PREDICTORS = {
    "A2C + RFM": "rfm", "A2C": "none", "A2C + MLP + LSTM": "mlp-lstm", "A2C + constants": "uniform",
    "A2C + true actions": "oracle",
}  # fmt: skip
"""Name in the table to the predictor of the agent rfm."""
MEMORY = "A2C with memory"
RETURNS, ALONE = "returns", "returns, no edges between agents"
MEAN = "RFM, means"

COIN, STAG = "episodes-coin-trained", "episodes-stag-hunt-4p-trained"
COOPNAV, SCRIPTED_COIN, SCRIPTED_STAG = "episodes-coopnav", "episodes-coin", "episodes-stag-hunt-4p"
SIZES = ("episodes-stag-hunt", "episodes-stag-hunt-6p")
GAMES = ("coin", "stag-hunt")
STEP_SIZE = 3e-3
"""The best of 1e-3 and 3e-3 for every network in a search with one seed; see docs/papers/rfm.md."""
LENGTHS: dict[Scale, dict[str, int]] = {
    "small": {STAG: 500, COIN: 600, SCRIPTED_COIN: 400, COOPNAV: 200, SCRIPTED_STAG: 300},
    "full": {
        STAG: 100_000,
        COIN: 100_000,
        SCRIPTED_COIN: 100_000,
        COOPNAV: 20_000,
        SCRIPTED_STAG: 100_000,
    },
}
"""Updates of the models on each task."""


def _run(updates: int, **more: Any) -> dict[str, Any]:
    each = max(1, updates // 2)
    return {
        "updates": updates,
        "eval_every": each,
        "checkpoint_every": each,
        "log_every": 20,
        **more,
    }


def _models(scale: Scale) -> tuple[Grid, ...]:
    """Models of actions, models of returns, and a model with means for other numbers of agents."""
    seeds, size = (3, 10_000) if scale == "small" else (10, 50_000)
    every = tuple(
        Method(name, "rfm-predictor", {"network": network, "learning_rate": STEP_SIZE})
        for name, network in NETWORKS.items()
    )
    returns = tuple(
        Method(name, "rfm-returns", {"network": network, "learning_rate": STEP_SIZE})
        for name, network in ((RETURNS, "rfm"), (ALONE, "rfm-noaa"))
    )
    mean = Method(MEAN, "rfm-predictor", {"reducer": "mean", "learning_rate": STEP_SIZE})
    lengths = LENGTHS[scale]
    return (
        *(Grid(every, (task,), seeds, _run(lengths[task], data_size=size)) for task in (STAG, COIN, SCRIPTED_COIN, COOPNAV)),
        Grid(returns, (STAG,), seeds, _run(lengths[SCRIPTED_STAG], data_size=size)),
        Grid((mean,), (SCRIPTED_STAG,), seeds, _run(lengths[SCRIPTED_STAG], data_size=size)),
    )  # fmt: skip


def _agents(scale: Scale) -> Grid:
    """Agents with and without predictions."""
    updates = 150 if scale == "small" else 10_000
    seeds = 5 if scale == "small" else 10
    methods = [Method(name, "rfm", {"predictor": x}) for name, x in PREDICTORS.items()]
    alike = {
        "epochs": 1, "batch_size": None, "envs": 32, "rollout_steps": 32, "discount": 0.97, "gae_lambda": 1.0,
        "learning_rate": 2e-3, "normalise_advantage": False, "entropy_coefficient": 0.01, "kl_limit": None,
        "hidden": (128,), "memory": "gru",
    }  # fmt: skip
    methods.append(Method(MEMORY, "recurrent-ppo", alike))
    run = _run(updates, eval_every=updates // 10, eval_episodes=30, checkpoint_every=updates)
    return Grid(tuple(methods), GAMES, seeds, run)


def _analyses(scale: Scale) -> tuple[AnalysisGrid, ...]:
    seeds = 3 if scale == "small" else 10
    return (
        AnalysisGrid("edges", ("RFM",), (STAG, COIN), seeds),
        AnalysisGrid("company", (RETURNS, ALONE), (STAG,), seeds),
        AnalysisGrid("other-tasks", (MEAN,), (SCRIPTED_STAG,), seeds, {"tasks": SIZES}),
    )


def _listed(values: Array) -> str:
    return (
        f"{values.mean():.3f} ± {values.std(ddof=1):.3f}"
        if len(values) > 1
        else f"{values.mean():.3f}"
    )


def _predicts_better(results: Results) -> Verdict:
    holds, parts = True, []
    for task in (COIN, STAG):
        for measure in ("accuracy", "perfect_steps_any"):
            found = {name: results.means(name, task, measure) for name in NETWORKS}
            best = max(OTHERS, key=lambda name: found[name].mean())
            holds &= bool(found["RFM"].mean() >= found[best].mean())
            each = ", ".join(f"{name} {_listed(x)}" for name, x in found.items())
            parts.append(f"{task}, {measure.replace('_', ' ')}: {each}")
        chance = results.of("RFM", task)[0].columns
        parts.append(
            f"{task}: most frequent action {chance['majority'].mean():.3f}, last action again "
            f"{chance['last_action'].mean():.3f}"
        )
    return Verdict(holds, "; ".join(parts))


def late_gain(run: Result) -> float:
    """Accuracy in the last third of an episode minus accuracy in the first third."""
    by_step = run.columns["accuracy_by_step"].mean(0)
    third = len(by_step) // 3
    return float(by_step[-third:].mean() - by_step[:third].mean())


def _memory_helps_late(results: Results) -> Verdict:
    pairs = results.paired(("RFM", "RFM, no memory"), SCRIPTED_COIN, late_gain)
    rfm, without = pairs
    return Verdict(
        bool((rfm > without + 0.02).all()),
        "accuracy in the last third of an episode minus accuracy in the first third: "
        f"RFM {_listed(rfm)}, without memory {_listed(without)}",
    )


def _pooled(
    results: Results, name: str, method: str, task: str, column: str
) -> tuple[float, float, float]:
    """Mean and 95 % interval of a quantity over the test episodes of all seeds."""
    found = results.analysed(name, method, task)
    if any(f"{column}, sums" not in x.columns for x in found):
        raise Missing(f"the analysis {name} on {task} found no events for {column!r}")
    sums, counts = (
        np.concatenate([x.columns[f"{column}, {part}"] for x in found])
        for part in ("sums", "counts")
    )
    value, low, high = bootstrap(sums, counts)
    return float(value), float(low), float(high)


def _interval(found: tuple[float, float, float]) -> str:
    return "{:.3f} [{:.3f}, {:.3f}]".format(*found)


def _edges_rise(results: Results) -> Verdict:
    """Compares rises with the average rise at the same distance and step."""
    holds, parts = True, []
    pairs = [
        (STAG, "items of type 0: rise, {}", "captured", "usual"), (STAG, "items of type 1: rise, {}", "captured", "usual"),
        (COIN, "items of type 0: rise, {}", "captured", "usual"), (STAG, "agents: rise, {}", "joint", "joint, usual"),
    ]  # fmt: skip
    for task, form, event, control in pairs:
        rise = _pooled(results, "edges", "RFM", task, form.format(event))
        usual = _pooled(results, "edges", "RFM", task, form.format(control))
        holds &= rise[1] > max(0.0, usual[2])
        parts.append(f"{task}, {form.format(event)} {_interval(rise)}, usual {_interval(usual)}")
    return Verdict(bool(holds), "; ".join(parts))


def _company_matters(results: Results) -> Verdict:
    found = {
        name: _pooled(results, "company", RETURNS, STAG, f"value of company: {name}, before")
        for name in ("taken together", "taken alone", "taken alone, contested")
    }
    holds = found["taken together"][1] > 0 and found["taken alone, contested"][2] < 0
    parts = [f"{name}: {_interval(x)}" for name, x in found.items()]
    return Verdict(
        bool(holds), f"value of company in the steps -3 to -1 before an item is {'; '.join(parts)}"
    )


def area(run: Result) -> float:
    """Mean return over the evaluations of a run: the area under its learning curve."""
    from rlbench.benchmarks.training.run_folder import RunFolder

    return float(RunFolder(run.folder).evaluations()["return"].mean())


def _learns_faster(results: Results) -> Verdict:
    holds, parts = True, []
    for game in GAMES:
        pairs = results.paired(("A2C + RFM", "A2C"), game, area)
        gain = statistics.paired_difference(*pairs, seed=0)
        holds &= gain.low > 0
        each = []
        for name in (*PREDICTORS, MEMORY):
            runs = results.of(name, game)
            if not runs:
                raise Missing(f"{name} has not been run on {game}")
            each.append(f"{name} {_listed(np.array([area(run) for run in runs]))}")
        seconds = [
            np.mean([run.seconds for run in results.of(name, game)])
            for name in ("A2C + RFM", "A2C")
        ]
        parts.append(
            f"{game}: gain {gain.point:.3f} [{gain.low:.3f}, {gain.high:.3f}], mean return over training: {', '.join(each)}; "
            f"a run takes {seconds[0] / seconds[1]:.1f} times as long as without RFM"
        )
    return Verdict(bool(holds), "; ".join(parts))


def _other_sizes(results: Results) -> Verdict:
    found = results.analysed("other-tasks", MEAN, SCRIPTED_STAG)
    parts = []
    for task in (SCRIPTED_STAG, *SIZES):
        values = np.array([x.numbers[f"{task}: accuracy"] for x in found])
        parts.append(f"{task} {_listed(values)}")
    return Verdict(None, f"accuracy of models trained on {SCRIPTED_STAG}: {', '.join(parts)}")


def _claim(name: str, text: str, criterion: str, judge: Callable[[Results], Verdict]) -> Claim:
    return Claim(name, text, criterion, judge)


PAPER = Paper(
    name="rfm",
    title="Relational Forward Models for Multi-Agent Learning",
    reference="Tacchetti et al., 2019, https://arxiv.org/abs/1809.11044",
    method="RFM",
    grids={scale: (*_models(scale), _agents(scale)) for scale in LENGTHS},
    analyses={scale: _analyses(scale) for scale in LENGTHS},
    minutes={"small": 45, "full": 40_000},
    claims=(
        _claim(
            "R1", "RFM predicts the actions of all agents better than its ablations and baselines",
            "on the episodes of trained agents of both games, the mean over seeds of accuracy and of perfect steps from any "
            "step on is at least as high as for every other network",
            _predicts_better,
        ),
        _claim(
            "R2", "Memory is needed when intentions are hidden",
            "in Coin Game with scripted agents, the accuracy of RFM gains at least 0.02 more from the first to the last third of an episode "
            "than without memory, in every seed",
            _memory_helps_late,
        ),
        _claim(
            "R3", "Edge activations are interpretable: they grow before an agent takes an item, and between agents before "
            "they act together",
            "rises before events: the interval over episodes is above 0 and above the rise that is usual at the same "
            "distance and step, for each type of item and between agents",
            _edges_rise,
        ),
        _claim(
            "R4", "Return predictions with and without edges between agents measure intensity and valence of influence",
            "the value of company is above 0 before items are taken together, and below 0 before contested items are "
            "taken alone; both intervals over episodes exclude 0",
            _company_matters,
        ),
        _claim(
            "R5", "Agents with an on-board RFM learn faster",
            "on both games, the mean return over training is higher with RFM, with a paired interval over seeds above 0",
            _learns_faster,
        ),
        _claim(
            "R6", "The same weights fit other numbers of agents (ours, not the paper's)",
            "none; the results are only reported",
            _other_sizes,
        ),
    ),
    notes="Models of actions are scored by accuracy, models of returns by their squared error as a fraction of the variance, "
    "agents by their return. Episodes of tasks with `-trained` are of agents trained together with A2C or PPO, all others of "
    "scripted agents. The full scale has not been run yet.",
)  # fmt: skip
