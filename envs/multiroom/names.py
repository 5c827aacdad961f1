"""Names of the MultiRoom tasks; standard library only.

`multiroom-nK` has levels of 1 to K rooms, drawn with equal chances: with K rooms in every level PPO
would almost never meet the goal by chance, and learn nothing.
"""

from dataclasses import dataclass

HELD_OUT = "-held-out"
"""What a task's name ends with where it has the levels that training never sees."""


@dataclass(frozen=True)
class Floor:
    """What levels look like, and how many there are."""

    most_rooms: int
    """Levels have 1 to this many rooms."""
    largest: int
    """Width and height of a room, walls included, are 4 to this."""
    side: int
    """Width and height of the grid."""
    levels: int | None
    """Levels to train on; None: every episode has a fresh one."""
    held_out: int = 0
    """Levels that share no grid with those."""

    @property
    def max_steps(self) -> int:
        """Steps after which an episode is cut: twenty for each room that there may be."""
        return 20 * self.most_rooms


FLOORS = {
    "multiroom-n1": Floor(1, 5, 9, levels=100, held_out=500),
    "multiroom-n2": Floor(2, 5, 9, levels=100, held_out=500),
    "multiroom-n3": Floor(3, 6, 11, levels=100, held_out=500),
    # What IBAC-SNI's authors trained on, the N3r of microsoft/IBAC-SNI.
    "multiroom-n3r": Floor(3, 6, 11, levels=None),
}
"""Name to levels. That of two rooms is as small as two rooms allow, so that it can be learned on two
cores within minutes."""


def parse(name: str) -> tuple[Floor, bool] | None:
    """The levels that a name means, and whether the held-out ones; None for any other name.

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
    """All names, held-out ones behind their own."""
    return [
        name + ending
        for name, floor in FLOORS.items()
        for ending in (("", HELD_OUT) if floor.held_out else ("",))
    ]


def lines() -> list[str]:
    """Each task in a line, with what it is."""
    return [f"{name:<14} {_in_words(name, floor)}" for name, floor in FLOORS.items()]


def _in_words(name: str, floor: Floor) -> str:
    rooms = "1 room" if floor.most_rooms == 1 else f"1 to {floor.most_rooms} rooms"
    if floor.levels is None:
        return f"{rooms} in {floor.side}x{floor.side}, a fresh level in every episode"
    levels = f"{floor.levels} training levels, {floor.held_out} others as {name}{HELD_OUT}"
    return f"{rooms} in {floor.side}x{floor.side}, {levels}"
