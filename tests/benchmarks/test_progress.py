"""The progress bar of a run: what it shows on narrow and on wide terminals."""

import io
import re

import pytest

from rlbench.benchmarks.training.progress import ProgressLine
from rlbench.terminal import Terminal


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize(
    ("title", "total", "unit"),
    [
        ("making halfcheetah-medium-replay", 1_000_000, "transitions"),
        ("my_package.agents:Something on my_world:make_a_long_name", 100_000, "updates"),
        ("bc on point-mixed", 2_000, "updates"),
    ],
)
def test_the_bar_keeps_percent_speed_and_time(
    title: str, total: int, unit: str, width: int
) -> None:
    out = io.StringIO()
    console = Terminal(file=out, force_terminal=True, width=width)
    with ProgressLine(console, title, total, unit) as line:
        line.advance(total // 10)
        line.advance(37 * total // 100)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.getvalue())
    last = [shown for shown in re.split(r"[\r\n]", text) if shown.strip()][-1]
    assert len(last) <= width
    assert re.search(rf"━ 37% .*[\d,]+ {unit}/s \S*\d\d left *$", last)
    assert (f"{37 * total // 100}/{total}" in last) == (width >= 100)
    assert last.startswith(title[:10])
    assert title in last or "…" in last
