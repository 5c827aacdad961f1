"""Run folders below other folders."""

from collections.abc import Iterable
from pathlib import Path

from rlbench.benchmarks.zoo import located
from rlbench.files import PART


def run_folders(folders: Iterable[Path]) -> list[Path]:
    """The run folders among folders and everything below them, in order, each once; they may be unfinished.

    Args:
        folders: Paths, which may be `zoo:NAME`.
    """
    found: dict[Path, Path] = {}
    for folder in folders:
        place = located(folder)
        for path in [place, *sorted(file.parent for file in place.glob("**/config.json"))]:
            if (path / "config.json").exists() and not _is_temporary(path):
                found.setdefault(path.resolve(), folder if path == place else path)
    return list(found.values())


def _is_temporary(path: Path) -> bool:
    """Whether a kill left the folder behind before it had its name; see `new_folder_atomically`."""
    return path.parent.name.startswith(".") and path.parent.suffix == PART
