"""`python -m rlbench.benchmarks.speed.replay`: DQN whose replay buffer holds codes of images, compared with one that holds the images.

CPU time on one thread: the median of several rounds, in which both forms take turns, so that other load on the machine affects both.
"""

import tempfile
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray

from rlbench.agents.dqn import DQN, DQNConfig
from rlbench.benchmarks.speed.detection import times
from rlbench.benchmarks.training import drivers
from rlbench.benchmarks.training.replay import compact_encoder
from rlbench.envs.tasks import Task
from rlbench.interface import Spec

SIDE, BATCH, CAPACITY, UPDATES = 64, 32, 1_000, 10
CODES = "codes:codes=128,size=32,channels=64,blocks=2"
"""The quantiser of `vq-vae` with its default settings."""


class Noise(gym.Env[NDArray[np.uint8], np.int64]):
    """Random pictures, so that the environment takes hardly any time."""

    observation_space: Any = gym.spaces.Box(0, 255, (SIDE, SIDE, 3), np.uint8)
    action_space: Any = gym.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        """Starts an episode."""
        super().reset(seed=seed)
        return self._picture(), {}

    def step(self, action: np.int64) -> Any:
        """A step without an end."""
        return self._picture(), 0.0, False, bool(self.np_random.random() < 0.02), {}

    def _picture(self) -> NDArray[np.uint8]:
        return self.np_random.integers(256, size=(SIDE, SIDE, 3), dtype=np.uint8)


def driver(folder: Path, compact: Callable[[Any], Any]) -> drivers.ReplayDriver:
    """A driver after its first update."""
    folder.mkdir()
    config = DQNConfig(
        encoder=CODES, batch_size=BATCH, random_steps=BATCH, replay_size=CAPACITY, hidden=(64,)
    )
    agent = DQN(config, Spec.of(Noise()))
    with patch.object(drivers, "compact_encoder", compact):
        found = drivers.ReplayDriver(agent, Task("noise", Noise), 0, folder, CAPACITY, 0)
    found.update()
    return found


def updates(subject: drivers.ReplayDriver) -> None:
    """Some updates, each after one step."""
    for _ in range(UPDATES):
        subject.update()


def main() -> None:
    """Prints the figures."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        codes = driver(Path(place) / "codes", compact_encoder)
        images = driver(Path(place) / "images", lambda agent: None)
        with closing(codes), closing(images):
            spent = times({"codes": partial(updates, codes), "images": partial(updates, images)})
            sizes = {
                file.parent.name: file.stat().st_size
                for file in Path(place).glob("*/replay-images.bin")
            }
    print("| the buffer holds | bytes of images | updates per second |")
    print("|---|---|---|")
    for name, seconds in spent.items():
        print(f"| {name} | {sizes[name]:,} | {UPDATES / seconds:.1f} |")
    print(
        f"{sizes['images'] / sizes['codes']:.1f} times as large, {spent['images'] / spent['codes']:.1f} times as slow"
    )


if __name__ == "__main__":
    main()
