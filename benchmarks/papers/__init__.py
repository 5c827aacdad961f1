"""Paper modules: the runs behind a paper's table, its own figures, its claims; by name."""

from difflib import get_close_matches
from importlib import import_module

from rlbench.benchmarks.tables.paper import Paper
from rlbench.errors import UserError

NAMES = ("bear", "crr", "d4rl", "ibac-sni", "identity-mappings", "resnet")
"""One module of this package each, with a `PAPER`; underscores stand for hyphens."""


def load_paper(name: str) -> Paper:
    """The paper of a name.

    Raises:
        UserError: There is none.
    """
    if name not in NAMES:
        close = get_close_matches(name, NAMES, n=1)
        hint = f"did you mean {close[0]}?" if close else f"expected one of {', '.join(NAMES)};"
        raise UserError(f"there is no paper {name!r}: {hint} see `rlbench table --all`")
    paper: Paper = import_module(f"{__name__}.{name.replace('-', '_')}").PAPER
    return paper
