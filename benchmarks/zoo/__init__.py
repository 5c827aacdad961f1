"""Trained agents and encoders that come with the package: `zoo:NAME` stands for the folder of one of them.

Each is the folder of a finished run without what only a resume needs: config.json, the evaluation of the last update in measures.npz, and a
checkpoint without optimisers and random generators. about.txt says in one line what it is.
"""

import difflib
import shutil
from pathlib import Path

from rlbench.errors import UserError
from rlbench.files import explaining_os_errors

PREFIX = "zoo:"
TRAINED = Path(__file__).parent / "trained"
ABOUT = "about.txt"


def names() -> list[str]:
    """The names of all trained agents and encoders."""
    return sorted(file.parent.name for file in TRAINED.glob(f"*/{ABOUT}"))


def located(run: Path) -> Path:
    """The folder of a run, given by its path or as `zoo:NAME`.

    Raises:
        UserError: There is nothing of that name.
    """
    if not str(run).startswith(PREFIX):
        return run
    name = str(run).removeprefix(PREFIX)
    if name not in names():
        close = difflib.get_close_matches(name, names(), n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise UserError(f"there is no {name!r} in the zoo; {hint}`rlbench zoo list` shows all")
    return TRAINED / name


def writable(run: Path) -> Path:
    """The folder to which a command may write what it makes of a run: its own, or a copy of `zoo:NAME` in runs/."""
    folder = located(run)
    if folder == run:
        return run
    out = Path("runs") / folder.name
    return out if (out / "config.json").exists() else copied(folder.name, out)


def copied(name: str, out: Path) -> Path:
    """Copies a trained agent or encoder to a new folder, and returns that.

    Raises:
        UserError: There is nothing of that name, or the folder exists.
    """
    folder = located(Path(PREFIX + name))
    if out.exists():
        raise UserError(f"{out} exists already; give another folder as --out, or remove it")
    part = out.with_name(f".{out.name}.part")
    with explaining_os_errors(out):
        shutil.rmtree(part, ignore_errors=True)  # A kill may have left it.
        part.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(folder, part, ignore=shutil.ignore_patterns(ABOUT))
        part.rename(out)
    return out
