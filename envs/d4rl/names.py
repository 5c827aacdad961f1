"""The names and reference scores of D4RL's locomotion data sets; standard library only.

Source: D4RL's `infos.py` and its environment registrations (Fu et al., 2020, arXiv:2004.07219).
"""

import re
from dataclasses import dataclass

ENVIRONMENTS = {
    "halfcheetah": "HalfCheetah-v4",
    "hopper": "Hopper-v4",
    "walker2d": "Walker2d-v4",
    "ant": "Ant-v4",
}
"""Gymnasium id of each family. D4RL recorded on -v2; -v4 has the same observations, rewards and ends (except
for Ant's contact forces, see `CONTACTS`), and -v5 changed the rewards."""

REFERENCE_RETURNS = {
    "halfcheetah": (-280.178953, 12135.0),
    "hopper": (-20.272305, 3234.3),
    "walker2d": (1.629008, 4592.3),
    "ant": (-325.6, 3879.7),
}
"""Family to the returns that score 0 and 100."""

LEVELS = ("random", "medium", "medium-replay", "medium-expert", "expert")
"""Levels that every version has; -v1 and -v2 also have full-replay."""

SHAPES = {"halfcheetah": (17, 6), "hopper": (11, 3), "walker2d": (17, 6), "ant": (111, 8)}
"""Family to the lengths of one observation and one action."""

CONTACTS = {"ant": (27, 110)}
"""First and last column of each family's contact forces. They are all 0 in D4RL's own files, because
mujoco-py does not compute them with MuJoCo 2.0 or later (D4RL's issue 143, gym's issues 1541 and 2593)."""

_PATTERN = re.compile(
    rf"(?P<family>{'|'.join(ENVIRONMENTS)})-(?P<level>[a-z-]+?)(-v(?P<version>[012]))?"
)


@dataclass(frozen=True)
class D4RLName:
    """A data set of D4RL, such as halfcheetah-medium-v2."""

    family: str
    """halfcheetah, hopper, walker2d or ant."""
    level: str
    """Policies that recorded it, such as medium-replay."""
    version: int = 2
    """0, 1 or 2; a short name means 2, which current tables use."""

    def __str__(self) -> str:
        """The full name, with its version."""
        return f"{self.family}-{self.level}-v{self.version}"


def parse(name: str) -> D4RLName | None:
    """The data set of a name, spelled as in D4RL; None for any other name.

    >>> str(parse("halfcheetah-medium"))
    'halfcheetah-medium-v2'
    >>> parse("halfcheetah-full-replay-v0") is None
    True
    """
    match = _PATTERN.fullmatch(name)
    if match is None:
        return None
    parsed = D4RLName(match["family"], match["level"], int(match["version"] or 2))
    known = parsed.level in LEVELS or (parsed.level == "full-replay" and parsed.version > 0)
    return parsed if known else None


def short_names() -> list[str]:
    """The twenty names without version, families in D4RL's order."""
    return [f"{family}-{level}" for family in ENVIRONMENTS for level in LEVELS]
