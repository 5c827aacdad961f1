"""Run folders below other folders."""

from collections.abc import Iterable
from pathlib import Path


def run_folders(folders: Iterable[Path]) -> list[Path]:
    """The run folders among folders and everything below them, in order, each once; they may be unfinished."""
    found: dict[Path, Path] = {}
    for folder in folders:
        for path in [folder, *sorted(file.parent for file in folder.glob("**/config.json"))]:
            if (path / "config.json").exists():
                found.setdefault(path.resolve(), path)
    return list(found.values())
