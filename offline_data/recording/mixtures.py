"""How generated data sets are recorded: behaviours and their shares; loads no policy.

Data for D4RL's names are recorded by the shipped policies, replay data by a ladder: uniform actions, then
the snapshots of one training run in order of age, in equal shares. Those of the point task are recorded by
controllers: `mixed` is a fifth from a good one, half from one that runs the wrong way, the rest uniform.
"""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rlbench.envs.data_names import PIXELS, DataName
from rlbench.errors import UserError
from rlbench.files import file_hash
from rlbench.offline_data.recording.policy_cards import (
    Ladder,
    Weights,
    card,
    weights_file,
)


@dataclass(frozen=True)
class Controller:
    """The policy clip(gain (goal - x) + noise N(0, 1), -1, 1) of the point task."""

    gain: float
    noise: float


@dataclass(frozen=True)
class SB3Model:
    """A model file of Stable-Baselines3."""

    path: Path


@dataclass(frozen=True)
class Part:
    """A share of a data set."""

    level: str
    """Name of the behaviour within its family; determines the seeds of the episodes."""
    source: Weights | SB3Model | Controller | None
    """A shipped policy, a user's policy, a controller, or None for uniform actions."""
    share: float = 1.0
    """Share of the rows of the data set."""
    score: float | None = None
    """Measured D4RL score of the shipped policy."""

    @property
    def key(self) -> Any:
        """Everything on which the rows depend, in plain values."""
        if self.source is None:
            return "uniform"
        if isinstance(self.source, SB3Model):
            return {"file": self.source.path.name, "sha256": file_hash(self.source.path)}
        return self.source.key if isinstance(self.source, Weights) else asdict(self.source)

    @property
    def algorithm(self) -> str:
        """The kind of behaviour."""
        if self.source is None:
            return "random"
        if isinstance(self.source, SB3Model):
            return "stable-baselines3"
        return "SAC" if isinstance(self.source, Weights) else "controller"


EXPERT, WRONG_WAY, MEDIUM = Controller(6.0, 0.1), Controller(-6.0, 0.0), Controller(0.5, 0.4)

POINT = {
    "random": (Part("random", None),),
    "mixed": (
        Part("expert", EXPERT, 0.2),
        Part("wrong-way", WRONG_WAY, 0.5),
        Part("random", None, 0.3),
    ),
    "medium": (Part("medium", MEDIUM),),
    "expert": (Part("expert", EXPERT),),
}


def recipe(name: DataName) -> tuple[Part, ...]:
    """The parts of a data set, in the order of their rows.

    Raises:
        UserError: It cannot be generated, or a policy that it needs is not shipped.
    """
    family = PIXELS[name.family][1] if name.family in PIXELS else name.family
    if family == "point":
        return POINT[name.level]
    parts: list[Part] = []
    for level in ("medium", "expert") if name.level == "medium-expert" else (name.level,):
        file = None if level == "random" else weights_file(family, level)
        if file is None and level != "random":
            raise UserError(
                f"{name.family}-{name.level}: no behaviour policy is shipped yet; `rlbench data "
                f"get {name}` downloads D4RL's own file, or give --data FILE"
            )
        parts += [Part("random", None)] if file is None else _shipped(level, file)
    return tuple(replace(part, share=1 / len(parts)) for part in parts)


def _shipped(level: str, file: Path) -> list[Part]:
    """The parts recorded by a file of weights."""
    told = card(file)
    if not isinstance(told, Ladder):
        return [Part(level, Weights(file), score=told.score)]
    parts = [Part("random", None)]  # as at the start of the training run
    for rung in told.rungs:
        weights = Weights(file, rung.updates)
        parts.append(Part(f"update-{rung.updates}", weights, score=rung.score))
    return parts


def described(parts: tuple[Part, ...]) -> str:
    """The parts in words, with the scores of the shipped policies.

    >>> described(POINT["mixed"])
    'expert, wrong-way, uniform'
    """
    words = []
    rungs = [part.score or 0.0 for part in parts if _is_rung(part)]
    for part in parts:
        score = "" if part.score is None else f" (score {part.score:.1f})"
        if not _is_rung(part):
            words.append("uniform" if part.source is None else part.level + score)
    if rungs:
        words.append(f"a ladder of {len(rungs)} (scores {min(rungs):.1f} to {max(rungs):.1f})")
    return ", ".join(words)


def _is_rung(part: Part) -> bool:
    return isinstance(part.source, Weights) and part.source.rung is not None
