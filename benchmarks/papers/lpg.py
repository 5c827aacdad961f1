"""LPG (Oh et al., 2020): an update rule is learned, transfers, and discovers what to predict.

Every run meta-trains a rule on small random grids. New agents then learn by the rule in levels that were not used for
training, from the same distribution and from two others. A2C agents learn in the same levels, with the best of 15
settings on each distribution.

    python -m rlbench.benchmarks.papers.lpg RUN --out predictions.svg

draws what the predictions of a run with a probe encode (claim C3).
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from rlbench.benchmarks.tables.paper import Claim, Grid, Method, Paper, Scale, Verdict
from rlbench.benchmarks.tables.results import Missing, Result, Results, read_result
from rlbench.errors import UserError

TASK = "grid-levels-small"
UNSEEN = ("grid-levels-long", "grid-levels-sparse")
DISCOUNTS = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995)
"""Discounts of the values that are read from predictions (`rlbench.agents._probe.DISCOUNTS`)."""
TESTED = 0.8
"""Share of the levels that the reading networks were fitted to; they are tested on the rest."""
A2C = {"a2c_rates": (5.0, 10.0, 20.0, 40.0, 80.0), "a2c_entropies": (0.0, 0.01, 0.03)}
"""Settings of A2C that are searched for the best."""
SIZES: dict[Scale, dict[str, Any]] = {
    "small": {"lifetimes": 32, "hidden": 32},
    "full": {"lifetimes": 512, "workers": 64, "hidden": 256, "prediction_size": 30},
}
UPDATES: dict[Scale, tuple[int, int, int]] = {
    "small": (600, 300, 600),
    "full": (5_000, 5_000, 5_000),
}
"""Updates of the rule in the main runs, the ablations and the runs with a probe."""
FREE = {"prediction_entropy": 0.0, "prediction_penalty": 0.0}
VARIANTS: dict[str, dict[str, Any]] = {
    "all regularisers": {},
    "no entropy": {"policy_entropy": 0.0, "prediction_entropy": 0.0},
    "no L2": {"policy_penalty": 0.0, "prediction_penalty": 0.0},
    "neither": {"policy_entropy": 0.0, "policy_penalty": 0.0, **FREE},
    "squared error": {"prediction": "mse"},
    "detached": {"detach_predictions": True},
}
"""The ablations of C4."""
PROBED: dict[str, dict[str, Any]] = {"probed": {}}
"""The run of C3 with the usual settings."""
SHIPPED: dict[str, dict[str, Any]] = {
    "lpg-small, probed": {"rule": "lpg-small", "hidden": 64},
    "lpg-short, probed": {
        "rule": "lpg-short", "rollout_steps": 5, "policy_rate": 15.0, "prediction_rate": 15.0,
    },
}  # fmt: skip
"""Runs of C3 with the shipped rules: meta-trained with free predictions (`FREE`) for longer, and with rollouts of 5
steps, which are too short to see most rewards. They are trained no further."""


def _grids(scale: Scale) -> tuple[Grid, ...]:
    size, (main, short, probed) = SIZES[scale], UPDATES[scale]
    rare = {"eval_every": 0, "log_every": 10, "checkpoint_every": 100}

    def methods(variants: dict[str, dict[str, Any]], **more: Any) -> tuple[Method, ...]:
        return tuple(Method(x, "lpg-meta", size | more | y) for x, y in variants.items())

    probe = {"eval_episodes": 256, **rare}
    found = (
        Grid(methods({"LPG": {}}, **A2C), (TASK,), 3, {"updates": main, "eval_episodes": 64, **rare}),
        Grid(methods(VARIANTS), (TASK,), 1, {"updates": short, "eval_episodes": 64, **rare}),
        Grid(methods(PROBED, probe=True), (TASK,), 1, {"updates": probed, **probe}),
    )  # fmt: skip
    if scale == "full":
        return found
    still = methods(SHIPPED, probe=True, learning_rate=1e-9, final_learning_rate=1e-9)
    return (*found, Grid(still, (TASK,), 1, {"updates": 1, **probe}))


def _of(results: Results, method: str) -> list[Result]:
    found = results.of(method, TASK)
    if not found:
        raise Missing(f"{method} has not been run on {TASK}")
    return found


def _compared(run: Result, prefix: str) -> tuple[float, float]:
    """Mean reward of the rule as a share of A2C's, and the share of levels in which it beats random actions."""
    ratio = run.mean("reward", prefix) / run.mean("a2c", prefix)
    above = run.columns[f"{prefix}reward"] > run.columns[f"{prefix}random"]
    return ratio, float(above.mean())


def _beats(prefixes: tuple[str, ...], least: float, share: float) -> Any:
    def judge(results: Results) -> Verdict:
        holds, parts = True, []
        for prefix in prefixes:
            found = [_compared(run, prefix) for run in _of(results, "LPG")]
            holds &= all(ratio >= least and above >= share for ratio, above in found)
            each = ", ".join(f"{ratio:.2f} and {above:.0%}" for ratio, above in found)
            parts.append(f"{prefix.rstrip('/') or TASK}: {each}")
        return Verdict(
            bool(holds),
            f"share of A2C's reward, and of levels above random, by seed: {'; '.join(parts)}",
        )

    return judge


def known(run: Result) -> dict[str, np.ndarray[Any, Any]]:
    """Error over variance of values read from predictions and from TD(lambda) values, at each of `DISCOUNTS`.

    Raises:
        Missing: The run was not measured with a probe.
    """
    columns = {"predictions": "predictions_error", "TD(lambda)": "values_error"}
    if columns["predictions"] not in run.columns:
        raise Missing(f"{run.folder} was not measured with --probe")
    first = int(TESTED * run.count)
    return {name: run.columns[x][first:].mean(axis=0) for name, x in columns.items()}


def _predictions(results: Results) -> Verdict:
    parts, holds = [], False
    far = [DISCOUNTS.index(x) for x in (0.0, 0.5, 0.8)]
    runs = [_of(results, method) for method in PROBED]
    runs += [results.of(method, TASK) for method in SHIPPED]
    for method, each in zip((*PROBED, *SHIPPED), runs, strict=True):
        for run in each:
            errors = known(run)
            holds |= bool((errors["predictions"][far] < errors["TD(lambda)"][far]).all())
            shown = "; ".join(f"{k} {' '.join(f'{x:.2f}' for x in v)}" for k, v in errors.items())
            parts.append(f"{method}: {shown}")
    at = " ".join(map(str, DISCOUNTS))
    return Verdict(holds, f"error over variance at gamma' = {at}. {'. '.join(parts)}")


def _ablations(results: Results) -> Verdict:
    parts = []
    for method in VARIANTS:
        for run in _of(results, method):
            ratio, _ = _compared(run, "")
            names = ("policy_entropy", "prediction_entropy", "policy_target")
            logged = [float(results.metric(method, TASK, name).mean()) for name in names]
            parts.append(
                f"{method} {run.mean('reward'):.4f} ({ratio:.2f} of A2C; H(pi) {logged[0]:.2f}, H(y) "
                f"{logged[1]:.2f}, pi^2 {logged[2]:.4f})"
            )
    return Verdict(None, f"reward per step: {'; '.join(parts)}")


C1 = Claim(
    "C1",
    "A rule meta-trained with regularisers trains agents about as well as A2C on the distribution of grids that it "
    "was meta-trained on",
    "for each meta-seed, over 64 new levels: reward at least 0.8 times the reward of tuned A2C, and above random "
    "actions in 85 % of the levels",
    _beats(("",), 0.8, 0.85),
)
C2 = Claim(
    "C2",
    "The rule transfers to other environments without further training",
    "for each meta-seed, over 64 levels of each of two other distributions: reward at least 0.7 times the reward of "
    "tuned A2C, and above random actions in 90 % of the levels",
    _beats(tuple(f"{name}/" for name in UNSEEN), 0.7, 0.9),
)
C3 = Claim(
    "C3",
    "Predictions encode values at discounts other than the training discount; a TD(lambda) value is tied to its own",
    "in one of the runs with a probe, values at gamma' = 0, 0.5 and 0.8 are read from the predictions with a smaller "
    "error than from the TD(lambda) values",
    _predictions,
)
C4 = Claim(
    "C4",
    "Regularisers and the kind of prediction loss decide whether meta-training works",
    "none; the results are only reported, with one seed each",
    _ablations,
)

PAPER = Paper(
    name="lpg",
    title="Discovering Reinforcement Learning Algorithms",
    reference="Oh et al., 2020, https://arxiv.org/abs/2007.08794",
    method="LPG",
    grids={"small": _grids("small"), "full": _grids("full")},
    minutes={"small": 60, "full": 20_000},
    claims=(C1, C2, C3, C4),
    notes="Rewards are per step, at the end of lifetimes of 250 updates (grid-levels-small) or 200 (the two other "
    "distributions). The paper meta-trains for a day on 16 TPU cores; Jackson et al., 2023 "
    "(https://arxiv.org/abs/2310.02782) for three hours on a GPU. The full scale has the sizes of Jackson et al. and "
    "has not been run yet.",
)


def plot_predictions(run: Path, out: Path) -> None:
    """Draws the errors of values that are read from predictions and from TD(lambda) values against the discount.

    Args:
        run: Folder of a run of lpg-meta with a probe.
        out: File to write.

    Raises:
        UserError: The folder holds no complete run with a probe, or matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise UserError(
            "pictures need matplotlib; install it with pip install 'rlbench[plot]'"
        ) from None
    try:
        errors = known(read_result("probed", run))
    except Missing as error:
        raise UserError(f"{error}; give a run of lpg-meta with --probe") from None
    figure = Figure(figsize=(5.0, 3.2), layout="constrained")
    axes = figure.add_subplot()
    places = range(len(DISCOUNTS))
    for style, (name, values) in zip(("o-", "s--"), errors.items(), strict=True):
        axes.plot(places, values, style, label=f"from {name}")
    axes.set_xticks(places, [f"{x:g}" for x in DISCOUNTS])
    axes.set_xlabel("discount of the values that are read")
    axes.set_ylabel("squared error / variance")
    axes.set_ylim(bottom=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, metadata={"Date": None} if out.suffix == ".svg" else None, dpi=150)


def main() -> None:
    """The command line of this module."""
    parser = argparse.ArgumentParser(description="Draw what the predictions of LPG encode.")
    parser.add_argument("run", type=Path, help="folder of a run of lpg-meta with --probe")
    parser.add_argument("--out", type=Path, required=True, help="file to write: .svg, .png or .pdf")
    asked = parser.parse_args()
    try:
        plot_predictions(asked.run, asked.out)
    except UserError as error:
        parser.exit(2, f"{error}\n")
    print(asked.out)


if __name__ == "__main__":
    main()
