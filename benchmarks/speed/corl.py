"""CORL's scripts as subjects of the speed benchmark: their own loop, not a line of them changed.

    python -m rlbench.benchmarks.speed.corl AGENT FOLDER THREADS ROWS

FOLDER is a checkout of CORL (https://github.com/tinkoff-ai/CORL). What its scripts import and do not
need here is stood in for: D4RL gives random data, and wandb, which is called once an update, counts.
Answers as `rlbench.benchmarks.speed.worker` does.
"""

import importlib.util
import os
import sys
import time
from dataclasses import fields
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import torch

from rlbench.benchmarks.speed.worker import ACTION, BATCH, OBS, peak_memory, random_data
from rlbench.storage import Layout

SCRIPTS = {"awac": "awac", "bc": "any_percent_bc", "cql": "cql", "iql": "iql", "td3-bc": "td3_bc"}
"""Files in algorithms/offline."""
ENDLESS = 10**9


class Meter:
    """Stands where wandb's log is."""

    def __init__(self) -> None:
        """Is ready after three updates."""
        self._count, self._start, self._end = -3, 0.0, 0.0

    def log(self, *_: Any, **__: Any) -> None:
        """Counts an update; where a segment is over, answers and waits for the next."""
        self._count += 1
        now = time.perf_counter()
        if self._count < 0 or now < self._end:
            return
        print(self._count / (now - self._start) if self._end else "ready", flush=True)
        for line in map(str.strip, sys.stdin):
            if line != "memory":
                self._count, self._start = 0, time.perf_counter()
                self._end = self._start + float(line)
                return
            print(peak_memory(), flush=True)
        sys.exit()


def data(rows: int) -> dict[str, np.ndarray[Any, Any]]:
    """What d4rl.qlearning_dataset gives."""
    parts = torch.from_numpy(random_data(rows)).split(Layout((OBS,), (ACTION,)).widths, dim=1)
    obs, action, reward, terminated, _, next_obs = (x.numpy().copy() for x in parts)
    return {
        "observations": obs,
        "actions": action,
        "rewards": reward[:, 0],
        "terminals": terminated[:, 0],
        "next_observations": next_obs,
    }


def main(name: str, folder: Path, threads: int, rows: int) -> None:
    """Runs a script of CORL, for good."""
    torch.set_num_threads(threads)
    os.environ["TQDM_DISABLE"] = "1"
    stand_ins = {module: MagicMock() for module in ("d4rl", "gym", "pyrallis", "wandb")}
    sys.modules.update(stand_ins)
    stand_ins["pyrallis"].wrap = lambda: lambda function: function
    stand_ins["d4rl"].qlearning_dataset = lambda _: data(rows)
    stand_ins["wandb"].log = Meter().log
    env = stand_ins["gym"].make()
    env.observation_space.shape, env.action_space.shape = (OBS,), (ACTION,)
    env.action_space.high = np.ones(ACTION)

    file = folder / "algorithms" / "offline" / f"{SCRIPTS[name]}.py"
    found = importlib.util.spec_from_file_location("corl_script", file)
    assert found is not None
    assert found.loader is not None
    script = importlib.util.module_from_spec(found)
    sys.modules["corl_script"] = script
    found.loader.exec_module(script)
    wanted = {
        "device": "cpu", "batch_size": BATCH, "buffer_size": rows, "checkpoints_path": None,
        "max_timesteps": ENDLESS, "eval_freq": ENDLESS,
        "num_train_ops": ENDLESS, "eval_frequency": ENDLESS,
    }  # fmt: skip
    known = {field.name for field in fields(script.TrainConfig)}
    script.train(script.TrainConfig(**{k: v for k, v in wanted.items() if k in known}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
