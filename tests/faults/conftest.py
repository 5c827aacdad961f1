"""Counts the faults that were injected, and prints their number at the end."""

from collections import Counter
from collections.abc import Callable

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
    if FAULTS:
        listed = ", ".join(f"{number} {kind.replace('_', ' ')}" for kind, number in FAULTS.items())
        terminalreporter.write_line(f"{FAULTS.total()} faults injected: {listed}")
