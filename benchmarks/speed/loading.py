"""`python -m rlbench.benchmarks.speed.loading`: time to the first batch of a file, and to the first update.

Each figure has a new process. Times to the first batch exclude imports; peak memory and the CPU time
to the first update include them.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NoReturn
from unittest.mock import patch

import h5py
import numpy as np
import torch

from rlbench.benchmarks.speed.peers import data
from rlbench.benchmarks.speed.worker import BATCH, peak_memory
from rlbench.envs.tasks import find_task
from rlbench.offline_data import open_data

TASK = "halfcheetah-medium"


def write(file: str, rows: int, kind: str) -> None:
    """A file in D4RL's format with random numbers, which hardly compress."""
    timeouts = np.arange(rows) % 1000 == 999
    with h5py.File(file, "w") as out:
        for name, values in {**data(rows), "timeouts": timeouts}.items():
            out.create_dataset(name, data=values, compression=None if kind == "plain" else kind)


def first_batch(file: str) -> None:
    """Prints seconds to the first batch of a file, and peak memory in MiB."""
    torch.set_num_threads(1)
    task = find_task(TASK)
    task.make()
    start = time.perf_counter()
    open_data(task, file).sample(BATCH, torch.Generator().manual_seed(0))
    print(time.perf_counter() - start, peak_memory())


def first_update(arguments: list[str]) -> None:
    """`rlbench run` until its first update is done; prints the CPU time of this process so far."""
    # Not at the top: reading a batch needs no runner.
    from rlbench import cli
    from rlbench.benchmarks.training.recorder import Recorder

    def after(*_: object, **__: object) -> NoReturn:
        print(f"\n{time.process_time()}", flush=True)
        os._exit(0)

    with patch.object(Recorder, "after", after):
        cli.main(["run", *arguments])


def main(arguments: list[str] | None = None) -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(
        prog="python -m rlbench.benchmarks.speed.loading", description=__doc__
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5, help="the median is reported")
    options = parser.parse_args(arguments)
    module = [sys.executable, "-m", "rlbench.benchmarks.speed.loading"]
    print("| file | time to the first batch, s, median [min-max] | peak MiB |\n| --- | --- | --- |")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["RLBENCH_CACHE"] = str(folder / "cache")
        for kind in ("plain", "gzip"):
            file = folder / f"{kind}.hdf5"
            # A process starts with the peak of its parent, which must therefore hold no data.
            subprocess.run([*module, "--write", str(file), str(options.rows), kind], check=True)
            seconds: dict[str, list[float]] = {"first read": [], "later reads": []}
            peak = dict.fromkeys(seconds, 0.0)
            for _ in range(options.rounds):
                os.utime(file)  # The cache treats it as another file.
                for when, values in seconds.items():
                    told = subprocess.check_output([*module, "--open", str(file)], text=True)
                    values.append(float(told.split()[0]))
                    peak[when] = max(peak[when], float(told.split()[1]))
            for when, values in seconds.items():
                print(f"| {kind} HDF5, {when} | {_spread(values)} | {peak[when]:.0f} |", flush=True)
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder / "programs")
        run = [*module, "--run", "td3-bc", "--env", TASK, "--data", str(file), "--compile"]
        print("\n| run | CPU time, s, median [min-max] | wall time, s |")
        print("| --- | --- | --- |")
        for told, compiling, rounds in (
            ("not compiled", "off", options.rounds),
            ("compiled", "on", 1),
            ("compiled by an earlier run", "on", options.rounds),
        ):
            processor, clock = [], []
            for i in range(rounds):
                out, start = str(folder / f"{told}-{i}"), time.perf_counter()
                lines = subprocess.check_output([*run, compiling, "--out", out], text=True)
                processor.append(float(lines.split()[-1]))
                clock.append(time.perf_counter() - start)
            print(f"| {told} | {_spread(processor)} | {_spread(clock)} |", flush=True)


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):.3f} [{min(values):.3f}-{max(values):.3f}]"


if __name__ == "__main__":
    if sys.argv[1:2] == ["--open"]:
        first_batch(sys.argv[2])
    elif sys.argv[1:2] == ["--run"]:
        first_update(sys.argv[2:])
    elif sys.argv[1:2] == ["--write"]:
        write(sys.argv[2], int(sys.argv[3]), sys.argv[4])
    else:
        main()
