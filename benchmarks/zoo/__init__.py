"""Trained agents and models that come with the package: `zoo:NAME` stands for the folder of one of them.

Each folder is a finished run without the files that only a resume needs. It contains config.json, the evaluation of the last update in
measures.npz, a checkpoint without optimisers and random generators, and about.txt, a description in one line.
"""

import difflib
from pathlib import Path

from rlbench.agents import RULES
from rlbench.errors import UserError
from rlbench.files import new_folder_atomically, write_atomically

PREFIX = "zoo:"
TRAINED = Path(__file__).parent / "trained"
ABOUT = "about.txt"


def names() -> list[str]:
    """The names of all trained agents and models, sorted."""
    return sorted(file.parent.name for file in TRAINED.glob(f"*/{ABOUT}"))


def located(run: Path) -> Path:
    """The folder of a run that is given by its path or as `zoo:NAME`.

    Raises:
        UserError: No trained agent or model has this name.
    """
    if not str(run).startswith(PREFIX):
        return run
    name = str(run).removeprefix(PREFIX)
    if name in RULES:
        raise UserError(
            f"{name} is an update rule, not a run; use it with `rlbench run lpg --env TASK --rule {name}`"
        )
    if name not in names():
        close = difflib.get_close_matches(name.lower(), [*names(), *RULES], n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise UserError(f"there is no {name!r} in the zoo; {hint}`rlbench zoo list` shows all")
    return TRAINED / name


def no_run(path: Path) -> UserError:
    """An error about a folder that contains no run, which may be the name of a trained agent or model without the prefix."""
    name = str(path).lower().removeprefix(PREFIX)
    other = f", or {PREFIX}{name}" if name in names() else ""
    return UserError(f"{path} contains no run; give the folder of a run{other}")


def output_folder(run: Path) -> Path:
    """The folder in which a command writes its output: the folder of the run or, for `zoo:NAME`, a copy in runs/, which is made if it is missing.

    Raises:
        UserError: The place of the copy is taken by something else.
    """
    folder = located(run)
    if folder == run:
        return run
    out = Path("runs") / folder.name
    config = out / "config.json"
    is_copy = config.is_file() and config.read_bytes() == (folder / "config.json").read_bytes()
    return out if is_copy else copy(folder.name, out)


def copy(name: str, out: Path) -> Path:
    """Copies a trained agent or model to a new folder, and returns this folder.

    Raises:
        UserError: No trained agent or model has this name, or the folder exists.
    """
    folder = located(Path(PREFIX + name))
    with new_folder_atomically(located(out)) as part:
        for file in folder.rglob("*"):
            if file.is_file() and file.name != ABOUT:
                # Without its mode, because the package may be read-only.
                write_atomically(part / file.relative_to(folder), file.read_bytes())
    return out
