"""Small labelled images for tests of architecture searches, and fast ways to train and measure on them."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from rlbench.envs.architectures import latency
from rlbench.envs.architectures.children import ChildSettings
from rlbench.envs.architectures.space import find_space
from rlbench.envs.architectures.trained import TrainedEvaluator
from rlbench.envs.examples import Arrays

TINY = find_space("nas-tiny")
QUICK = ChildSettings(epochs=1, batch_size=16)


def labelled(
    count: int, seed: int = 0, shape: tuple[int, ...] = (8, 8, 1)
) -> dict[str, NDArray[np.generic]]:
    """Images [N, ...] of noise, brighter if the class is 1 and not 0."""
    rng = np.random.default_rng(seed)
    label = rng.integers(2, size=count)
    noise = rng.integers(128, size=(count, *shape))
    bright = 100 * label.reshape(-1, *(1 for _ in shape))
    return {"obs": (noise + bright).astype(np.uint8), "label": label}


def source(count: int = 60, shape: tuple[int, ...] = (8, 8, 1)) -> Arrays:
    """Training and test images."""
    return Arrays(labelled(count, 0, shape), labelled(20, 1, shape))


def evaluator(folder: Path, jobs: int = 1, seed: int = 0) -> TrainedEvaluator:
    """An evaluator that stores its results in a folder."""
    return TrainedEvaluator(
        TINY, source(), "mine", settings=QUICK, jobs=jobs, seed=seed, folder=folder
    )


def write(file: Path, count: int = 200, shape: tuple[int, ...] = (8, 8, 1)) -> Path:
    """A file of images, which the task of its name reads."""
    train, test = labelled(count, 0, shape), labelled(20, 1, shape)
    columns = {f"train/{x}": y for x, y in train.items()} | {
        f"test/{x}": y for x, y in test.items()
    }
    np.savez(file, **columns)  # type: ignore[arg-type]
    return file


def measure_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer passes for each latency."""
    for name in ("WARM_UP", "PASSES", "ROUNDS"):
        monkeypatch.setattr(latency, name, 1)
    monkeypatch.setattr(latency, "RETRIES", 0)
