"""The behaviour policies that are shipped, without loading them; standard library only.

A policy is two files in `policies/`: `<family>-<level>.safetensors`, the weights of SAC's policy
network, and `<family>-<level>.json`, a `Card`. The policies that record replay data are a ladder,
snapshots of one training: again two files, the names of the weights beginning with the updates of
the snapshot (`30000/...`), and a `Ladder`.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

POLICIES = Path(__file__).parent / "policies"


@dataclass(frozen=True)
class Weights:
    """Where the weights of a policy lie."""

    file: Path
    rung: int | None = None
    """Updates of the rung, where the file holds a ladder."""

    @property
    def key(self) -> str:
        """What identifies the policy: the hash of the file, and the rung."""
        return file_hash(self.file) + ("" if self.rung is None else f"/{self.rung}")


@dataclass(frozen=True, kw_only=True)
class Training:
    """How policies were trained and measured."""

    environment: str
    """Gymnasium id that it was trained and measured on."""
    agent: str
    """Algorithm that trained it: sac."""
    settings: Mapping[str, Any]
    """Settings of the agent."""
    seed: int
    """Seed of the training."""
    episodes: int
    """Episodes behind each of the measured returns."""
    versions: Mapping[str, str]
    """Versions of the packages that trained and measured it."""
    command: str
    """The command that makes it again."""


@dataclass(frozen=True, kw_only=True)
class Card(Training):
    """What is known of a shipped policy."""

    updates: int
    """Updates that it was trained for."""
    stochastic: Mapping[str, float]
    """mean and std of the return of sampled actions, which is how data are recorded."""
    deterministic: Mapping[str, float]
    """mean and std of the return of the mode."""
    score: float
    """D4RL score of the stochastic mean return."""


@dataclass(frozen=True)
class Rung:
    """What is known of one policy of a ladder."""

    updates: int
    """Updates that it was trained for."""
    mean: float
    """Mean return of sampled actions."""
    std: float
    """Standard deviation of that return."""
    score: float
    """D4RL score of the mean return."""


@dataclass(frozen=True, kw_only=True)
class Ladder(Training):
    """What is known of the shipped policies that record replay data."""

    rungs: tuple[Rung, ...]
    """In order of age."""


def weights_file(family: str, level: str) -> Path | None:
    """The weights shipped for a family and level, or None."""
    path = POLICIES / f"{family}-{level}.safetensors"
    return path if path.is_file() else None


def card(file: Path) -> Card | Ladder:
    """The card beside a file of weights."""
    told = json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))
    if "rungs" in told:
        return Ladder(**told | {"rungs": tuple(Rung(**rung) for rung in told["rungs"])})
    return Card(**told)


def file_hash(path: Path) -> str:
    """SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
