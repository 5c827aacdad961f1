"""The form in which a fault is written down."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Mutation:
    """One fault, put in by replacing a piece of text that occurs once in its file."""

    fault: str
    """What is wrong then."""
    file: str
    """Below the root of the repository."""
    old: str
    new: str
    tests: tuple[str, ...]
    """Arguments of pytest: the files or tests of which one must fail."""

    @property
    def name(self) -> str:
        """The file and the fault."""
        return f"{self.file}: {self.fault}"

    def applied(self, root: Path) -> str:
        """The text of the file with the fault, which must fit the file in `root`."""
        text = (root / self.file).read_text(encoding="utf-8")
        found = text.count(self.old)
        if found != 1:
            raise ValueError(
                f"{self.name}: {self.old!r} occurs {found} times and not once; write the mutation "
                "anew for the code as it is now"
            )
        return text.replace(self.old, self.new)


def of_file(file: str, tests: str, *faults: tuple[str, str, str]) -> list[Mutation]:
    """Mutations of a file, each (fault, old text, new text), which the same tests must notice.

    Args:
        file: Below the root of the repository.
        tests: Arguments of pytest below `tests/`, separated by spaces; modules with doctests are those
            that begin with `rlbench/` and are no tests of it.
        *faults: Fault, old text and new text of each.
    """
    doctests = "rlbench/(?!test_)"
    paths = tuple(x if re.match(doctests, x) else f"tests/{x}" for x in tests.split())
    return [Mutation(fault, file, old, new, paths) for fault, old, new in faults]
