"""The command `rlbench`, also as `python -m rlbench`."""

import os
import signal
import sys
from types import FrameType


def main() -> int:
    """Runs the command; returns its exit code.

    Until the command line is loaded and handles Ctrl-C itself, Ctrl-C ends the process without a traceback.
    """
    before = signal.signal(signal.SIGINT, _end)
    from rlbench.cli import main as run

    signal.signal(signal.SIGINT, before)
    return run()


def _end(number: int, frame: FrameType | None) -> None:
    os._exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
