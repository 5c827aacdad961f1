"""`python -m rlbench.benchmarks.speed.compiling AGENT ...`: the number of updates after which compiling saves time, as rows of a Markdown table.

Times are processor times of the process and of the compiler, so that other load on the machine matters little. Each agent is measured in a new
process with an empty compiler cache.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable

SHORTEST, ROUNDS = 1.5, 5
"""Shortest processor time of a round in seconds, and the number of rounds, of which the fastest counts."""


def processor_time() -> float:
    """Seconds of processor time that this process and its children have used."""
    used = (resource.getrusage(x) for x in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(x.ru_utime + x.ru_stime for x in used)


def milliseconds(step: Callable[[], object]) -> float:
    """Processor time of a step in milliseconds, in the fastest round."""
    step()
    best = float("inf")
    for _ in range(ROUNDS):
        start, count = processor_time(), 0
        while (spent := processor_time() - start) < SHORTEST:
            step()
            count += 1
        best = min(best, spent / count)
    return 1e3 * best


def row(agent: str) -> str:
    """The row of an agent; the compiler's cache has to be empty."""
    import torch

    from rlbench import compute
    from rlbench.accelerate.compile import compiled_learn
    from rlbench.benchmarks.speed.worker import BATCH, our_agent, our_table

    compute.configure(1)
    batch = our_table(BATCH, "cpu").take(torch.arange(BATCH))

    def compiled() -> tuple[Callable[[], object], float]:
        learn = compiled_learn(our_agent(agent, "cpu"))
        start = processor_time()
        for _ in range(4):  # Enough updates for all phases.
            learn(batch)
        return lambda: learn(batch), processor_time() - start

    learner = our_agent(agent, "cpu")
    plain = milliseconds(lambda: learner.learn(batch))
    step, first = compiled()
    fast = milliseconds(step)
    torch._dynamo.reset()
    _, later = compiled()
    pays = [f"{1e3 * x / (plain - fast):,.0f}" if fast < plain else "never" for x in (first, later)]
    cells = [agent, f"{plain:.2f}", f"{fast:.2f}", f"{first:.1f}", f"{later:.1f}", *pays]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Prints the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("agents", nargs="+")
    for agent in parser.parse_args().agents:
        with tempfile.TemporaryDirectory() as cache:
            subprocess.run(
                [sys.executable, "-c", f"from {__spec__.name} import row; print(row({agent!r}))"],
                env=os.environ | {"TORCHINDUCTOR_CACHE_DIR": cache}, check=True,
            )  # fmt: skip


if __name__ == "__main__":
    main()
