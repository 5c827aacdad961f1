"""A heat map as SVG text."""

from collections.abc import Sequence
from html import escape

import numpy as np

from rlbench.backbones.analyses._base import Array

CELL, MARGIN, GAP = 34, 130, 6
LIGHT, DARK = np.array([242, 246, 250]), np.array([31, 95, 168])
"""Colours of the smallest and the largest value."""


def heat_map(
    values: Array, rows: Sequence[str], columns: Sequence[str], x_label: str, y_label: str
) -> str:
    """A picture of a matrix [R, C], with its values in hundredths; NaN cells are empty.

    Args:
        values: The matrix.
        rows: Names of the rows.
        columns: Names of the columns.
        x_label: What the columns are.
        y_label: What the rows are.
    """
    width, height = MARGIN + CELL * len(columns) + GAP, MARGIN + CELL * len(rows) + GAP
    low, high = np.nanmin(values), np.nanmax(values)
    shares = (values - low) / max(high - low, 1e-12)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="{GAP}" y="{MARGIN - GAP}" fill="#777">{escape(y_label)} \u2193</text>',
        f'<text x="{GAP}" y="{MARGIN - 4 * GAP}" fill="#777">{escape(x_label)} \u2192</text>',
    ]
    for at, name in enumerate(columns):
        x, y = MARGIN + CELL * (at + 0.6), MARGIN - GAP
        parts.append(f'<text x="{x:g}" y="{y}" transform="rotate(-60 {x:g} {y})">{escape(name)}</text>')  # fmt: skip
    for row, name in enumerate(rows):
        y = MARGIN + CELL * row
        parts.append(f'<text x="{MARGIN - GAP}" y="{y + 21}" text-anchor="end">{escape(name)}</text>')  # fmt: skip
        for column in np.flatnonzero(np.isfinite(values[row])).tolist():
            share, x = shares[row, column], MARGIN + CELL * column
            colour = "#" + "".join(f"{round(c):02x}" for c in LIGHT + share * (DARK - LIGHT))
            ink = "white" if share > 0.5 else "#333"
            parts.append(f'<rect x="{x}" y="{y}" width="{CELL - 1}" height="{CELL - 1}" fill="{colour}"/>')  # fmt: skip
            shown = f"{100 * values[row, column]:.0f}"
            parts.append(f'<text x="{x + CELL / 2}" y="{y + 21}" text-anchor="middle" fill="{ink}">{shown}</text>')  # fmt: skip
    return "\n".join([*parts, "</svg>\n"])
