"""Curves with intervals as the coordinates of an SVG drawing."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from rlbench.benchmarks.tables.statistics import Interval
from rlbench.benchmarks.training.steps import EnvSteps
from rlbench.errors import UserError

WIDTH, HEIGHT = 400, 250
LEFT, RIGHT, TOP, BOTTOM = 44, 380, 8, 210
DASH = 6
"""Half the pixels of the dash that stands for a single point."""
COLOURS = 8
"""Colours of the page; a ninth curve reuses the first."""


@dataclass(frozen=True)
class Tick:
    """A tick label of an axis."""

    at: float
    label: str


@dataclass(frozen=True)
class Curve:
    """A line with its band, as SVG points."""

    name: str
    colour: int
    line: str
    band: str


@dataclass(frozen=True)
class Plot:
    """One drawing."""

    title: str
    x_label: str
    curves: list[Curve]
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = RIGHT
    bottom: int = BOTTOM


Points = Sequence[tuple[float, Interval]]


def plot(title: str, x_label: str, curves: Sequence[tuple[str, int, Points]]) -> Plot:
    """Draws curves on common axes.

    Args:
        title: Title above the drawing.
        x_label: Label below it.
        curves: Name, index of the colour, and an interval at each x.
    """
    points = [point for _, _, curve in curves for point in curve]
    x_axis = _Axis(min(x for x, _ in points), max(x for x, _ in points), LEFT, RIGHT)
    low, high = min(y.low for _, y in points), max(y.high for _, y in points)
    y_axis = _Axis(low, high, BOTTOM, TOP)
    drawn = []
    for name, colour, curve in curves:
        if len(curve) == 1:  # A dash, because a single point would not be seen.
            ((x, y),) = curve
            edge, width = DASH / (RIGHT - LEFT), x_axis.high - x_axis.low
            curve = [(x - edge * width, y), (x + edge * width, y)]
        above = [(x_axis.at(x), y_axis.at(y.high)) for x, y in curve]
        below = [(x_axis.at(x), y_axis.at(y.low)) for x, y in reversed(curve)]
        middle = [(x_axis.at(x), y_axis.at(y.point)) for x, y in curve]
        drawn.append(Curve(name, colour % COLOURS, _svg(middle), _svg([*above, *below])))
    return Plot(title, x_label, drawn, x_axis.ticks(4), y_axis.ticks(5))


def common_points(
    curves: Sequence[tuple[Sequence[int], Sequence[float]]],
) -> tuple[list[int], np.ndarray[Any, Any]]:
    """The x values that all R curves share, [K], and each curve's y values at them, [R, K].

    Args:
        curves: x and y values of each, such as updates and scores of a seed.
    """
    if not curves:
        return [], np.empty((0, 0))
    common = sorted(set.intersection(*(set(places) for places, _ in curves)))
    at = [dict(zip(places, values, strict=True)) for places, values in curves]
    return common, np.array([[values[place] for place in common] for values in at])


def x_axis(
    configs: Sequence[Mapping[str, Any]], over: Literal["auto", "steps", "updates"] = "auto"
) -> tuple[str, Callable[[Mapping[str, Any], int], int]]:
    """The horizontal axis of the curves of some runs.

    Args:
        configs: The config.json of each run.
        over: Environment steps, updates, or `auto`: environment steps if all runs count them.

    Returns:
        Its label, and a function from a config and an update to the place on the axis.

    Raises:
        UserError: Environment steps are wanted, but a run does not count them.
    """
    lacking = [config for config in configs if EnvSteps.saved(config) is None]
    if over == "steps" and lacking:
        run, learner = lacking[0]["run"], lacking[0]["learner"]["name"]
        raise UserError(
            f"the run of {learner} on {run['env']}, seed {run['seed']}, counts no environment steps, because it does not "
            "gather its own experience or was begun by an earlier version; give --over updates"
        )
    if over == "updates" or lacking:
        return "updates", lambda config, update: update
    return "environment steps", _steps_at


def _steps_at(config: Mapping[str, Any], update: int) -> int:
    steps = EnvSteps.saved(config)
    assert steps is not None
    return steps.at(update)


class _Axis:
    """The linear map of an interval of numbers to pixels."""

    def __init__(self, low: float, high: float, first: float, last: float) -> None:
        if high - low < 1e-9:
            low, high = low - 0.5, high + 0.5
        self.low, self.high, self._first, self._last = low, high, first, last

    def at(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return round(self._first + share * (self._last - self._first), 1)

    def ticks(self, about: int) -> list[Tick]:
        """Round tick values on the axis."""
        raw = (self.high - self.low) / about
        power = 10.0 ** math.floor(math.log10(raw))
        step = power * min((1, 2, 5, 10), key=lambda m: abs(m * power - raw))
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [Tick(self.at(i * step), f"{i * step:,.10g}") for i in range(first, last + 1)]


def _svg(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:g},{y:g}" for x, y in points)
