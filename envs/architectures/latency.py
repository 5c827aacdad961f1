"""Measures how long a network takes for a batch, on one thread of this computer.

    warm up 10 passes; 3 rounds of 40 passes, each timed by the wall clock and by the thread's own processor time
    latency = smallest wall time

Other programs only ever make a pass slower, so the minimum is the best estimate of an undisturbed pass. If the median wall
time is more than 1.5 times the median processor time, the processor was busy with something else, and all is measured again,
up to 3 times; after that the latency is the smaller of the smallest wall time and the median processor time, which waiting does
not inflate.

MnasNet measures on one core of a phone (Tan et al., 2019, https://arxiv.org/abs/1807.11626, section 3). The rules are ours.
"""

import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from rlbench.envs.architectures.children import one_thread, pixels

RULES = 2
"""Increases when the rules change, so that older measurements are not mixed with newer ones."""
WARM_UP, PASSES, ROUNDS = 10, 40, 3
CONTENDED = 1.5
"""Ratio of the medians above which the processor was busy with something else."""
RETRIES = 3


class Clocks(NamedTuple):
    """Two clocks, in seconds."""

    wall: Callable[[], float] = time.perf_counter
    thread: Callable[[], float] = time.thread_time
    """Time that this thread spent on a processor."""


@dataclass(frozen=True)
class Latency:
    """A measured latency; times in milliseconds."""

    latency_ms: float
    """The latency."""
    wall_ms: float
    """Smallest wall time."""
    thread_ms: float
    """Median processor time of the thread."""
    ratio: float
    """Median wall time by median processor time."""
    contended: bool
    """Whether the processor was busy with something else in every attempt."""


@dataclass(frozen=True)
class Device:
    """All that a latency depends on besides the network."""

    processor: str
    """Model of the processor."""
    torch: str
    """Version of PyTorch."""
    batch: int
    """Images in one pass."""
    shape: tuple[int, ...]
    """One image, [C, H, W]."""
    threads: int = 1

    @classmethod
    def here(cls, batch: int, shape: tuple[int, ...]) -> "Device":
        """This computer."""
        return cls(_processor(), torch.__version__, batch, shape)

    def key(self) -> dict[str, Any]:
        """Plain values for the key of cached latencies."""
        return asdict(self) | {"shape": list(self.shape), "rules": RULES}


def measure(run: Callable[[], object], clocks: Clocks | None = None) -> Latency:
    """The latency of a call, by the rules of the module.

    Args:
        run: The call.
        clocks: The computer's own by default.
    """
    clocks = clocks or Clocks()
    for _ in range(1 + RETRIES):
        found = _attempt(run, clocks)
        if not found.contended:
            break
    return found


def _attempt(run: Callable[[], object], clocks: Clocks) -> Latency:
    for _ in range(WARM_UP):
        run()
    wall, thread = np.empty((2, ROUNDS * PASSES))
    for i in range(ROUNDS * PASSES):
        wall_begin, thread_begin = clocks.wall(), clocks.thread()
        run()
        thread[i], wall[i] = clocks.thread() - thread_begin, clocks.wall() - wall_begin
    wall, thread = wall * 1e3, thread * 1e3
    middle = float(np.median(thread))
    ratio = float(np.median(wall)) / middle
    contended = ratio > CONTENDED
    best = float(wall.min())
    return Latency(min(middle, best) if contended else best, best, middle, ratio, contended)


def latency_of(network: nn.Module, device: Device) -> Latency:
    """The latency of a network on images of random bytes, in evaluation mode."""
    generator = torch.Generator().manual_seed(0)
    obs = torch.randint(256, (device.batch, *device.shape), generator=generator, dtype=torch.uint8)
    network.eval()
    with one_thread(), torch.inference_mode():
        given = pixels(obs)
        return measure(lambda: network(given))


@cache
def _processor() -> str:
    """The model of the processor, or its architecture if the system does not name a model."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()
