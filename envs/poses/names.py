"""Names of the tasks in which a robot follows a demonstration, such as `follow-humanoid`; standard library only."""

PREFIX = "follow-"
FAMILIES = ("ant", "halfcheetah", "hopper", "humanoid", "swimmer", "walker2d")


def parse(name: str) -> str | None:
    """The robot of a name; None for any other name.

    >>> parse("follow-humanoid")
    'humanoid'
    >>> parse("follow-dog") is None
    True
    """
    family = name.removeprefix(PREFIX)
    return family if name.startswith(PREFIX) and family in FAMILIES else None


def names() -> list[str]:
    """All names."""
    return [PREFIX + family for family in FAMILIES]
