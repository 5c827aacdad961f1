"""Changes to run folders as tests need them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rlbench.files import file_hash, with_hash


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Changes the config.json of a run, and all hashes of it, as if the run had begun with it."""
    from rlbench import checkpoint  # Loads PyTorch, which some tests must not.

    file = folder / "config.json"
    config = json.loads(file.read_text())
    config.pop("sha256", None)
    change(config)
    file.write_text(json.dumps(with_hash(config), indent=2) + "\n")
    for path in checkpoint.all_in(folder / "checkpoint"):
        state = checkpoint.load(path)
        state["files"]["config.json"] = file_hash(file)
        checkpoint.save(path, state)
