"""Handling of Ctrl-C and SIGTERM, which request a command to stop."""

import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

ECHO = 1.0
"""Seconds after a signal within which another one counts as the same request: a terminal, `timeout` and
a parent process may each send their own."""


@contextmanager
def handling(handler: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    """Calls `handler` for Ctrl-C and SIGTERM, once per request, if this is the main thread."""
    last = -math.inf
    before: dict[int, Any] = {}

    def once(number: int, frame: FrameType | None) -> None:
        nonlocal last
        if time.monotonic() - last > ECHO:
            last = time.monotonic()
            handler(number, frame)

    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                before[number] = signal.signal(number, once)
            except ValueError:  # not the main thread: signals go elsewhere
                break
        yield
    finally:
        for taken, old in before.items():
            signal.signal(taken, old)
