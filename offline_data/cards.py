"""The behaviour policies that are shipped, without loading them; standard library only.

A policy is two files in `policies/`: `<family>-<level>.safetensors`, the weights of SAC's policy
network, and `<family>-<level>.json`, a `Card`.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

POLICIES = Path(__file__).parent / "policies"


@dataclass(frozen=True)
class Card:
    """What is known of a shipped policy."""

    environment: str
    """Gymnasium id that it was trained and measured on."""
    agent: str
    """Algorithm that trained it: sac."""
    settings: Mapping[str, Any]
    """Settings of the agent."""
    seed: int
    """Seed of the training."""
    updates: int
    """Updates that it was trained for."""
    episodes: int
    """Episodes behind each of the measured returns."""
    stochastic: Mapping[str, float]
    """mean and std of the return of sampled actions, which is how data are recorded."""
    deterministic: Mapping[str, float]
    """mean and std of the return of the mode."""
    score: float
    """D4RL score of the stochastic mean return."""
    versions: Mapping[str, str]
    """Versions of the packages that trained and measured it."""
    command: str
    """The command that makes it again."""


def levels(level: str) -> tuple[str, ...]:
    """Levels whose policies record the data of a level, in order; none for replay data."""
    if level.endswith("replay"):
        return ()
    return ("medium", "expert") if level == "medium-expert" else (level,)


def weights_file(family: str, level: str) -> Path | None:
    """The shipped policy of a family and level, or None."""
    path = POLICIES / f"{family}-{level}.safetensors"
    return path if path.is_file() else None


def card(weights: Path) -> Card:
    """The card beside the weights of a policy."""
    return Card(**json.loads(weights.with_suffix(".json").read_text(encoding="utf-8")))


def file_hash(path: Path) -> str:
    """SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
