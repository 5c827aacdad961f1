"""Names of the architecture-search tasks; standard library only.

`archsearch-SOURCE` trains architectures on the labelled images of a source, as `archsearch-digits-shift`; two others need no
training. The reward is the soft one unless an ending names another.
"""

from dataclasses import dataclass
from pathlib import Path

from rlbench.envs.examples import find_source

PREFIX = "archsearch-"


@dataclass(frozen=True)
class Measured:
    """Architectures that were trained and measured before."""

    space: str
    """Name of their search space."""
    file: Path
    """Their table."""
    description: str


TABULATED = {
    name: Measured(space, Path(__file__).with_name(f"{name}.json"), text)
    for name, space, text in (
        ("tiny", "nas-tiny", "all 576 sequences of nas-tiny on digits-shift, trained before"),
        ("nano", "mnas-nano", "mnas-nano, predicted from architectures trained on digits-shift"),
    )
}
"""Names after the prefix for searches without training."""
CELL = "cell"
"""Ending for blocks with the same operation, kernel, squeeze-and-excitation and skip."""
TIGHT = "tight"
"""Ending for a latency target that few architectures meet."""
REWARDS = {
    "hard": "latency counts only above the target",
    "absolute": "latency should be at the target",
    "accuracy": "latency does not count",
}
"""Endings for rewards other than the soft one."""


@dataclass(frozen=True)
class SearchName:
    """What a name stands for."""

    searched: str
    """One of `TABULATED`, or the name of a source of labelled examples."""
    reward: str = "soft"
    """`soft` or one of `REWARDS`."""
    cell: bool = False
    """Whether all blocks are alike; see `CELL`."""
    tight: bool = False
    """Whether few architectures meet the latency target."""


def parse(name: str) -> SearchName | None:
    """What a name stands for; None for any other name.

    >>> parse("archsearch-tiny-hard")
    SearchName(searched='tiny', reward='hard', cell=False, tight=False)
    >>> parse("archsearch-digits-shift-cell-tight")
    SearchName(searched='digits-shift', reward='soft', cell=True, tight=True)
    >>> parse("archsearch-tiny-soft") is None
    True
    """
    if not name.startswith(PREFIX):
        return None
    searched, reward = _ending(name.removeprefix(PREFIX), (*REWARDS,))
    searched, tight = _ending(searched, (TIGHT,))
    searched, cell = _ending(searched, (CELL,))
    known = not cell if searched in TABULATED else find_source(searched) is not None
    return SearchName(searched, reward or "soft", bool(cell), bool(tight)) if known else None


def _ending(name: str, endings: tuple[str, ...]) -> tuple[str, str]:
    """A name without its ending, and the ending, which is empty if it is none of these."""
    rest, _, last = name.rpartition("-")
    return (rest, last) if last in endings else (name, "")


def lines() -> list[str]:
    """Names with a description each, for `rlbench list`."""
    named = {
        f"{PREFIX}SOURCE": "any source of labelled images, such as digits-shift, or FILE.npz",
        **{PREFIX + name: x.description for name, x in TABULATED.items() if x.file.exists()},
        f"...-{CELL}": "the same operation, kernel, squeeze-and-excitation and skip in all blocks",
        f"...-{TIGHT}": "a latency target that 1 in 10 random architectures meets",
        **{f"...-{ending}": f"another reward: {text}" for ending, text in REWARDS.items()},
    }
    return [f"{name:<17}  {text}" for name, text in named.items()]
