"""Progress output of a run: a bar in a terminal, plain lines elsewhere."""

import time
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column

from rlbench.benchmarks.training.steps import EnvSteps
from rlbench.terminal import printable

WIDE, SHORTEST_BAR = 100, 6
"""Width in columns of a console from which on counts are shown next to the bar, and smallest width of the bar itself."""


class ProgressLine(AbstractContextManager["ProgressLine"]):
    """One task with a known end."""

    def __init__(
        self,
        console: Console,
        title: str,
        total: int,
        unit: str,
        done: int = 0,
        env_steps: EnvSteps | None = None,
    ) -> None:
        """Shows `title`; `done` of `total` are already done, in a `unit` such as updates.

        The speed is shown in the same unit, or in environment steps if `env_steps` is given.
        """
        self._console = console
        self._unit, self._env_steps = unit, env_steps
        self._title = printable(title)
        self._start = self._last_line = time.monotonic()
        self._first = self.done = done
        self.total = total
        self._bar: Progress | None = None
        if console.is_terminal:
            self._bar = Progress(
                TextColumn(
                    "{task.description}", markup=False, table_column=_shrinking(console, unit)
                ),
                BarColumn(bar_width=None, table_column=Column(ratio=1)),
                TextColumn("{task.percentage:.0f}%", markup=False),
                *([MofNCompleteColumn()] if console.width >= WIDE else ()),
                TextColumn("{task.fields[note]}", markup=False),
                TimeRemainingColumn(compact=True),
                TextColumn("left"),
                console=console,
                expand=True,
                speed_estimate_period=120,
            )
            self._bar.add_task(self._title, total=total, completed=done, note="")

    def __enter__(self) -> Self:
        """Nothing is drawn before the first `advance`: there may be nothing to wait for."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stops drawing."""
        if self._bar is not None:
            self._bar.stop()

    def advance(self, done: int) -> None:
        """`done` of the total are done; a plain line at most every half minute."""
        self.done = done
        if self._bar is not None:
            self._bar.start()
            self._bar.update(self._bar.task_ids[0], completed=done, note=self.speed())
        elif time.monotonic() - self._last_line > 30:
            self._last_line = time.monotonic()
            self._console.print(f"{self._title}: {done:,} of {self.total:,} {self._unit}")

    def say(self, text: str) -> None:
        """Prints a permanent line, above the bar if there is one."""
        self._console.print(text, soft_wrap=True)

    def report(self, text: str) -> None:
        """Prints a permanent line, with speed and time left if no bar shows them."""
        if self._bar is None:
            self._last_line = time.monotonic()
            done_each_second = (self.done - self._first) / self._seconds()
            left = (self.total - self.done) / max(done_each_second, 1e-9)
            text += f", {self.speed()}, {duration(left)} left"
        self.say(text)

    def speed(self) -> str:
        """What was done per second since the start, as in `9,216 steps/s` or `0.42 updates/s`."""
        done, unit = self.done - self._first, self._unit
        if self._env_steps is not None:
            done = self._env_steps.at(self.done) - self._env_steps.at(self._first)
            unit = "steps"
        rate = done / self._seconds()
        return f"{rate:,.0f} {unit}/s" if rate >= 10 else f"{rate:.2g} {unit}/s"

    def _seconds(self) -> float:
        return max(time.monotonic() - self._start, 1e-9)


def _shrinking(console: Console, unit: str) -> Column:
    """The column of the title, which is shortened if percent, speed and time would not fit next to it."""
    rest = len(f"100% 123,456 {unit}/s 12:34:56 left") + 2 + SHORTEST_BAR
    if console.width >= WIDE:
        rest += len("1000000/1000000 ")
    return Column(no_wrap=True, overflow="ellipsis", max_width=max(console.width - rest, 1))


def duration(seconds: float) -> str:
    """Seconds in words.

    >>> duration(75), duration(7300)
    ('1 min 15 s', '2 h 01 min')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
