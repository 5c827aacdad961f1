"""Names of data sets, D4RL's and the suite's own; standard library only."""

from dataclasses import dataclass

from rlbench.envs.d4rl import names as d4rl_names
from rlbench.envs.d4rl.names import D4RLName

PIXELS = {
    "halfcheetah-pixels": ("HalfCheetahPixels-v0", "halfcheetah"),
    "hopper-pixels": ("HopperPixels-v0", "hopper"),
    "walker2d-pixels": ("Walker2dPixels-v0", "walker2d"),
}
"""Family of D4RL's tasks seen as pictures to its Gymnasium id and to D4RL's family; see `rlbench.envs.mujoco_pixels`."""

OWN_LEVELS = {
    "point": ("random", "mixed", "medium", "expert"),
    **dict.fromkeys(PIXELS, ("random", "medium", "expert")),
}
"""Family to the levels of the suite's own data sets."""

OWN_ENVIRONMENTS = {
    "point": "rlbench.envs.point_navigation:rlbench/PointNavigation-v0",
    **{
        family: f"rlbench.envs.mujoco_pixels:rlbench/{name}" for family, (name, _) in PIXELS.items()
    },
}
"""Family to Gymnasium id, with the module that registers it."""

OWN_REFERENCE_RETURNS = {
    "point": (-39.511, -5.778),
    **{family: d4rl_names.REFERENCE_RETURNS[behind] for family, (_, behind) in PIXELS.items()},
}
"""Family to the returns that score 0 and 100: for `point` the returns of a random policy and of the
controller clip(6 (goal - x), -1, 1), means of 20,000 episodes each (standard errors 0.05, 0.01); for pictures those of D4RL."""


@dataclass(frozen=True)
class OwnName:
    """One of the suite's own data sets, such as point-mixed."""

    family: str
    """point."""
    level: str
    """Behaviour that recorded it, such as mixed."""

    def __str__(self) -> str:
        """The full name."""
        return f"{self.family}-{self.level}"


DataName = D4RLName | OwnName


def parse(name: str) -> DataName | None:
    """The data set of a name; None for any other name.

    >>> parse("point-mixed")
    OwnName(family='point', level='mixed')
    >>> parse("point-replay") is None
    True
    """
    family, _, level = name.rpartition("-")
    if level in OWN_LEVELS.get(family, ()):
        return OwnName(family, level)
    return d4rl_names.parse(name)


def environment(name: DataName) -> str:
    """The Gymnasium id of a data set's environment."""
    return {**d4rl_names.ENVIRONMENTS, **OWN_ENVIRONMENTS}[name.family]


def reference_returns(name: DataName) -> tuple[float, float]:
    """The returns that score 0 and 100."""
    return {**d4rl_names.REFERENCE_RETURNS, **OWN_REFERENCE_RETURNS}[name.family]


def short_names() -> list[str]:
    """All names, D4RL's twenty without version first."""
    own = [f"{family}-{level}" for family, levels in OWN_LEVELS.items() for level in levels]
    return [*d4rl_names.short_names(), *own]
