"""`python -m rlbench.benchmarks.speed.hashing`: the cost of noticing changed files.

For a run up to its first update, with data from the cache, and for a run with a replay buffer: CPU time of the process, how much of it
goes into hashing files, data and transitions and comparing the hashes, and by how much this makes the run longer. Both are measured in
the same process, so that the ratio does not depend on what else the computer does.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import wraps
from pathlib import Path
from typing import Any
from unittest.mock import patch

from rlbench import cli
from rlbench.benchmarks.training import run_folder
from rlbench.benchmarks.training.replay import ReplayFile
from rlbench.benchmarks.training.run_folder import RunFolder
from rlbench.offline_data import stamp

HASHING = (
    (stamp, "is_true"),
    (ReplayFile, "hash"),
    (RunFolder, "_hashes"),
    (run_folder, "with_hash"),
)
"""Everything that a run does to notice changed files."""
DATA = ["--env", "point-mixed", "--data-size", "200000"]
RUNS = {
    "start of `bc` with 200,000 transitions in the cache": ["bc", *DATA, "--updates", "1", "--eval-episodes", "1"],
    "400 updates of `sac` on Pendulum-v1, 4 checkpoints": ["sac", "--env", "Pendulum-v1", "--updates", "400", "--checkpoint-every", "100"],
}  # fmt: skip


class Clock:
    """CPU time spent in some functions; a call inside another one counts once."""

    def __init__(self) -> None:
        """Starts at 0."""
        self.seconds, self._inside = 0.0, False

    def timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, with its time added."""

        @wraps(function)
        def call(*given: Any, **options: Any) -> Any:
            if self._inside:
                return function(*given, **options)
            self._inside, start = True, time.process_time()
            try:
                return function(*given, **options)
            finally:
                self.seconds += time.process_time() - start
                self._inside = False

        return call


def measure(words: list[str]) -> tuple[float, float]:
    """CPU seconds of a run, imports included, and of its hashing."""
    clock = Clock()
    with ExitStack() as stack:
        for owner, name in HASHING:
            stack.enter_context(patch.object(owner, name, clock.timed(getattr(owner, name))))
        if code := cli.main(["run", *words]):
            sys.exit(code)
    return time.process_time(), clock.seconds


def main(arguments: list[str] | None = None) -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(
        prog="python -m rlbench.benchmarks.speed.hashing", description=__doc__
    )
    parser.add_argument("--run", choices=list(RUNS), help="only this one")
    asked = parser.parse_args(arguments)
    if asked.run is None:
        for words in RUNS.values():
            if "--data-size" in words:
                subprocess.run([sys.executable, "-m", "rlbench", "data", "make", words[2], "--size", words[4]], check=True)  # fmt: skip
        for name in RUNS:
            subprocess.run([sys.executable, "-m", __spec__.name, "--run", name], check=True)
        return
    with tempfile.TemporaryDirectory() as folder:
        whole, hashing = measure([*RUNS[asked.run], "--out", str(Path(folder) / "run")])
    print(
        f"{asked.run}: {whole:.2f} s, hashing {hashing:.3f} s, ratio {whole / (whole - hashing):.4f}"
    )


if __name__ == "__main__":
    main()
