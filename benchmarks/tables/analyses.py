"""Analyses of runs in a report: their curves, numbers and pictures."""

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlbench.benchmarks.tables import statistics
from rlbench.benchmarks.tables.curves import Plot, plot
from rlbench.benchmarks.tables.images import Picture
from rlbench.benchmarks.tables.pictures import Pictures
from rlbench.benchmarks.tables.results import Results
from rlbench.benchmarks.tables.sheet import Section
from rlbench.benchmarks.training.analysing import Analysed, read_analysis
from rlbench.errors import UserError
from rlbench.terminal import say

IMAGES = {".png": "png", ".gif": "gif", ".svg": "svg+xml"}
LARGEST = 2_000_000
"""Bytes of a file that is shown; larger ones would make the page too large to send."""


@dataclass(frozen=True)
class Analyses:
    """What a report shows of analyses."""

    plots: list[Plot] = field(default_factory=list)
    numbers: list[Section] = field(default_factory=list)
    """A table, if there are numbers."""
    pictures: list[Pictures] = field(default_factory=list)


def analyses(results: Results) -> Analyses:
    """The analyses of runs; damaged ones are named and left out."""
    shown, rows = Analyses(), []
    for run, found, folder in _all(results):
        title = f"{folder.name} of {run}"
        shown.plots.extend(_plots(title, found))
        numbers: Mapping[str, float | None] = found.numbers
        rows += [
            [folder.name, run, name, "-" if x is None else f"{x:.4g}"]
            for name, x in numbers.items()
        ]
        files = [folder / name for name in found.files]
        images = tuple(
            Picture(_url(file), file.name)
            for file in files
            if file.suffix in IMAGES and file.exists() and file.stat().st_size <= LARGEST
        )
        if images:
            shown.pictures.append(Pictures(title, shown=images))
    if rows:
        shown.numbers.append(
            Section("Numbers of analyses", ["analysis", "run", "number", "value"], rows)
        )
    return shown


def _all(results: Results) -> Iterator[tuple[str, Analysed, Path]]:
    """Each analysis with the name of its run and its folder."""
    for result in results.all:
        for file in sorted(result.folder.glob("analyses/*/analysis.json")):
            try:
                found = read_analysis(file.parent)
            except UserError as error:
                say(f"note: an analysis is left out: {error}")
                continue
            yield f"{result.method} on {result.task}, seed {result.seed}", found, file.parent


def _plots(title: str, found: Analysed) -> Iterator[Plot]:
    for panel in found.panels:
        curves = [
            (line["name"], colour, _known(line)) for colour, line in enumerate(panel["lines"])
        ]
        curves = [curve for curve in curves if curve[2]]
        if curves:
            yield plot(f"{title}: {panel['title']}", panel["x_label"], curves)


def _known(line: Mapping[str, Any]) -> list[tuple[float, statistics.Interval]]:
    """The points of a line whose values are known."""
    points = zip(line["x"], line["value"], line["low"], line["high"], strict=True)
    return [(x, statistics.Interval(*y)) for x, *y in points if None not in y]


def _url(file: Path) -> str:
    """The contents of an image as a data URL."""
    return f"data:image/{IMAGES[file.suffix]};base64,{base64.b64encode(file.read_bytes()).decode()}"
