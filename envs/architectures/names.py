"""Names of the architecture-search tasks; standard library only.

`archsearch-NAME` searches with the soft reward; an ending names another reward.
"""

from dataclasses import dataclass

PREFIX = "archsearch-"
EVALUATORS = {
    "tiny": "nas-tiny, all architectures measured before",
    "nano": "mnas-nano, predicted from measured architectures",
}
"""What a name after the prefix searches, and where its results come from."""
REWARDS = {
    "hard": "latency counts only above the target",
    "absolute": "latency should be at the target",
    "accuracy": "latency does not count",
}
"""Endings for rewards other than the soft one."""


@dataclass(frozen=True)
class SearchName:
    """What a name stands for."""

    evaluator: str
    """One of `EVALUATORS`."""
    reward: str = "soft"
    """`soft` or one of `REWARDS`."""


def parse(name: str) -> SearchName | None:
    """What a name stands for; None for any other name.

    >>> parse("archsearch-tiny-hard")
    SearchName(evaluator='tiny', reward='hard')
    >>> parse("archsearch-nano")
    SearchName(evaluator='nano', reward='soft')
    >>> parse("archsearch-tiny-soft") is None
    True
    """
    evaluator, *endings = name.removeprefix(PREFIX).split("-")
    if not name.startswith(PREFIX) or evaluator not in EVALUATORS or len(endings) > 1:
        return None
    if not endings:
        return SearchName(evaluator)
    return SearchName(evaluator, endings[0]) if endings[0] in REWARDS else None


def names() -> list[str]:
    """All names."""
    return [
        f"{PREFIX}{evaluator}{ending}"
        for evaluator in EVALUATORS
        for ending in ("", *(f"-{reward}" for reward in REWARDS))
    ]


def lines() -> list[str]:
    """One line per evaluator, with a description."""
    return [f"{PREFIX + name:<16} {text}" for name, text in EVALUATORS.items()]
