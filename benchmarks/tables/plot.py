"""`rlbench plot`: learning curves from run folders, or from JSON files with their results.

    rlbench plot runs/sweep --out curves.svg
    rlbench plot results.json --out curves.svg

Runs of an agent on a task that differ only in the seed form one curve: their mean at the evaluations that they
share, with its 95 % bootstrap interval over the seeds at each of them, and a thin line for each seed. A single evaluation
is drawn as a point. Curves for held-out levels are dashed. Runs may be unfinished.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro

from rlbench.benchmarks.tables.curves import common_points, x_axis
from rlbench.benchmarks.tables.statistics import mean_intervals
from rlbench.benchmarks.tables.summary import called, collect, score
from rlbench.benchmarks.training.finding import run_folders
from rlbench.benchmarks.training.formats import HELD_OUT, measures_of
from rlbench.errors import UserError
from rlbench.terminal import say

Over = Literal["auto", "steps", "updates"]


@dataclass(frozen=True)
class PlotConfig:
    """Draw learning curves, with intervals over seeds, from run folders."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional] = (Path("runs"),)
    """Run folders, folders that contain them, or JSON files that `python -m rlbench.benchmarks.tables.summary` wrote."""
    out: Path = Path("curves.svg")
    """File to write: .svg, .png or .pdf."""
    over: Over = "auto"
    """Horizontal axis: environment steps, updates, or auto: environment steps if all runs count them."""


def make(asked: PlotConfig) -> None:
    """Draws the curves and writes the file."""
    found: list[Path] = []
    for path in asked.runs:
        found += [path] if path.suffix == ".json" else run_folders([path]) or [path]
    if plot(found, asked.out, asked.over) == 1:
        say(
            "note: every run has one evaluation, drawn as a point; for curves, train with a smaller --eval-every"
        )
    say(f"{asked.out}")


def plot(runs: Sequence[Path], out: Path, over: Over = "auto") -> int:
    """Draws the score (the return if there is no score) over environment steps or updates.

    Args:
        runs: Run folders or JSON files; see `rlbench.benchmarks.tables.summary.collect`.
        out: File to write.
        over: See `PlotConfig`.

    Returns:
        The largest number of evaluations of a run.

    Raises:
        UserError: matplotlib is not installed, a folder holds no run, a run is given twice or lacks environment
            steps, or files of this kind cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise UserError(
            "pictures need matplotlib; install it with pip install 'rlbench[plot]'"
        ) from None

    found = collect(runs, unfinished=True)
    # One axis has one unit: scores if every task has one, otherwise returns.
    scored = all(run["reference_returns"] is not None for run in found)
    label, place = x_axis(found, over)
    curves = defaultdict(list)
    for name, run in zip(called(found), found, strict=True):
        of_run = f"{name} on {run['run']['env']}"
        headline = measures_of(run)[0]
        places = [place(run, update) for update in run["evaluations"]["update"]]
        for part, column in (("", headline.name), (", held out", HELD_OUT + headline.name)):
            if column not in run["evaluations"]:
                continue
            values = np.array(run["evaluations"][column]).mean(axis=1)
            if scored:
                values = np.array([score(run, value) for value in values])
            curves[of_run + part].append((places, values))

    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.add_subplot()
    for i, (name, seeds) in enumerate(curves.items()):
        _draw(axes, name, seeds, f"C{i}")
    axes.set_xlabel(label)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    titles = sorted({measures_of(run)[0].title for run in found})
    axes.set_ylabel("D4RL-normalised score" if scored else " or ".join(titles))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)
    # Below the axes, because curves would cross it inside.
    several = any(len(seeds) > 1 for seeds in curves.values())
    figure.legend(
        title="bands: 95 % bootstrap intervals over seeds" if several else None,
        title_fontsize="small", alignment="left",
        frameon=False, loc="outside lower left", fontsize="small",
    )  # fmt: skip
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        figure.savefig(out, metadata={"Date": None} if out.suffix == ".svg" else None, dpi=150)
    except ValueError as error:  # An unknown suffix.
        raise UserError(f"{out} cannot be written ({error}); give .svg, .png or .pdf") from None
    return max(len(places) for seeds in curves.values() for places, _ in seeds)


def _draw(axes: Any, name: str, seeds: Sequence[tuple[list[int], Any]], colour: str) -> None:
    """Draws the curve of some seeds: each thinly, their mean, and its interval if there are several."""
    style = "--" if name.endswith(", held out") else "-"
    for places, values in seeds:
        dot = "." if len(places) == 1 else ""
        axes.plot(places, values, style, marker=dot, color=colour, linewidth=0.7, alpha=0.35)
    places, matrix = common_points(seeds)
    if len(seeds) > 1 and places:
        intervals = mean_intervals(matrix, seed=0)
        low, high = [x.low for x in intervals], [x.high for x in intervals]
        if len(places) == 1:
            axes.vlines(places, low, high, color=colour, alpha=0.4, linewidth=4)
        axes.fill_between(places, low, high, color=colour, alpha=0.2, linewidth=0)
    seeds_in_words = "1 seed" if len(seeds) == 1 else f"mean of {len(seeds)} seeds"
    axes.plot(
        places, matrix.mean(axis=0), style, marker="o" if len(places) == 1 else "", color=colour, linewidth=2,
        label=f"{name}, {seeds_in_words}",
    )  # fmt: skip
