"""Final measures of runs as a Markdown table, and all their evaluations as JSON.

    python -m rlbench.benchmarks.tables.summary RUN [RUN ...] --json results.json

The last checkpoint counts, never the best one. A results file can be given in place of its runs. Means are
over runs that differ only in the seed; if runs of an agent differ in more, their names include the settings
that differ.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlbench.benchmarks.tables.methods import kept_name, labels, refuse_repeats
from rlbench.benchmarks.training.formats import (
    is_whole,
    measures_of,
    upgraded,
    upgraded_evaluations,
)  # fmt: skip
from rlbench.benchmarks.training.run_folder import RunFolder
from rlbench.errors import UserError
from rlbench.measures import RETURN


def collect(runs: Sequence[Path], *, unfinished: bool = False) -> list[dict[str, Any]]:
    """Config, duration and every evaluation of each run, as plain values.

    Args:
        runs: Run folders, or JSON files with earlier results of this function.
        unfinished: Whether incomplete runs are allowed.

    Raises:
        UserError: A folder holds no complete run, or none at all, a file is damaged, or a run is given
            twice.
    """
    collected: list[dict[str, Any]] = []
    places: list[Path] = []
    for path in runs:
        if path.suffix == ".json":
            collected += _read(path)
            places += [path] * (len(collected) - len(places))
            continue
        folder = RunFolder(path)
        config, evaluations = folder.config(), folder.evaluations()
        folder.refuse_changed_files()
        if not unfinished and not folder.complete():
            raise UserError(
                f"{path} is not complete; finish it with `rlbench run --resume {quote(str(path))}`"
            )
        if not len(evaluations["update"]):
            raise UserError(f"{path} has not been evaluated yet; let it run for longer")
        if measures_of(config)[0] != RETURN:
            evaluations = _means(evaluations)
        raw = {name: column.tolist() for name, column in evaluations.items()}
        method = kept_name(path, config)
        collected.append(
            {**config, "method": method, "seconds": folder.seconds(), "evaluations": raw}
        )
        places.append(path)
    keys = zip(called(collected), collected, strict=True)
    refuse_repeats([(name, x["run"]["env"], x["run"]["seed"]) for name, x in keys], places)
    return collected


def _means(evaluations: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The mean of each measure over the examples, [K, 1]: a model has thousands of them."""
    return {"update": evaluations["update"]} | {
        name: column.mean(axis=1, keepdims=True)
        for name, column in evaluations.items()
        if column.dtype.kind == "f" and column.ndim == 2
    }


def _read(file: Path) -> list[dict[str, Any]]:
    try:
        saved = [upgraded(run) for run in json.loads(file.read_text(encoding="utf-8"))]
        for run in saved:
            run["evaluations"] = upgraded_evaluations(run["evaluations"])
            if not (is_whole(run) and len(run["evaluations"][measures_of(run)[0].name])):
                raise ValueError("a run in it lacks something")
        return saved
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{file} holds no results ({error}); give run folders") from None


def called(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """The method name of each run.

    This is the name in its table or sweep, or the agent, with the precision if it is not float32 (older runs do not record it)
    and with the settings in which runs of the method on a task differ.
    """
    names = []
    for run in runs:
        # JSON files of earlier versions lack the method.
        name = run.get("method", run["learner"]["name"])
        precision = run["run"].get("precision", "float32")
        names.append(name if precision == "float32" else f"{name} in {precision}")
    return labels(names, runs)


def score(run: Mapping[str, Any], mean_return: float) -> float | None:
    """D4RL-normalised score of a mean return; None if the task has no reference returns."""
    if run["reference_returns"] is None:
        return None
    low, high = run["reference_returns"]
    return float(100 * (mean_return - low) / (high - low))


def markdown(runs: Sequence[dict[str, Any]]) -> str:
    """One row per run, and one per method and task with the mean over seeds."""
    titles = "learner|task|seed|data|behaviour's score|episodes or examples|"
    titles += "measure, mean ± std (min to max)|score"
    lines = [f"| {titles.replace('|', ' | ')} |", "|---|---|---|---|---|---|---|---|"]
    groups: dict[tuple[str, str], list[float]] = {}
    for name, run in zip(called(runs), runs, strict=True):
        task = run["run"]["env"]
        headline = measures_of(run)[0]
        last = np.array(run["evaluations"][headline.name][-1])
        scored = score(run, float(last.mean()))
        digits = 0 if headline == RETURN else 3
        data = run["data"] or {"kind": "none", "details": {}}
        lines.append(
            f"| {name} | {task} | {run['run']['seed']} | {data['kind']} | "
            f"{_number(data['details'].get('score'))} | {len(last)} | "
            f"{headline.title} {last.mean():,.{digits}f} ± {last.std():,.{digits}f} "
            f"({last.min():,.{digits}f} to {last.max():,.{digits}f}) | "
            f"{_number(scored)} |"
        )
        if scored is not None:
            groups.setdefault((name, task), []).append(scored)
    for (name, task), scores in groups.items():
        spread = f"{np.mean(scores):.1f} ± {np.std(scores):.1f}"
        lines.append(f"| **{name}** | {task} | mean of {len(scores)} | | | | | **{spread}** |")
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def main() -> None:
    """The command line of this module."""
    parser = argparse.ArgumentParser(description="Summarise the final returns of runs.")
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folder or JSON file")
    parser.add_argument("--json", type=Path, help="file for every measure of every evaluation")
    parser.add_argument("--unfinished", action="store_true", help="allow unfinished runs")
    asked = parser.parse_args()
    try:
        runs = collect(asked.runs, unfinished=asked.unfinished)
    except UserError as error:
        parser.exit(2, f"{error}\n")
    print(markdown(runs))
    if asked.json:
        asked.json.write_text(json.dumps(runs, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
