"""What a search for an architecture found: the trade-off of accuracy and latency, the progress, and the best architectures.

The architectures that the agent tried are looked up in the environment of its run, which has stored their results.

    front          accuracy by latency of the architectures that no other beats in both
    best reward    by number of sequences that were tried, and by number of different architectures among them
    widths         the best architecture with its numbers of filters multiplied, which is trained and measured now
    best-1.json    the architecture with the highest reward, which `--encoder mnas:best-1.json` reads; best-2.json, ...
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from math import isfinite
from typing import Any, ClassVar

import numpy as np

from rlbench.backbones.analyses._base import Analysis, Array, Findings, Line, Panel
from rlbench.errors import UserError
from rlbench.experience import Examples


@dataclass(frozen=True, kw_only=True)
class FrontConfig:
    """Settings of the front."""

    best: int = 5
    """Number of architectures with the highest rewards that are written as files."""
    widths: tuple[float, ...] = ()
    """Width multipliers, such as 0.5: the best architecture is also trained and measured with so many times the filters, as an
    alternative to a search for a faster one."""

    def __post_init__(self) -> None:
        """Refuses settings that are out of range."""
        if self.best < 1:
            raise UserError(f"best is {self.best}; give 1 or more")
        if not all(isfinite(width) and width > 0 for width in self.widths):
            raise UserError(f"widths are {self.widths}; give numbers above 0")


class Front(Analysis):
    """Accuracy, latency and reward of everything that a search tried."""

    Config: ClassVar[type] = FrontConfig
    runs = ("a run of a search agent",)
    agents = True
    config: FrontConfig

    def analyse(self, learners: Sequence[Any], examples: Mapping[str, Examples]) -> Findings:
        """See `Analysis`."""
        (agent,) = learners
        tried = getattr(agent, "sequences", None)
        if tried is None:
            raise UserError(
                f"{type(agent).__name__} does not keep the architectures that it tried; give a run of nas, nas-random, "
                "nas-evolution or nas-local"
            )
        with closing(self.environment()) as env:
            search = env.unwrapped
            found = search.look_up(tried.tokens.numpy())
            widths = self.config.widths
            top = int(found.columns["reward"].argmax())
            scaled = (
                search.look_up_scaled(tuple(found.columns["tokens"][top].tolist()), widths)
                if widths
                else []
            )
        columns, front = found.columns, found.front
        reward, number, latency = (columns[x] for x in ("reward", "number", "latency_ms"))
        accuracy = columns["accuracy"]
        first = np.unique(number, return_index=True)[1]
        ranked = first[np.argsort(-reward[first], kind="stable")][: self.config.best]
        numbers = {
            "sequences": float(len(reward)),
            "different architectures": float(len(first)),
            "target in ms": found.target_ms,
            "share above the target": float((latency > found.target_ms).mean()),
            "standard deviation of log latency": float(np.log(latency).std()),
            "best reward": float(reward[top]),
            "its accuracy": float(accuracy[top]),
            "its test accuracy": float(columns["test_accuracy"][top]),
            "its latency in ms": float(latency[top]),
            "architectures on the front": float(len(front)),
            "hypervolume": found.hypervolume,
        }
        for width, one in zip(widths, scaled, strict=True):
            if one.accuracy is not None and one.latency_ms is not None:
                numbers[f"width {width:g}: accuracy"] = one.accuracy
                numbers[f"width {width:g}: latency in ms"] = one.latency_ms
        count = np.arange(1, len(reward) + 1)
        panels = (
            Panel("accuracy", "latency in ms", [_line("front", latency[front], accuracy[front])]),
            Panel(
                "best reward",
                "sequences or architectures",
                [
                    _line("by sequences", count, np.maximum.accumulate(reward)),
                    _line(
                        "by different architectures",
                        count[: len(first)],
                        np.maximum.accumulate(reward[first]),
                    ),
                ],
            ),
        )
        files = {
            f"best-{rank}.json": json.dumps(found.architectures[row].to_json(), indent=1) + "\n"
            for rank, row in enumerate(ranked.tolist(), start=1)
        }
        on_front = np.isin(np.arange(len(reward)), front)
        return Findings(numbers, panels, {**columns, "on_front": on_front}, files)


def _line(name: str, x: Array, value: Array) -> Line:
    """A curve without an interval."""
    return Line(name, x.tolist(), value, value, value)
