"""`python -m rlbench.benchmarks.speed`: updates per second and peak memory, as a table.

Segments of all subjects alternate, so that other load on the machine affects all of them equally.
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

from rlbench.benchmarks.speed.aims import AIMS, SLACK
from rlbench.benchmarks.speed.peers import LIBRARIES

AGENTS = ("bc", "awac", "bcq", "bear", "cql", "crr", "iql", "sac", "td3-bc")


class WorkerDied(Exception):
    """A worker process ended before it answered; it has printed its error."""


class Subject:
    """Worker processes, usually one, that answer lines with numbers."""

    def __init__(
        self, name: str, *arguments: object, worker: str = "worker", processes: int = 1, threads: int = 1
    ) -> None:  # fmt: skip
        """Starts the processes and binds each to as many cores as it has threads; `ready` waits until they have built everything."""
        command = [sys.executable, "-m", f"{__package__}.{worker}", name, *map(str, arguments)]
        self._processes = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for _ in range(processes)
        ]
        if hasattr(os, "sched_setaffinity"):
            cores = itertools.cycle(sorted(os.sched_getaffinity(0)))
            for process in self._processes:
                os.sched_setaffinity(process.pid, set(itertools.islice(cores, threads)))

    def ask(self, question: object) -> float:
        """The sum of the answers to a line."""
        for process in self._processes:
            assert process.stdin is not None
            with suppress(BrokenPipeError):
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
        raise WorkerDied
    return line.strip()


@contextmanager
def running(
    name: str, *arguments: object, worker: str = "worker", processes: int = 1, threads: int = 1
) -> Iterator[Subject]:  # fmt: skip
    """A subject that is ready, until the block ends."""
    subject = Subject(name, *arguments, worker=worker, processes=processes, threads=threads)
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
    """Updates per second of each subject in each round of segments, and its peak memory in MiB; subjects that died are left out."""

    def start(name: str) -> AbstractContextManager[Subject]:
        library, *count, agent = name.split(" ")
        if library in LIBRARIES:
            return running(
                library, agent, folders[library], threads, rows, worker="peers", threads=threads
            )
        if library == "at-once":
            return running(f"rlbench {agent}", 1, rows, device, processes=int(count[0]))
        return running(name, threads, rows, device, threads=threads)

    with ExitStack() as stack:
        subjects: dict[str, Subject] = {}
        rates: dict[str, list[float]] = {}
        memory: dict[str, float] = {}

        def leave_out(name: str) -> None:
            print(f"note: {name} ended with the error above and is left out", file=sys.stderr)
            subjects.pop(name, None), rates.pop(name, None), memory.pop(name, None)

        for name in names:
            try:
                subjects[name] = stack.enter_context(start(name))
                rates[name] = []
            except WorkerDied:
                leave_out(name)
        for question in (*[seconds] * segments, "memory"):
            for name, subject in list(subjects.items()):
                try:
                    answer = subject.ask(question)
                except WorkerDied:
                    leave_out(name)
                    continue
                if question == "memory":
                    memory[name] = answer
                else:
                    rates[name].append(answer)
        return rates, memory


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
    result = {"threads": options.threads, "rows": rows, "device": options.device}
    result |= {"updates_per_second": rates, "peak_memory_mib": memory}
    peers = [x for x in ("d3rlpy", *LIBRARIES) if x in (*libraries, *folders)] + ["products"]
    header = [
        "subject",
        "updates/s, median [min-max]",
        *(f"ratio to {x}" for x in peers),
        "peak MiB",
    ]
    _print_row(header)
    _print_row(["---"] * len(header))
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
        rates.update(measured[0])
        memory.update(measured[1])
        if options.json:  # After each agent, so that an error in a later one loses nothing.
            options.json.write_text(json.dumps(result, indent=1))
        for name in measured[0]:
            _print_row(_row(name, rates, memory, peers))
    faults = _judge(rates, options.threads, options.agents)
    if options.check and faults:
        sys.exit("\n".join(faults))


def _judge(rates: dict[str, list[float]], threads: int, agents: Sequence[str]) -> list[str]:
    """Prints each target with the measured ratio; returns a sentence for each ratio that is far below its target or was not measured."""
    print("\n| agent | compared with | ratio | products | target |")
    print("| --- | --- | --- | --- | --- |")
    faults = []
    for aim in AIMS:
        if aim.threads != threads or aim.agent not in agents:
            continue
        peer = f"{aim.per_step} x {aim.peer}" if aim.per_step > 1 else aim.peer
        ours = aim.agent if aim.subject == "rlbench" else f"{aim.agent}, {aim.subject}"
        reached, limit, target = aim.reached(rates), aim.limit(rates), aim.target(rates)
        if reached is None:
            jobs = "" if aim.subject == "rlbench" else f" and --jobs {aim.threads}"
            checkout = f"give a checkout of it as --{aim.peer}{jobs}"
            faults.append(
                f"{ours} was not compared with {aim.peer}: {'install it' if aim.peer == 'd3rlpy' else checkout}, or correct its error above; "
                "see CONTRIBUTING.md"
            )
            continue
        print(
            f"| {ours} | {peer} | {reached:.2f} | {'' if limit is None else f'{limit:.2f}'} | {target:.2f} |"
        )
        if reached < SLACK * target:
            faults.append(
                f"{ours} compared with {aim.peer}: the ratio is {reached:.2f}, far below its target of {target:.2f}"
            )
    return faults


def _row(
    name: str, rates: Mapping[str, list[float]], memory: Mapping[str, float], peers: Sequence[str]
) -> list[str]:  # fmt: skip
    values, agent = rates[name], name.rpartition(" ")[2]
    spread = f"{statistics.median(values):.1f} [{min(values):.1f}-{max(values):.1f}]"
    ratios = [_ratio(values, rates.get(f"{peer} {agent}")) for peer in peers]
    return [name, spread, *ratios, f"{memory[name]:.0f}"]


def _print_row(cells: Sequence[str]) -> None:
    print("| " + " | ".join(cells) + " |", flush=True)


def _ratio(values: list[float], peer: list[float] | None) -> str:
    """Median over rounds of the ratio within a round."""
    if peer is None:
        return ""
    return f"{statistics.median(a / b for a, b in zip(values, peer, strict=True)):.2f}"


if __name__ == "__main__":
    main()
