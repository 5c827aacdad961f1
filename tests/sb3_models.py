"""Small models of Stable-Baselines3 and their files."""

from pathlib import Path
from typing import Any

from stable_baselines3 import A2C, PPO
from stable_baselines3.common.base_class import BaseAlgorithm

SMALL = {"net_arch": [16, 8]}


def trained(kind: type[Any], env: str = "Pendulum-v1", **options: Any) -> BaseAlgorithm:
    """A model that was trained for 64 steps."""
    quick: dict[str, Any] = {"n_steps": 64} if kind in (PPO, A2C) else {"learning_starts": 10}
    policy = {"policy_kwargs": dict(SMALL)}
    model: BaseAlgorithm = kind("MlpPolicy", env, seed=0, **quick | policy | options)
    return model.learn(64)


def saved(model: BaseAlgorithm, folder: Path) -> Path:
    """Writes a model, and returns the path of its file."""
    model.save(folder / "model.zip")
    return folder / "model.zip"
