"""`python -m rlbench.benchmarks.speed`: updates per second and peak memory, as a table.

Segments of all subjects alternate, so that other load on the machine affects all of them equally.
"""

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.table import Table

from rlbench.benchmarks.speed.aims import AIMS, SLACK
from rlbench.benchmarks.speed.peers import LIBRARIES
from rlbench.terminal import Terminal

AGENTS = ("bc", "awac", "bcq", "bear", "cql", "crr", "iql", "sac", "td3-bc")


class Subject:
    """Worker processes, usually one, that answer lines with numbers."""

    def __init__(
        self, name: str, *arguments: object, worker: str = "worker", processes: int = 1
    ) -> None:
        """Starts the processes; `ready` waits until they have built everything."""
        command = [sys.executable, "-m", f"{__package__}.{worker}", name, *map(str, arguments)]
        self._processes = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for _ in range(processes)
        ]

    def ask(self, question: object) -> float:
        """The sum of the answers to a line."""
        for process in self._processes:
            assert process.stdin is not None
            print(question, file=process.stdin, flush=True)
        return sum(float(_answer(process)) for process in self._processes)

    def ready(self) -> None:
        """Returns when the workers are ready for questions."""
        for process in self._processes:
            while _answer(process) != "ready":
                pass

    def close(self) -> None:
        """Ends the processes."""
        for process in self._processes:
            process.kill()
            process.communicate()


def _answer(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise RuntimeError("a worker of the speed benchmark died; its error is above")
    return line.strip()


@contextmanager
def running(
    name: str, *arguments: object, worker: str = "worker", processes: int = 1
) -> Iterator[Subject]:
    """A subject that is ready, until the block ends."""
    subject = Subject(name, *arguments, worker=worker, processes=processes)
    try:
        subject.ready()
        yield subject
    finally:
        subject.close()


def measure(
    names: list[str],
    *,
    threads: int,
    rows: int,
    segments: int,
    seconds: float,
    device: str,
    folders: Mapping[str, Path],
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Updates per second of each subject in each round of segments, and its peak memory in MiB."""

    def start(name: str) -> AbstractContextManager[Subject]:
        library, *count, agent = name.split(" ")
        if library in LIBRARIES:
            return running(library, agent, folders[library], threads, rows, worker="peers")
        if library == "at-once":
            return running(f"rlbench {agent}", 1, rows, device, processes=int(count[0]))
        return running(name, threads, rows, device)

    with ExitStack() as stack:
        subjects = {name: stack.enter_context(start(name)) for name in names}
        rates: dict[str, list[float]] = {name: [] for name in names}
        for _ in range(segments):
            for name, subject in subjects.items():
                rates[name].append(subject.ask(seconds))
        return rates, {name: subject.ask("memory") for name, subject in subjects.items()}


def main(arguments: list[str] | None = None) -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(prog="python -m rlbench.benchmarks.speed", description=__doc__)
    parser.add_argument("--threads", type=int, default=1, help="threads of each process")
    parser.add_argument("--segments", type=int, default=9, help="rounds; the median is reported")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of a segment")
    parser.add_argument("--quick", action="store_true", help="one short round, little data")
    parser.add_argument("--agents", nargs="+", default=list(AGENTS), choices=AGENTS)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--bfloat16", action="store_true", help="also measure products in bfloat16")
    parser.add_argument(
        "--seeds", type=int, default=1, help="also measure this many seeds as one batch"
    )
    parser.add_argument(
        "--jobs",
        type=int,
        default=1,
        help="also measure this many processes at once, with one thread each",
    )
    parser.add_argument(
        "--check", action="store_true", help=f"fail if a ratio is below {SLACK} of its target"
    )
    for library in LIBRARIES:
        parser.add_argument(
            f"--{library}", type=Path, help="a checkout of the library, to measure it too"
        )
    parser.add_argument("--json", type=Path, help="also write all measured numbers to a file")
    parser.add_argument("--markdown", action="store_true", help="print a Markdown table")
    options = parser.parse_args(arguments)
    if options.quick:
        options.segments, options.seconds = 1, 0.2
    rows = 10_000 if options.quick else 1_000_000

    # A quick measurement does not wait for a compiler.
    libraries = ["uncompiled"] if options.quick else ["rlbench", "uncompiled"]
    if find_spec("d3rlpy"):
        libraries.append("d3rlpy")
    told = {peer: getattr(options, peer.replace("-", "_")) for peer in LIBRARIES}
    folders = {peer: folder for peer, folder in told.items() if folder is not None}
    rates: dict[str, list[float]] = {}
    memory: dict[str, float] = {}
    for agent in options.agents:
        names = [f"{library} {agent}" for library in [*libraries, "products"]]
        names += [f"bfloat16 {agent}"] if options.bfloat16 else []
        names += [f"together {options.seeds} {agent}"] if options.seeds > 1 else []
        names += [f"at-once {options.jobs} {agent}"] if options.jobs > 1 else []
        names += [f"{peer} {agent}" for peer in folders if agent in LIBRARIES[peer].scripts]
        measured = measure(
            names, threads=options.threads, rows=rows,
            segments=options.segments, seconds=options.seconds, device=options.device,
            folders=folders,
        )  # fmt: skip
        rates, memory = rates | measured[0], memory | measured[1]
    if options.json:
        result = {"threads": options.threads, "rows": rows, "device": options.device}
        result |= {"updates_per_second": rates}
        options.json.write_text(json.dumps(result | {"peak_memory_mib": memory}, indent=1))
    _show(rates, memory, markdown=options.markdown)
    met = _judge(rates, options.threads)
    if options.check and not met:
        sys.exit("a ratio is far below its target; see above")


def _judge(rates: dict[str, list[float]], threads: int) -> bool:
    """Prints each target with the measured ratio; returns whether all are nearly met."""
    print("\n| agent | compared with | ratio | products | target |")
    print("| --- | --- | --- | --- | --- |")
    met = True
    for aim in AIMS:
        reached = aim.reached(rates)
        if aim.threads == threads and reached is not None:
            peer = f"{aim.per_step} x {aim.peer}" if aim.per_step > 1 else aim.peer
            ours = aim.agent if aim.subject == "rlbench" else f"{aim.agent}, {aim.subject}"
            limit = aim.limit(rates)
            told = "" if limit is None else f"{limit:.2f}"
            print(f"| {ours} | {peer} | {reached:.2f} | {told} | {aim.ratio} |")
            met = met and reached >= SLACK * aim.ratio
    return met


def _show(rates: dict[str, list[float]], memory: dict[str, float], *, markdown: bool) -> None:
    peers = [
        p for p in ("d3rlpy", *LIBRARIES, "products") if any(n.startswith(f"{p} ") for n in rates)
    ]
    header = ["subject", "updates/s, median [min-max]"]
    header += [*(f"ratio to {peer}" for peer in peers), "peak MiB"]
    lines: list[list[str]] = []
    for name, values in rates.items():
        spread = f"{statistics.median(values):.1f} [{min(values):.1f}-{max(values):.1f}]"
        agent = name.rpartition(" ")[2]
        ratios = [_ratio(values, rates.get(f"{peer} {agent}")) for peer in peers]
        lines.append([name, spread, *ratios, f"{memory[name]:.0f}" if name in memory else ""])
    if markdown:
        for line in [header, ["---"] * len(header), *lines]:
            print("| " + " | ".join(line) + " |")
        return
    table: Any = Table(*header)
    for line in lines:
        table.add_row(*line)
    Terminal().print(table)


def _ratio(values: list[float], peer: list[float] | None) -> str:
    """Median over rounds of the ratio within a round."""
    if peer is None:
        return ""
    return f"{statistics.median(a / b for a, b in zip(values, peer, strict=True)):.2f}"


if __name__ == "__main__":
    main()
