"""Counts the faults that were injected, and prints their number at the end; a test of another folder is one fault."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

FAULTS: Counter[str] = Counter()


@pytest.fixture
def count_faults(request: pytest.FixtureRequest) -> Callable[[int], None]:
    """A function that adds to the number of faults of this test's file."""

    def add(number: int) -> None:
        FAULTS[request.path.stem.removeprefix("test_")] += number

    return add


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Prints the number of faults by kind."""
    for report in terminalreporter.getreports("passed"):
        path = Path(report.nodeid.partition("::")[0])
        if "faults" not in path.parts:
            FAULTS[path.stem.removeprefix("test_")] += 1
    listed = ", ".join(f"{number} {kind.replace('_', ' ')}" for kind, number in FAULTS.items())
    terminalreporter.write_line(f"{FAULTS.total()} faults injected: {listed}")
