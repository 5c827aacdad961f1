"""Names of the grids and chains of LPG; standard library only.

`grid-dense` is one of the paper's grids; `grid-rand-dense` is the same with objects in other cells in each episode.
`grid-levels-small` is a distribution of random levels, and `chain-short` is one of chains. As an environment, such a
task is one level; `grid-dense-level-7` is another one. As lifetimes, for meta-training, every agent has its own level.
"""

import re
from dataclasses import dataclass

GRIDS = ("dense", "sparse", "long", "longer", "long-dense")
RANDOM = ("dense", "long", "small", "sparse", "very-dense")
LEVELS = ("small", "medium", "large", "all", "long", "sparse")
CHAINS = ("short", "long", "noisy", "noisy-long", "distractor")
UNSEEN = {"grid-levels-small": ("grid-levels-long", "grid-levels-sparse")}
"""Held-out distributions on which a rule that was meta-trained on the key is also measured."""

_ROLLOUT = 20
LENGTHS = {
    **{f"grid-{name}": 2_500 * _ROLLOUT for name in GRIDS},
    "grid-levels-small": 250 * _ROLLOUT,
    "grid-levels-medium": 1_000 * _ROLLOUT,
    "grid-levels-large": 2_500 * _ROLLOUT,
    "grid-levels-all": 1_000 * _ROLLOUT,
    "grid-levels-long": 200 * _ROLLOUT,
    "grid-levels-sparse": 200 * _ROLLOUT,
    # The lengths of these two kinds are ours; they are short enough to test a rule on a small computer.
    **{f"grid-rand-{name}": 2_500 * _ROLLOUT for name in RANDOM},
    **{f"chain-{name}": 250 * _ROLLOUT for name in CHAINS},
}
"""Steps of each worker in a lifetime (Jackson et al., 2023, release)."""

NAMESPACE = "rlbench/"
"""Prefix of the Gymnasium ids."""


@dataclass(frozen=True)
class GridName:
    """A family of levels and the number of one of them."""

    family: str
    """A key of `LENGTHS`."""
    level: int = 0
    """Number of the level, for episodes."""

    def __str__(self) -> str:
        """The name of the task."""
        return self.family + (f"-level-{self.level}" if self.level else "")


def parse(name: str) -> GridName | None:
    """The family and level of a name; None for any other name.

    Random grids have one level only, because only their walls are fixed.

    >>> parse("grid-dense-level-7")
    GridName(family='grid-dense', level=7)
    >>> parse("grid-rand-dense-level-7") is None
    True
    """
    found = re.fullmatch(r"(.+?)(?:-level-(\d{1,9}))?", name)
    if found is None or found[1] not in LENGTHS:
        return None
    if found[2] is not None and found[1].startswith("grid-rand-"):
        return None
    return GridName(found[1], int(found[2] or 0))


def gymnasium_id(family: str) -> str:
    """The Gymnasium id of a family.

    >>> gymnasium_id("grid-levels-small")
    'rlbench/GridLevelsSmall-v0'
    """
    return NAMESPACE + "".join(map(str.capitalize, family.split("-"))) + "-v0"


def names() -> list[str]:
    """All families."""
    return list(LENGTHS)


def lines() -> list[str]:
    """One line with a description for each kind of task."""
    kinds = (
        ("grid", GRIDS, "the paper's grids"),
        ("grid-rand", RANDOM, "objects in other cells in each episode; vectors"),
        ("grid-levels", LEVELS, "random walls, objects and rewards"),
        ("chain", CHAINS, "the first action decides a delayed reward"),
    )
    return [f"{kind}-{{{','.join(names)}}}  {text}" for kind, names, text in kinds]
