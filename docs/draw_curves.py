"""Draws the learning curves of docs/agents/ from the measures that docs/make_curves.py saves."""

from collections.abc import Mapping
from html import escape
from typing import Any

from rlbench.benchmarks.tables.curves import Plot, common_points, plot
from rlbench.benchmarks.tables.statistics import Interval

THIN, THICK = 'stroke="#7aa6d6" stroke-width="1"', 'stroke="#1f5fa8" stroke-width="2.2"'
TEXT, GRID = 'fill="#444"', 'stroke="#ddd"'


def draw(name: str, kept: Mapping[str, Any]) -> str:
    """An SVG picture: a thin line for each seed, and a thick one for their mean.

    Args:
        name: Agent or model.
        kept: Its entry in curves.json.
    """
    runs = list(kept["seeds"].values())
    updates, matrix = common_points([(run["updates"], run["values"]) for run in runs])
    lines = [*matrix.tolist(), matrix.mean(axis=0).tolist()]
    curves = [
        (name, 0, [(x, Interval(y, y, y)) for x, y in zip(updates, line, strict=True)])
        for line in lines
    ]
    return _svg(plot(name, "updates", curves), runs[0]["measure"])


def _svg(drawing: Plot, measure: str) -> str:
    left, right, bottom = drawing.left, drawing.right, drawing.bottom
    width, height = drawing.width, drawing.height + 14
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 -14 {width} {height}" width="{width}"',
        ' font-family="sans-serif" font-size="11">',
        f'<rect y="-14" width="{width}" height="{height}" fill="#fff"/>',
        f'<text x="6" y="-2" {TEXT}>{escape(measure)}</text>',
    ]
    for tick in drawing.y_ticks:
        parts += [
            f'<path d="M{left} {tick.at}H{right}" {GRID}/>',
            f'<text x="{left - 6}" y="{tick.at + 4:.1f}" text-anchor="end" {TEXT}>{tick.label}</text>',
        ]
    for tick in drawing.x_ticks:
        parts.append(
            f'<text x="{tick.at}" y="{bottom + 16}" text-anchor="middle" {TEXT}>{tick.label}</text>'
        )
    middle = (left + right) // 2
    parts.append(
        f'<text x="{middle}" y="{bottom + 34}" text-anchor="middle" {TEXT}>{drawing.x_label}</text>'
    )
    *seeds, mean = drawing.curves
    for curve, style in [*((seed, THIN) for seed in seeds), (mean, THICK)]:
        parts.append(f'<polyline points="{curve.line}" fill="none" {style}/>')
    return "\n".join([*parts, "</svg>", ""])
