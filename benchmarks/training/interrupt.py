"""Ctrl-C and SIGTERM as a wish to stop soon, so that the run can be saved first."""

import signal
from types import FrameType, TracebackType
from typing import Any, Self


class Interrupt:
    """While active, the first signal sets `requested`; a second one stops at once."""

    def __enter__(self) -> Self:
        """Takes over the signals, where this is the main thread."""
        self.requested = False
        self._before: dict[int, Any] = {}
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self._before[number] = signal.signal(number, self._on_signal)
            except ValueError:  # not the main thread: signals go elsewhere
                break
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Gives the signals back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
