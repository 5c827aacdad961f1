"""Metadata of the shipped behaviour policies, without loading them; standard library only.

A policy is two files in `policies/`: `<family>-<level>.safetensors`, the weights of SAC's policy
network, and `<family>-<level>.json`, a `Card`. The policies for replay data are a ladder, snapshots of
one training run: also two files, a `Ladder` and weights whose names begin with the updates of the
snapshot (`30000/...`).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlbench.files import file_hash

POLICIES = Path(__file__).parent / "policies"


@dataclass(frozen=True)
class Weights:
    """Location of the weights of a policy."""

    file: Path
    rung: int | None = None
    """Updates of the rung, if the file holds a ladder."""

    @property
    def key(self) -> str:
        """Identifies the policy: the hash of the file, and the rung."""
        return file_hash(self.file) + ("" if self.rung is None else f"/{self.rung}")


@dataclass(frozen=True, kw_only=True)
class Training:
    """How policies were trained and evaluated."""

    environment: str
    """Gymnasium id of the training and evaluation environment."""
    agent: str
    """Training algorithm: sac."""
    settings: Mapping[str, Any]
    """Settings of the agent."""
    seed: int
    """Seed of the training."""
    episodes: int
    """Evaluation episodes of each policy."""
    versions: Mapping[str, str]
    """Versions of the packages in training and evaluation."""
    command: str
    """The command that reproduces it."""


@dataclass(frozen=True, kw_only=True)
class Card(Training):
    """Metadata of a shipped policy."""

    updates: int
    """Updates that it was trained for."""
    stochastic: Mapping[str, float]
    """Mean and std of the return with sampled actions, which the data are recorded with."""
    deterministic: Mapping[str, float]
    """Mean and std of the return with the mode."""
    score: float
    """D4RL score of the stochastic mean return."""


@dataclass(frozen=True)
class Rung:
    """Metadata of one policy of a ladder."""

    updates: int
    """Updates that it was trained for."""
    mean: float
    """Mean return with sampled actions."""
    std: float
    """Standard deviation of that return."""
    score: float
    """D4RL score of the mean return."""


@dataclass(frozen=True, kw_only=True)
class Ladder(Training):
    """Metadata of the shipped policies for replay data."""

    rungs: tuple[Rung, ...]
    """In order of age."""


def weights_file(family: str, level: str) -> Path | None:
    """The weights shipped for a family and level, or None."""
    path = POLICIES / f"{family}-{level}.safetensors"
    return path if path.is_file() else None


def card(file: Path) -> Card | Ladder:
    """The card next to a file of weights."""
    told = json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))
    if "rungs" in told:
        return Ladder(**told | {"rungs": tuple(Rung(**rung) for rung in told["rungs"])})
    return Card(**told)
