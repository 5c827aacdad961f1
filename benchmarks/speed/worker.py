"""One subject of the speed benchmark, in its own process.

    python -m rlbench.benchmarks.speed.worker SUBJECT THREADS ROWS DEVICE

SUBJECT is a library and an agent; "together 8 bear" are eight of our seeds as one batch. Each line
on standard input is a duration in seconds; the answer is updates per second over it.

Each subject has its own process, because threads, matrix products and memory settings apply to a whole
process: a peer must run with its own settings, not with ours.
"""

import itertools
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Hashable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from rlbench import compute
from rlbench.accelerate import thin
from rlbench.accelerate.compile import compiled_learn
from rlbench.accelerate.seeds import SeedBatch
from rlbench.agents import load_agent
from rlbench.interface import Agent, Spec
from rlbench.storage import Layout, TransitionTable

OBS, ACTION, BATCH = 17, 6, 256
"""HalfCheetah and Walker2d; the sizes that every library has as its default."""
SETTINGS: dict[str, dict[str, Any]] = {
    # Its warm-up would leave out half of the policy's gradient.
    "bear": {"warmup_updates": 0},
    # d3rlpy's defaults: the same work.
    "bcq": {"target_samples": 100},
    "awac": {"layers": "mlp"},
    "crr": {"critics": 1, "layers": "mlp", "normalise_obs": False},
    "cql": {"gap_threshold": 10.0},
}
"""Settings whose defaults differ from d3rlpy's, so that both do the same work."""

SPEC = Spec(Box(-1, 1, (OBS,)), Box(-1, 1, (ACTION,)))

Step = Callable[[], object]


def random_data(rows: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Packed transitions of uniform numbers, in episodes of 1,000 steps without a terminal."""
    layout = Layout((OBS,), (ACTION,))
    data = np.random.default_rng(0).random((rows, layout.width), dtype=np.float32)
    data *= 1.98
    data -= 0.99
    data[:, OBS + ACTION + 1 : OBS + ACTION + 3] = 0.0
    return data


def _write(file: Path, rows: int) -> None:
    np.save(file, random_data(rows))


def our_table(rows: int, device: str) -> TransitionTable:
    """A memory-mapped file, or a table on the GPU."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows.npy"
        # In another process: making the data must not count as memory of the agent.
        maker = multiprocessing.get_context("spawn").Process(target=_write, args=(file, rows))
        maker.start()
        maker.join()
        mapped = torch.from_numpy(np.load(file, mmap_mode="c"))
        return TransitionTable(mapped.to(device), Layout((OBS,), (ACTION,)))


def our_agent(name: str, device: str, seed: int = 0) -> Agent:
    """An agent with its peers' numbers of critics and samples."""
    agent_class = load_agent(name)
    settings = agent_class.Config(**SETTINGS.get(name, {}))
    return agent_class(settings, SPEC, seed=seed, device=device)


def our_step(
    name: str, rows: int, device: str, *, compiled: bool = True, precision: str = "float32"
) -> Step:
    """One update of our agent, with sampling."""
    agent, table = our_agent(name, device), our_table(rows, device)
    generator = torch.Generator(device).manual_seed(0)
    learn = compiled_learn(agent, precision=precision) if compiled else agent.learn
    return lambda: learn(table.sample(BATCH, generator))


def together_step(seeds: int, name: str, rows: int, device: str) -> Step:
    """One update of all our agents as one batch, with sampling."""
    together = SeedBatch([our_agent(name, device, seed) for seed in range(seeds)])
    table = our_table(rows, device)
    each = [torch.Generator(device).manual_seed(seed) for seed in range(seeds)]

    def step() -> object:
        places = torch.stack([table.places(BATCH, generator) for generator in each])
        return together.learn(table.take(places))

    return step


def d3rlpy_step(name: str, rows: int, device: str) -> Step:
    """One update of d3rlpy's algorithm of that name, with its own data set and sampling."""
    import d3rlpy
    import structlog

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    obs, action, reward, terminated, truncated, _ = (
        x.numpy()
        for x in torch.from_numpy(random_data(rows)).split(Layout((OBS,), (ACTION,)).widths, dim=1)
    )
    truncated[999::1000] = 1.0
    data = d3rlpy.dataset.MDPDataset(
        obs.copy(), action.copy(), reward.copy(), terminated[:, 0], truncated[:, 0]
    )
    config = {
        "bc": d3rlpy.algos.BCConfig(batch_size=BATCH),
        "awac": d3rlpy.algos.AWACConfig(batch_size=BATCH),
        "bcq": d3rlpy.algos.BCQConfig(batch_size=BATCH),
        "bear": d3rlpy.algos.BEARConfig(batch_size=BATCH, warmup_steps=0),
        "cql": d3rlpy.algos.CQLConfig(batch_size=BATCH),
        "crr": d3rlpy.algos.CRRConfig(batch_size=BATCH),
        "iql": d3rlpy.algos.IQLConfig(batch_size=BATCH),
        "sac": d3rlpy.algos.SACConfig(batch_size=BATCH),
        "td3-bc": d3rlpy.algos.TD3PlusBCConfig(batch_size=BATCH),
    }[name]
    algorithm = config.create(device=False if device == "cpu" else device)
    algorithm.build_with_dataset(data)
    return lambda: algorithm.update(data.sample_transition_batch(BATCH))


class Products(TorchDispatchMode):
    """A context that records the matrix products."""

    def __init__(self) -> None:
        """Starts with an empty record."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.done: list[tuple[Callable[..., Tensor], Tensor, Tensor]] = []
        """Function and factors."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Called by PyTorch for each operation."""
        aten = torch.ops.aten
        if func in (aten.mm.default, aten.bmm.default):
            self.done.append((func, *args[:2]))
        elif func in (aten.addmm.default, aten.baddbmm.default):
            self.done.append((torch.mm if func is aten.addmm.default else torch.bmm, *args[1:3]))
        return func(*args, **(kwargs or {}))


def kernels(product: Callable[..., Tensor], a: Tensor, b: Tensor) -> list[Step]:
    """Ways to compute a matrix product: with oneDNN and MKL, one matrix of a batch after another, and as a sum if a dimension has size 1."""
    ways: list[Step] = [partial(product, a, b)]
    if a.ndim == 3:
        pairs = list(zip(a, b, strict=True))
        ways.append(lambda: [torch.mm(x, y) for x, y in pairs])
    if thin.product(a, b) is not NotImplemented:
        ways.append(partial(thin.product, a, b))
    chosen = torch.get_float32_matmul_precision()
    # `compute.configure` chooses oneDNN with "medium" if that computes in float32; "highest" is MKL.
    return [*ways, *([_by_mkl(ways[0], chosen)] if chosen == "medium" else [])]


def _by_mkl(product: Step, chosen: str) -> Step:
    def step() -> object:
        torch.set_float32_matmul_precision("highest")
        try:
            return product()
        finally:
            torch.set_float32_matmul_precision(chosen)

    return step


def fastest(ways: list[Step]) -> Step:
    """The fastest of several ways, by the best of five measurements of each."""

    def seconds(step: Step) -> float:
        start = time.perf_counter()
        for _ in range(10):
            step()
        return time.perf_counter() - start

    return min(ways, key=lambda step: min(seconds(step) for _ in range(5)))


def products(name: str, rows: int, device: str) -> Step:
    """The matrix products of an update, each by its fastest kernel, and nothing else: the limit for any implementation."""
    agent, table = our_agent(name, device), our_table(rows, device)
    generator = torch.Generator(device).manual_seed(0)
    phases: dict[Hashable, Products] = {}
    while agent.phase() not in phases:
        batch, phase = table.sample(BATCH, generator), agent.phase()
        with Products() as phases[phase]:
            agent.learn(batch)
    turn = itertools.cycle([[fastest(kernels(*done)) for done in x.done] for x in phases.values()])
    return lambda: [product() for product in next(turn)]


def rate(step: Step, seconds: float) -> float:
    """Updates per second."""
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        step()
        count += 1
    if torch.cuda.is_available():  # GPU work is queued asynchronously.
        torch.cuda.synchronize()
    return count / (time.perf_counter() - start)


def peak_memory() -> float:
    """Peak resident memory of this process in MiB."""
    if sys.platform == "linux":
        # The other figure is at least the peak of the parent process.
        _, _, peak = Path("/proc/self/status").read_text().partition("VmHWM:")
        if peak:
            return int(peak.split()[0]) / 2**10
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def main(subject: str, threads: int, rows: int, device: str) -> None:
    """Answers durations with updates per second, `memory` with the peak."""
    library, *seeds, name = subject.split(" ")
    if library == "d3rlpy":
        torch.set_num_threads(threads)
    else:
        compute.configure(threads, device)
    makers: dict[str, Callable[[str, int, str], Step]] = {
        "rlbench": our_step,
        "bfloat16": partial(our_step, precision="bfloat16"),
        "uncompiled": partial(our_step, compiled=False),
        "together": partial(together_step, int(seeds[0]) if seeds else 1),
        "d3rlpy": d3rlpy_step,
        "products": products,
    }
    serve(makers[library](name, rows, device))


def serve(step: Step, size: int = 1) -> None:
    """Answers durations with rates, `size` units per step, and `memory` with the peak."""
    for _ in range(3):
        step()
    print("ready", flush=True)
    for line in map(str.strip, sys.stdin):
        print(peak_memory() if line == "memory" else size * rate(step, float(line)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
