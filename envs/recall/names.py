"""Names of the recall tasks; standard library only.

`recall-3-10` shows 3 pairs of a key and a value, then 10 distractors, and then asks for the values.
"""

PREFIX = "recall-"
KEYS, VALUES = 8, 4
"""Numbers of different keys and values."""
LONGEST = 1_000
"""Most distractors."""
SHOWN = ("recall-1-10", "recall-3-0", "recall-3-10")
"""Names that `rlbench list` shows."""


def parse(name: str) -> tuple[int, int] | None:
    """Numbers of pairs and distractors of a name; None for any other name.

    >>> parse("recall-3-10")
    (3, 10)
    >>> parse("recall-9-10") is None
    True
    """
    words = name.removeprefix(PREFIX).split("-")
    if not name.startswith(PREFIX) or len(words) != 2 or not all(map(str.isdecimal, words)):
        return None
    pairs, distractors = map(int, words)
    fits = 1 <= pairs <= KEYS and distractors <= LONGEST
    # Each task has one name, so that folders and tables do not hold it twice.
    return (pairs, distractors) if fits and name == f"{PREFIX}{pairs}-{distractors}" else None


def lines() -> list[str]:
    """A line for each name that is shown, with a description."""
    found = ((name, parse(name) or (0, 0)) for name in SHOWN)
    return [
        f"{name:<14} {pairs} pair{'s' * (pairs > 1)}, {distractors} distractors"
        for name, (pairs, distractors) in found
    ]
