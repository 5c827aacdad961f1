"""Changes to run folders as tests need them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rlbench.benchmarks.training.formats import with_hash


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Changes the config.json of a run as if the run had begun with it."""
    file = folder / "config.json"
    config = json.loads(file.read_text())
    config.pop("sha256", None)
    change(config)
    file.write_text(json.dumps(with_hash(config)))
