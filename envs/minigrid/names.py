"""Names of the tasks of empty rooms; standard library only.

`minigrid-empty-8` has rooms of 8x8 cells, `minigrid-empty-5-6-8` rooms of three sizes.
"""

PREFIX = "minigrid-empty-"
SMALLEST, LARGEST = 5, 16
"""Cells of a side, walls included."""


def parse(name: str) -> tuple[int, ...] | None:
    """The sizes of a name; None for any other name.

    >>> parse("minigrid-empty-5-6-8")
    (5, 6, 8)
    >>> parse("minigrid-empty-4") is None
    True
    """
    words = name.removeprefix(PREFIX).split("-")
    if not name.startswith(PREFIX) or not all(word.isdecimal() for word in words):
        return None
    sizes = tuple(map(int, words))
    fits = all(SMALLEST <= size <= LARGEST for size in sizes) and len(set(sizes)) == len(sizes)
    # Each task has one name, so that folders and tables do not hold it twice.
    return sizes if fits and name == PREFIX + "-".join(map(str, sizes)) else None
