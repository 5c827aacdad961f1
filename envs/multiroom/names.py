"""Names of the MultiRoom tasks; standard library only.

`multiroom-nK` has levels of 1 to K rooms, drawn with equal probability: with K rooms in every level PPO
would almost never reach the goal by chance, and would learn nothing.
"""

from dataclasses import dataclass

HELD_OUT = "-held-out"
"""Ending of the name of a task with the levels that training never sees."""


@dataclass(frozen=True)
class Floor:
    """The shape of levels, and their number."""

    most_rooms: int
    """Largest number of rooms; the smallest is 1."""
    largest: int
    """Largest width and height of a room, walls included; the smallest is 4."""
    side: int
    """Width and height of the grid."""
    levels: int | None
    """Number of training levels; None: every episode has a new one."""
    held_out: int = 0
    """Number of held-out levels, which share no grid with the training levels."""

    @property
    def max_steps(self) -> int:
        """Steps after which an episode is cut: twenty for each possible room."""
        return 20 * self.most_rooms


FLOORS = {
    "multiroom-n1": Floor(1, 5, 9, levels=100, held_out=500),
    "multiroom-n2": Floor(2, 5, 9, levels=100, held_out=500),
    "multiroom-n3": Floor(3, 6, 11, levels=100, held_out=500),
    # The training levels of IBAC-SNI's authors, N3r of microsoft/IBAC-SNI.
    "multiroom-n3r": Floor(3, 6, 11, levels=None),
}
"""Name to levels. The grid for two rooms is as small as possible, so that the task can be learned on two
cores within minutes."""


def parse(name: str) -> tuple[Floor, bool] | None:
    """The levels of a name, and whether they are held out; None for any other name.

    >>> parse("multiroom-n2-held-out")
    (Floor(most_rooms=2, largest=5, side=9, levels=100, held_out=500), True)
    >>> parse("multiroom-n3r-held-out") is None
    True
    >>> parse("multiroom-n4") is None
    True
    """
    floor, held_out = FLOORS.get(name.removesuffix(HELD_OUT)), name.endswith(HELD_OUT)
    return None if floor is None or (held_out and not floor.held_out) else (floor, held_out)


def names() -> list[str]:
    """All names, each followed by its held-out variant."""
    return [
        name + ending
        for name, floor in FLOORS.items()
        for ending in (("", HELD_OUT) if floor.held_out else ("",))
    ]


def lines() -> list[str]:
    """One line per task, with a description."""
    return [f"{name:<14} {_in_words(name, floor)}" for name, floor in FLOORS.items()]


def _in_words(name: str, floor: Floor) -> str:
    rooms = "1 room" if floor.most_rooms == 1 else f"1 to {floor.most_rooms} rooms"
    if floor.levels is None:
        return f"{rooms} in {floor.side}x{floor.side}, a fresh level in every episode"
    levels = f"{floor.levels} training levels, {floor.held_out} others as {name}{HELD_OUT}"
    return f"{rooms} in {floor.side}x{floor.side}, {levels}"
