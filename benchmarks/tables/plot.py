"""Plots learning curves from run folders.

    python -m rlbench.benchmarks.tables.plot RUN [RUN ...] --out curves.svg
    python -m rlbench.benchmarks.tables.plot results.json --out curves.svg

Runs of an agent on a task that differ only in the seed form one curve: their mean at the updates that they
share, with a thin line for each seed. Curves for held-out levels are dashed. Runs may be unfinished.
"""

import argparse
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rlbench.benchmarks.tables.curves import common_points
from rlbench.benchmarks.tables.summary import called, collect, score
from rlbench.benchmarks.training.formats import HELD_OUT, measures_of
from rlbench.errors import UserError
from rlbench.terminal import say


def plot(runs: Sequence[Path], out: Path) -> None:
    """Draws the score (the return if there is no score) over updates.

    Raises:
        UserError: matplotlib is not installed, a folder holds no run, or a run is given twice.
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise UserError(
            "pictures need matplotlib; install it with pip install matplotlib"
        ) from None

    found = collect(runs, unfinished=True)
    # One axis has one unit: scores if every task has one, otherwise returns.
    scored = all(run["reference_returns"] is not None for run in found)
    curves = defaultdict(list)
    for name, run in zip(called(found), found, strict=True):
        label = f"{name} on {run['run']['env']}"
        headline = measures_of(run)[0]
        for part, column in (("", headline.name), (", held out", HELD_OUT + headline.name)):
            if column not in run["evaluations"]:
                continue
            values = np.array(run["evaluations"][column]).mean(axis=1)
            if scored:
                values = np.array([score(run, value) for value in values])
            curves[label + part].append((run["evaluations"]["update"], values))

    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.add_subplot()
    for i, (label, seeds) in enumerate(curves.items()):
        style = "--" if label.endswith(", held out") else "-"
        for update, values in seeds:
            axes.plot(update, values, style, color=f"C{i}", linewidth=0.7, alpha=0.5)
        updates, matrix = common_points(seeds)
        seeds_in_words = "1 seed" if len(seeds) == 1 else f"mean of {len(seeds)} seeds"
        axes.plot(
            updates,
            matrix.mean(axis=0),
            style,
            color=f"C{i}",
            linewidth=2,
            label=f"{label}, {seeds_in_words}",
        )
    axes.set_xlabel("updates")
    titles = sorted({measures_of(run)[0].title for run in found})
    axes.set_ylabel("D4RL-normalised score" if scored else " or ".join(titles))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)
    # Below the axes, because curves would cross it inside.
    figure.legend(frameon=False, loc="outside lower left", fontsize="small")
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, metadata={"Date": None} if out.suffix == ".svg" else None, dpi=150)


def main() -> None:
    """The command line of this module."""
    parser = argparse.ArgumentParser(description="Draw learning curves from run folders.")
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folder or JSON file")
    parser.add_argument("--out", type=Path, required=True, help="file to write: .svg, .png or .pdf")
    asked = parser.parse_args()
    try:
        plot(asked.runs, asked.out)
    except UserError as error:
        parser.exit(2, f"{error}\n")
    say(asked.out)


if __name__ == "__main__":
    main()
