"""Kill a run at random moments, resume it each time, and compare it with one that never was.

python tests/kill_and_resume.py --kills 10
"""

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rlbench import checkpoint
from rlbench.benchmarks.training.run_folder import RunFolder

RLBENCH = (sys.executable, "-m", "rlbench")


def killed_equals_unkilled(arguments: Sequence[str], folder: Path, kills: int, seed: int) -> str:
    """Runs `rlbench run ARGUMENTS` twice, once with kills.

    Args:
        arguments: Agent, task and settings, without --out.
        folder: An empty folder for the two runs.
        kills: How often one of them is killed with SIGKILL and resumed.
        seed: Decides the moments.

    Returns:
        In words, at which updates it was killed.

    Raises:
        AssertionError: Weights, metrics or returns differ in any bit.
    """
    whole, broken = folder / "whole", folder / "broken"
    began = time.monotonic()
    _finish([*RLBENCH, "run", *arguments, "--out", str(whole)])
    length = time.monotonic() - began
    moments = random.Random(seed)
    command = [*RLBENCH, "run", *arguments, "--out", str(broken)]
    updates = []
    for _ in range(kills):
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as run:
            while not (broken / "config.json").exists() and run.poll() is None:
                time.sleep(0.01)
            # Early enough that all kills find the run alive.
            time.sleep(moments.uniform(0.2, 0.2 + 1.5 * length / kills))
            run.send_signal(signal.SIGKILL)
        updates.append([0, *RunFolder(broken).checkpoints()][-1])
        command = [*RLBENCH, "run", "--resume", str(broken)]
    _finish(command)
    assert_equal(whole, broken)
    return f"killed {kills} times, resumed from updates {updates}"


def assert_equal(one: Path, other: Path) -> None:
    """Checkpoint, metrics and returns of two runs are equal, bit for bit."""
    first, second = (checkpoint.all_in(path / "checkpoint")[-1] for path in (one, other))
    for ending in (".safetensors", ".json"):
        a, b = (Path(f"{path}{ending}").read_bytes() for path in (first, second))
        assert a == b, f"checkpoints differ: {first}{ending}"
    a, b = ((path / "metrics.jsonl").read_bytes() for path in (one, other))
    assert a == b, "metrics differ"
    assert [json.loads(line) for line in a.splitlines()], "there are no metrics"
    mine, yours = RunFolder(one).evaluations(), RunFolder(other).evaluations()
    for name in mine:
        assert np.array_equal(mine[name], yours[name]), f"returns differ in {name}"


def _finish(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def main() -> None:
    """The command line of this file."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--agent", default="bear")
    parser.add_argument("--env", default="halfcheetah-medium")
    asked = parser.parse_args()
    arguments = [asked.agent, "--env", asked.env, "--updates", "2000", "--log-every", "50"]
    arguments += ["--checkpoint-every", "100", "--eval-every", "500", "--data-size", "100000"]
    with tempfile.TemporaryDirectory() as folder:
        print(killed_equals_unkilled(arguments, Path(folder), asked.kills, asked.seed))
    print("weights, metrics and returns equal those of the run never killed, bit for bit")


if __name__ == "__main__":
    main()
