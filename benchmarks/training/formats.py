"""Formats of run folders: the contents of config.json and the evaluations, and the upgrade from earlier formats.

Format 1 supported agents and returns only: config.json names an `agent`, and returns.npz has `return` and `held_out`.
Since format 3 config.json holds the hash of its other contents.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from rlbench.measures import RETURN, Measure

FORMAT = 3
HASHED = 3
"""The first format in which config.json holds a hash."""
HELD_OUT = "held_out/"
TRAIN = "train/"
"""Prefixes of the columns of held-out levels and of training examples."""


def upgraded(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config.json in the present format, without its hash."""
    if config["format"] != 1:
        return {**config, "format": FORMAT}
    config = {"learner" if name == "agent" else name: value for name, value in config.items()}
    return config | {"format": FORMAT, "measures": [asdict(RETURN)]}


def upgraded_evaluations(columns: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Columns of evaluations in the present format; those of format 2 or later are unchanged."""
    found = dict(columns)
    if "held_out" in found:
        found[f"{HELD_OUT}seed"] = found["seed"]
        found[f"{HELD_OUT}{RETURN.name}"] = found.pop("held_out")
    return found


def measures_of(config: Mapping[str, Any]) -> list[Measure]:
    """The measures of a run, the headline measure first."""
    return [Measure.from_json(plain) for plain in config["measures"]]


def is_whole(config: Mapping[str, Any]) -> bool:
    """Whether a config has the entries that every reader of runs needs; older runs lack some settings."""
    learner, run, data = config["learner"], config["run"], config["data"]
    scale, steps = config["reference_returns"], config.get("env_steps")
    return (
        isinstance(learner["name"], str)
        and isinstance(learner["settings"], dict)
        and isinstance(run["env"], str)
        and all(isinstance(run[name], int) for name in ("updates", "seed"))
        and (data is None or {"kind", "name", "source", "details", "sha256"} <= data.keys())
        and (scale is None or len(list(map(float, scale))) == 2)
        and len(measures_of(config)) > 0
        and (steps is None or all(isinstance(steps[name], int) for name in ("first", "each")))
    )


def update_of_line(line: bytes) -> float:
    """Update of a line in a .jsonl file; infinite if a crash truncated the line."""
    try:
        return int(json.loads(line)["update"])
    except (ValueError, KeyError, TypeError):
        return float("inf")


def update_of_name(path: Path) -> int | None:
    """The update in the name of a checkpoint; None for a file that someone else put there."""
    word, _, number = path.name.partition("-")
    return int(number) if word == "update" and number.isdecimal() else None
