"""Scripts of other libraries, unchanged, as subjects of the speed benchmark.

    python -m rlbench.benchmarks.speed.peers LIBRARY AGENT FOLDER THREADS ROWS

FOLDER is a checkout of CORL (https://github.com/tinkoff-ai/CORL), JAX-CORL
(https://github.com/nissymori/JAX-CORL) or unifloral (https://github.com/EmptyJackson/unifloral). Imports
that their scripts do not need here are replaced by stand-ins: D4RL returns random data, and wandb, called
once per update or per fixed number of updates, counts them. Answers as `rlbench.benchmarks.speed.worker`.
"""

import os
import runpy
import sys
import time
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import torch

from rlbench.benchmarks.speed.worker import ACTION, BATCH, OBS, peak_memory, random_data
from rlbench.storage import Layout


@dataclass(frozen=True)
class Library:
    """How the scripts of a library are run."""

    folder: str
    """Their folder in a checkout."""
    scripts: dict[str, str]
    """Script of each agent, followed by arguments with which its networks have the sizes of ours."""
    arguments: str
    """Arguments for no evaluations and as many calls of wandb as possible."""
    updates: int
    """Updates between two calls of wandb."""


ENDLESS = 10**9
LIBRARIES = {
    "corl": Library(
        "algorithms/offline",
        {"awac": "awac", "bc": "any_percent_bc", "cql": "cql", "iql": "iql", "td3-bc": "td3_bc"},
        "",
        updates=1,
    ),
    "jax-corl": Library(
        "algos",
        {"awac": "awac actor_hidden_dims=[256,256]", "cql": "cql", "iql": "iql", "td3-bc": "td3bc"},
        f"log_interval=1 eval_interval={ENDLESS} max_steps={ENDLESS}",
        updates=8,
    ),
    # Each update of TD3+BC has two updates of the critics.
    "unifloral": Library(
        "algorithms",
        {"bc": "bc", "iql": "iql", "td3-bc": "td3_bc"},
        f"--log --eval-interval 200 --eval-workers 0 --num-updates {ENDLESS}",
        updates=200,
    ),
}


class Meter:
    """Replacement of wandb's log."""

    def __init__(self, updates: int) -> None:
        """Is ready after three calls, with the given number of updates between calls."""
        self._updates = updates
        self._answers, sys.stdout = sys.stdout, sys.stderr  # The scripts print too.
        self._calls, self._start, self._end = -3, 0.0, 0.0

    def log(self, metrics: Any, **_: Any) -> None:
        """Counts a call; if a segment is over, answers and waits for the next one."""
        if "jax" in sys.modules:  # JAX computes asynchronously.
            sys.modules["jax"].block_until_ready(metrics)
        self._calls += 1
        now = time.perf_counter()
        if self._calls < 0 or now < self._end:
            return
        rate = self._updates * self._calls / (now - self._start)
        print(rate if self._end else "ready", file=self._answers, flush=True)
        for line in map(str.strip, sys.stdin):
            if line != "memory":
                self._calls, self._start = 0, time.perf_counter()
                self._end = self._start + float(line)
                return
            print(peak_memory(), file=self._answers, flush=True)
        os._exit(0)


def data(rows: int) -> dict[str, np.ndarray[Any, Any]]:
    """The data of d4rl.qlearning_dataset."""
    parts = torch.from_numpy(random_data(rows)).split(Layout((OBS,), (ACTION,)).widths, dim=1)
    obs, action, reward, terminated, _, next_obs = (x.numpy().copy() for x in parts)
    return {
        "observations": obs,
        "actions": action,
        "rewards": reward[:, 0],
        "terminals": terminated[:, 0],
        "next_observations": next_obs,
    }


def stand_in(rows: int, meter: Meter) -> None:
    """Replaces modules by stand-ins."""
    modules = {name: MagicMock() for name in ("d4rl", "gym", "pyrallis", "tqdm", "wandb")}
    for module_name, module in modules.items():
        # Other libraries check whether the module exists.
        module.__spec__ = ModuleSpec(module_name, None)
    sys.modules.update(modules)
    # CORL's settings, which its decorator would read from the command line.
    wanted = {
        "device": "cpu", "batch_size": BATCH, "buffer_size": rows, "checkpoints_path": None,
        "max_timesteps": ENDLESS, "eval_freq": ENDLESS,
        "num_train_ops": ENDLESS, "eval_frequency": ENDLESS,
    }  # fmt: skip

    def configured(train: Any) -> Any:
        kind = train.__annotations__["config"]
        return lambda: train(kind(**{k: v for k, v in wanted.items() if hasattr(kind, k)}))

    modules["pyrallis"].wrap = lambda: configured
    modules["tqdm"].tqdm = lambda iterable, **_: iterable
    modules["tqdm"].trange = lambda count, **_: range(count)
    modules["wandb"].log = meter.log
    modules["d4rl"].qlearning_dataset = lambda _: data(rows)
    modules["d4rl"].get_normalized_score = lambda *_: np.zeros(1)
    for env in (modules["gym"].make(), modules["gym"].vector.make()):
        env.observation_space.shape, env.action_space.shape = (OBS,), (ACTION,)
        env.single_observation_space.shape, env.single_action_space.shape = (OBS,), (ACTION,)
        env.action_space.high = np.ones(ACTION)
    modules["gym"].vector.make().env_fns[0]().spec.max_episode_steps = 0


def main(name: str, agent: str, folder: Path, threads: int, rows: int) -> None:
    """Runs a script of a library, without end."""
    library = LIBRARIES[name]
    torch.set_num_threads(threads)
    stand_in(rows, Meter(library.updates))
    script_name, *own = library.scripts[agent].split()
    script = folder / library.folder / f"{script_name}.py"
    sys.argv = [str(script), *library.arguments.split(), *own]
    runpy.run_path(str(script), run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]))
