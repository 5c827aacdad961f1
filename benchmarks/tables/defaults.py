"""Default settings of `rlbench run` for a learner and a task.

They come from the learner's class, and loading it loads PyTorch, which takes longer than printing a table of
finished runs. So each run of a table stores them in its folder, with a hash of the code that defines them;
if the code has changed since, the learner is loaded again.
"""

import dataclasses
import hashlib
import json
import sys
from functools import cache
from pathlib import Path
from typing import Any

import rlbench
from rlbench import agents, backbones
from rlbench.benchmarks.training.learners import load_learner
from rlbench.errors import UserError
from rlbench.files import write_atomically

FILE = "defaults.json"


@dataclasses.dataclass(frozen=True)
class Defaults:
    """Defaults as plain JSON values."""

    settings: dict[str, Any]
    """The learner's settings, including its preset for the task and the length of the run."""
    fields: dict[str, Any]
    """The learner's settings without the preset, for fields that were added after a run."""
    run: dict[str, Any]
    """Run options whose defaults the learner overrides."""


def defaults(folder: Path, learner: str, task: str, updates: int) -> Defaults:
    """The defaults for a run.

    Args:
        folder: Folder of the run, where the defaults may be stored.
        learner: Its name, as in `rlbench list`.
        task: Its name.
        updates: Length of the run.

    Raises:
        UserError: There is no such agent or model.
    """
    # If PyTorch is loaded already, loading the learner takes no time.
    kept = None if "torch" in sys.modules else _kept(folder)
    return kept or _ask(learner, task, updates)


def keep(folder: Path, learner: str, task: str, updates: int) -> None:
    """Stores the defaults in the folder of a run if the learner is part of the suite, whose code is hashed."""
    if load_learner(learner).__module__.startswith("rlbench."):
        answer = {"code": _code(), **vars(_ask(learner, task, updates))}
        write_atomically(folder / FILE, (json.dumps(answer, indent=1) + "\n").encode())


def field_defaults(learner: str) -> dict[str, Any]:
    """Defaults of a learner's settings without any preset; empty if it is not installed."""
    try:
        fields = dataclasses.fields(load_learner(learner).Config)
    except UserError:
        return {}
    made = {x.name: x.default_factory() for x in fields if callable(x.default_factory)}
    given = {x.name: x.default for x in fields if x.default is not dataclasses.MISSING}
    return _plain(given | made)


def _ask(learner: str, task: str, updates: int) -> Defaults:
    found = load_learner(learner)
    settings = dataclasses.asdict(found.Config(**found.preset(task, updates)))
    return Defaults(_plain(settings), field_defaults(learner), _plain(dict(found.run)))


def _kept(folder: Path) -> Defaults | None:
    try:
        answer = json.loads((folder / FILE).read_bytes())
        return Defaults(**answer) if answer.pop("code") == _code() else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # The learner can always be loaded again.


@cache
def _code() -> str:
    """Hash of the source code that defines settings and presets."""
    digest = hashlib.sha256()
    for package, files in ((rlbench, "*.py"), (agents, "**/*.py"), (backbones, "**/*.py")):
        folder = Path(str(package.__file__)).parent
        for file in sorted(folder.glob(files)):
            digest.update(file.relative_to(folder).as_posix().encode() + file.read_bytes())
    return digest.hexdigest()


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(values, default=str))
    return plain
