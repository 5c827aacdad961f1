"""Small models of Stable-Baselines3 and their files."""

import zipfile
from collections.abc import Callable
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


def changed(file: Path, name: str, change: Callable[[bytes], bytes]) -> Path:
    """A copy of a model file with another content of one of its members."""
    copy = file.with_name("changed.zip")
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(copy, "w") as new:
        for member in old.namelist():
            content = old.read(member)
            new.writestr(member, change(content) if member == name else content)
    return copy


def saved(model: BaseAlgorithm, folder: Path) -> Path:
    """Writes a model, and returns the path of its file."""
    model.save(folder / "model.zip")
    return folder / "model.zip"
