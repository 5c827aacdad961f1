"""Which custom code a run folder may import.

The config.json of a folder from elsewhere can name any module, and importing a module runs its code. So a name of the form
`package.module:thing` is imported only if the user gave it or trusts the folder.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Annotated, Any

import tyro

from rlbench.errors import UserError

Trust = bool | Collection[str]
"""Names that may be imported; True for all names, False for none."""
TrustOption = Annotated[
    bool,
    tyro.conf.arg(help="Import the custom code (package.module:thing) that a run folder names."),
]
"""The option `--trust` of every command that reads a run folder."""


def trusts(trust: Trust, name: str) -> bool:
    """Whether a name may be imported."""
    return trust if isinstance(trust, bool) else name in trust


def with_names(trust: Trust, names: Iterable[str]) -> Trust:
    """The same trust, and trust in names that the user gave."""
    return True if trust is True else frozenset((*(trust or ()), *names))


def texts(value: Any) -> set[str]:
    """All texts in settings, which may be nested."""
    if isinstance(value, str):
        return {value}
    if isinstance(value, Mapping):
        value = value.values()
    elif not isinstance(value, list | tuple):
        return set()
    return {text for inner in value for text in texts(inner)}


def refuse_untrusted(names: Iterable[str], folder: object, trust: Trust) -> None:
    """Refuses names of custom code in a folder that the user neither gave nor trusts."""
    if untrusted := [name for name in dict.fromkeys(names) if not trusts(trust, name)]:
        raise UserError(
            f"{folder} names the custom code {' and '.join(untrusted)}, which runs when it is imported; if you trust "
            "whoever made the folder, give --trust (in Python, trust=True)"
        )
