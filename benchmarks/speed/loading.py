"""`python -m rlbench.benchmarks.speed.loading`: from a file to the first batch, and to the first update.

A fresh process for each figure. Times do not count imports, peak memory does; processor time is that
of a whole `rlbench run` of one update.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np
import torch

from rlbench.benchmarks.speed.peers import data
from rlbench.benchmarks.speed.worker import BATCH, peak_memory
from rlbench.envs.tasks import find_task
from rlbench.offline_data import open_data

TASK = "halfcheetah-medium"


def write(file: str, rows: int, kind: str) -> None:
    """A file in D4RL's format, as large as its numbers: random ones hardly compress."""
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


def processor_seconds(command: list[str]) -> float:
    """User and system time of a command."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main(arguments: list[str] | None = None) -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(
        prog="python -m rlbench.benchmarks.speed.loading", description=__doc__
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5, help="the median is reported")
    options = parser.parse_args(arguments)
    module = [sys.executable, "-m", "rlbench.benchmarks.speed.loading"]
    print("| from | to the first batch, s, median [min-max] | peak MiB |\n| --- | --- | --- |")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["RLBENCH_CACHE"] = str(folder / "cache")
        for kind in ("plain", "gzip"):
            file = folder / f"{kind}.hdf5"
            # A process begins with the peak of its parent, which shall therefore hold no data.
            subprocess.run([*module, "--write", str(file), str(options.rows), kind], check=True)
            seconds: dict[str, list[float]] = {"first": [], "later": []}
            peak = dict.fromkeys(seconds, 0.0)
            for _ in range(options.rounds):
                os.utime(file)  # Another file, to the cache.
                for when, values in seconds.items():
                    told = subprocess.check_output([*module, "--open", str(file)], text=True)
                    values.append(float(told.split()[0]))
                    peak[when] = max(peak[when], float(told.split()[1]))
            for when, values in seconds.items():
                spread = f"{statistics.median(values):.3f} [{min(values):.3f}-{max(values):.3f}]"
                print(f"| {kind} HDF5, read {when} | {spread} | {peak[when]:.0f} |", flush=True)
        run = [
            sys.executable, "-m", "rlbench", "run", "td3-bc", "--env", TASK, "--data", str(file),
            "--updates", "1", "--eval-episodes", "1", "--out",
        ]  # fmt: skip
        times = [processor_seconds([*run, str(folder / f"{i}")]) for i in range(options.rounds)]
        print(
            f"\nA run of one update and one episode: {statistics.median(times):.1f} s of processor"
        )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--open"]:
        first_batch(sys.argv[2])
    elif sys.argv[1:2] == ["--write"]:
        write(sys.argv[2], int(sys.argv[3]), sys.argv[4])
    else:
        main()
