"""`python -m rlbench.benchmarks.speed.attention`: time and memory of sparse and full attention, by length.

One layer in a process of its own for each row: CPU-seconds of a forward pass without gradients and of a forward
and a backward pass, and the most memory that the latter takes beyond what was taken before it. Linux only.
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from rlbench.backbones.layers.attention import Attention, Pattern

LENGTHS = (256, 512, 1024, 2048, 4096, 8192)
FORMS = ("full", "window", "big-bird", "etc")
WIDTH, HEADS = 64, 4
PASSES = 5


def main() -> None:
    """Prints a table of all forms and lengths, or the figures of one."""
    if len(sys.argv) > 1:
        print(*one(sys.argv[1], int(sys.argv[2])))
        return
    print(
        f"One sequence, width {WIDTH}, {HEADS} heads, blocks of {Pattern().block}; medians of {PASSES} passes"
    )
    print("| length | attention | forward, ms | forward and backward, ms | memory, MB |")
    print("|---|---|---|---|---|")
    for length in LENGTHS:
        for form in FORMS:
            command = [sys.executable, "-m", __spec__.name, form, str(length)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            forward, both, memory = map(float, done.stdout.split())
            print(
                f"| {length:,} | {form} | {forward:.1f} | {both:.1f} | {memory:.0f} |", flush=True
            )


def one(form: str, length: int) -> tuple[float, float, float]:
    """Milliseconds of a forward pass and of a forward and a backward pass, and megabytes of memory."""
    torch.set_num_threads(1)
    layer = Attention(WIDTH, HEADS, length, Pattern(form))  # type: ignore[arg-type]
    x = torch.randn(1, length, WIDTH)

    def forward() -> None:
        with torch.no_grad():
            layer(x)

    def both() -> None:
        layer(x).sum().backward()

    forward()  # Draws the pattern.
    Path("/proc/self/clear_refs").write_text("5")  # Resets the peak memory.
    before = _memory("VmRSS")
    both()
    memory = _memory("VmHWM") - before
    return _milliseconds(forward), _milliseconds(both), memory


def _milliseconds(run: Callable[[], None]) -> float:
    spent = []
    for _ in range(PASSES):
        begin = time.process_time()
        run()
        spent.append(1000 * (time.process_time() - begin))
    return statistics.median(spent)


def _memory(kind: str) -> float:
    """A line of the process's status in megabytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(f"{kind}:"))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    main()
