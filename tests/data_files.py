"""Small recordings and files for the tests of the data layer."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import h5py
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from rlbench.envs.tasks import Task
from rlbench.experience import columns_of as columns
from rlbench.offline_data.dataset import DataSet
from rlbench.offline_data.formats import hdf5
from rlbench.offline_data.formats._reader import World

Array = NDArray[Any]

LIMIT = 5
OBSERVATIONS, ACTIONS = spaces.Box(-np.inf, np.inf, (3,)), spaces.Box(-1, 1, (2,))
WORLD = World("toy", OBSERVATIONS, ACTIONS, LIMIT, lambda mean_return: 10 * mean_return)


class Toy(gym.Env[Array, Array]):
    """Has the spaces of the recordings; nobody steps it."""

    observation_space = OBSERVATIONS
    action_space = ACTIONS


class Endless(Toy):
    """Names a step limit and does not enforce it."""

    def __init__(self) -> None:
        """Names the limit in an attribute."""
        self.max_steps = LIMIT

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Array, Any]:
        """At the origin."""
        return np.zeros(3, np.float32), {}

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """Stays there."""
        return np.zeros(3, np.float32), 1.0, False, False, {}


TOY = Task("toy", lambda: Toy())


def recording(episodes: Sequence[tuple[int, str]], seed: int = 0) -> dict[str, Array]:
    """D4RL's arrays of a recording.

    Args:
        episodes: Length of each episode and how it ended: terminal, timeout or cut.
        seed: Of the values.
    """
    rng = np.random.default_rng(seed)
    count = sum(length for length, _ in episodes)
    made: dict[str, Array] = {
        "observations": rng.standard_normal((count, 3)).astype(np.float32),
        "actions": rng.uniform(-1, 1, (count, 2)).astype(np.float32),
        "rewards": rng.standard_normal(count).astype(np.float32),
        "terminals": np.zeros(count, dtype=bool),
        "timeouts": np.zeros(count, dtype=bool),
    }
    following = np.roll(made["observations"], -1, axis=0)
    row = -1
    for length, end in episodes:
        row += length
        following[row] = rng.standard_normal(3)
        if end != "cut":
            made[f"{end}s"][row] = True
    return made | {"next_observations": following}


def random_episodes(seed: int) -> list[tuple[int, str]]:
    """Lengths and ends of up to thirty episodes, none longer than `LIMIT`."""
    rng = np.random.default_rng(seed)
    ends = ["terminal", "timeout"]
    made = [(int(rng.integers(1, 5)), ends[rng.integers(2)]) for _ in range(rng.integers(1, 30))]
    made = [(5, end) if end == "timeout" and rng.random() < 0.5 else (n, end) for n, end in made]
    return [*made, (int(rng.integers(1, 5)), "cut")] if rng.random() < 0.5 else made


def write(path: Path, columns: dict[str, Any], **attributes: Any) -> Path:
    """A file with these columns; those that are None are left out."""
    with h5py.File(path, "w") as file:
        for name, values in columns.items():
            if values is not None:
                file[name] = values
        file.attrs.update(attributes)
    return path


def read(path: Path, folder: Path, world: World = WORLD) -> DataSet:
    """What our reader makes of a file, in a new folder."""
    folder.mkdir()
    hdf5.read(path, folder, world, lambda done, total: None)
    return DataSet(folder)


def columns_of(data: DataSet) -> dict[str, Array]:
    """The columns of a data set under the names of `Transitions`."""
    batch = columns(data.layout.unpack(data.rows))
    return {name: values.numpy() for name, values in batch.items()}
