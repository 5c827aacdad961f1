"""Who records a generated data set: behaviours and their shares; loads no policy.

D4RL's names are recorded by the shipped policies. The point task's by controllers: `mixed` is a
fifth of a good one, half of one that runs the wrong way, and uniform actions.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rlbench.envs.d4rl_names import D4RLName
from rlbench.envs.data_names import DataName
from rlbench.errors import UserError
from rlbench.offline_data.cards import file_hash, levels, weights_file


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
    """Names the behaviour within its family; the seeds of the episodes follow from it."""
    source: Path | SB3Model | Controller | None
    """Weights of a shipped policy, a user's own, a controller, or None for uniform actions."""
    share: float = 1.0
    """Of the rows of the whole data set."""

    @property
    def key(self) -> Any:
        """What the rows depend on, as plain values."""
        if self.source is None:
            return "uniform"
        if isinstance(self.source, SB3Model):
            return {"file": self.source.path.name, "sha256": file_hash(self.source.path)}
        return file_hash(self.source) if isinstance(self.source, Path) else asdict(self.source)

    @property
    def algorithm(self) -> str:
        """What kind of behaviour it is."""
        if self.source is None:
            return "random"
        if isinstance(self.source, SB3Model):
            return "stable-baselines3"
        return "SAC" if isinstance(self.source, Path) else "controller"


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
    if not isinstance(name, D4RLName):
        return POINT[name.level]
    elsewhere = f"`rlbench data get {name}` downloads D4RL's own file, or give --data FILE"
    short = f"{name.family}-{name.level}"
    if not levels(name.level):
        raise UserError(f"{short}: replay data cannot be generated yet; {elsewhere}")
    parts = []
    for level in levels(name.level):
        weights = None if level == "random" else weights_file(name.family, level)
        if weights is None and level != "random":
            raise UserError(f"{short}: no behaviour policy is shipped yet; {elsewhere}")
        parts.append(Part(level, weights, 1 / len(levels(name.level))))
    return tuple(parts)
