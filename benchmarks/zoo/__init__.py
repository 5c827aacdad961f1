"""Trained agents and models that come with the package: `zoo:NAME` stands for the folder of one of them.

Each folder is a finished run without the files that only a resume needs. It contains config.json, the evaluation of the last update in
measures.npz, a checkpoint without optimisers and random generators, and about.txt, a description in one line.
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
    if name not in names():
        close = difflib.get_close_matches(name, names(), n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise UserError(f"there is no {name!r} in the zoo; {hint}`rlbench zoo list` shows all")
    return TRAINED / name


def output_folder(run: Path) -> Path:
    """The folder for the output of a command about a run: that of the run, or for `zoo:NAME` a copy in runs/, which is made if it is missing.

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
    if out.exists():
        raise UserError(f"{out} exists already; give another folder as --out, or remove it")
    part = out.with_name(f".{out.name}.part")
    with explaining_os_errors(out):
        shutil.rmtree(part, ignore_errors=True)  # A killed copy may have left it.
        part.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(folder, part, ignore=shutil.ignore_patterns(ABOUT))
        part.rename(out)
    return out
