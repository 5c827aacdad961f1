"""Ctrl-C and SIGTERM as requests to stop soon, so that the run can be saved first."""

import signal
import time
from types import FrameType, TracebackType
from typing import Self

from rlbench.errors import Interrupted
from rlbench.stopping import handling

GRACE = 0.5
"""Seconds after the first signal within which a rollout or an evaluation may still finish."""
LIMIT = 5.0
"""Seconds after the first signal within which anything else may finish: an update, its compilation, a save."""


class Unfinished(BaseException):
    """Something was abandoned midway, so the run resumes from its last checkpoint.

    Not an `Exception`, so that neither an environment nor the compiler mistakes it for its own error.
    """


class Interrupt:
    """While active, the first signal sets `requested`; a second one stops at once."""

    def __enter__(self) -> Self:
        """Installs the signal handlers if this is the main thread."""
        global _active  # Global, because signals belong to the process.
        self.requested = False
        self._since: float | None = None
        self._signals = handling(self._on_signal)
        self._signals.__enter__()
        _active = self
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Restores the signal handlers.

        Raises:
            Unfinished: An error followed the first signal, perhaps because of it: the terminal
                sends Ctrl-C to a compiler too.
            KeyboardInterrupt: The run was completed after the first signal, which should also stop
                whatever would follow.
        """
        global _active
        _active = None
        if self.requested and hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, self._alarm)
        self._signals.__exit__(None, None, None)
        if self.requested and error is None:
            raise KeyboardInterrupt("stopped after the last update, so the run is complete")
        if self.requested and isinstance(error, Exception) and not isinstance(error, Interrupted):
            raise Unfinished from error

    def look(self) -> None:
        """Raises `Unfinished` if the first signal came more than `GRACE` seconds ago."""
        if self._since is not None and time.monotonic() - self._since > GRACE:
            raise Unfinished

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt(
                "stopped at once; `rlbench run --resume` with the run's folder continues from its "
                "last checkpoint"
            )
        self.requested, self._since = True, time.monotonic()
        if hasattr(signal, "setitimer"):  # not on Windows
            self._alarm = signal.signal(signal.SIGALRM, self._abandon)
            # Again every second, because a destructor or a callback may swallow the exception.
            signal.setitimer(signal.ITIMER_REAL, LIMIT, 1.0)

    def _abandon(self, number: int, frame: FrameType | None) -> None:
        raise Unfinished


_active: Interrupt | None = None


def look() -> None:
    """Call this at every step of a loop that plays; it leaves the loop soon after the first signal.

    Without an active `Interrupt`, signals stop Python as usual.

    Raises:
        Unfinished: The loop should stop.
    """
    if _active is not None:
        _active.look()
