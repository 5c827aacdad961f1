"""Versions of the software that produced a result."""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_PACKAGES = ("torch", "numpy", "gymnasium", "mujoco")


def versions() -> dict[str, str | bool | None]:
    """Versions of Python, the suite and the main libraries, and the suite's git commit."""
    from rlbench import __version__

    found: dict[str, str | bool | None] = {"rlbench": __version__}
    found["python"] = platform.python_version()
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    commit = _git("rev-parse", "HEAD")
    found["git_commit"] = commit
    found["git_clean"] = None if commit is None else _git("status", "--porcelain") == ""
    return found


def _git(*words: str) -> str | None:
    """Output of git for the checkout of this file; None if there is none."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        answer = subprocess.run(
            ["git", "-C", str(root), *words], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()
