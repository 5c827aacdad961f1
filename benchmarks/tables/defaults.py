"""What `rlbench run` takes for an agent and a task where it is not asked for anything else.

An agent says so, and to load an agent loads PyTorch, which takes longer than to print a table of
finished runs. So each run of a table keeps the answer in its folder, with a hash of the code that gave
it; after a change of the code the agent is asked again.
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
from rlbench.agents import load_agent
from rlbench.errors import UserError
from rlbench.files import write_atomically

FILE = "defaults.json"


@dataclasses.dataclass(frozen=True)
class Defaults:
    """All in the plain values of JSON."""

    settings: dict[str, Any]
    """The agent's settings with its preset for the task and the length of the run."""
    fields: dict[str, Any]
    """Its settings without the preset: those of a run that is older than a field."""
    run: dict[str, Any]
    """Options of a run that the agent has otherwise than `RunConfig`."""


def defaults(folder: Path, agent: str, task: str, updates: int) -> Defaults:
    """The defaults for a run.

    Args:
        folder: Of the run; the answer may lie there.
        agent: As in `rlbench list`.
        task: Its name.
        updates: Length of the run.

    Raises:
        UserError: There is no such agent.
    """
    # Where PyTorch is loaded already, asking takes no time.
    kept = None if "torch" in sys.modules else _kept(folder)
    return kept or _ask(agent, task, updates)


def keep(folder: Path, agent: str, task: str, updates: int) -> None:
    """Keeps the answer in the folder of a run, where it comes from the suite's own code."""
    if load_agent(agent).__module__.startswith("rlbench."):
        answer = {"code": _code(), **vars(_ask(agent, task, updates))}
        write_atomically(folder / FILE, (json.dumps(answer, indent=1) + "\n").encode())


def field_defaults(agent: str) -> dict[str, Any]:
    """Defaults of an agent's settings without any preset; empty where there is no such agent here."""
    try:
        fields = dataclasses.fields(load_agent(agent).Config)
    except UserError:
        return {}
    made = {x.name: x.default_factory() for x in fields if callable(x.default_factory)}
    given = {x.name: x.default for x in fields if x.default is not dataclasses.MISSING}
    return _plain(given | made)


def _ask(agent: str, task: str, updates: int) -> Defaults:
    found = load_agent(agent)
    settings = dataclasses.asdict(found.Config(**found.preset(task, updates)))
    return Defaults(_plain(settings), field_defaults(agent), _plain(dict(found.run)))


def _kept(folder: Path) -> Defaults | None:
    try:
        answer = json.loads((folder / FILE).read_bytes())
        return Defaults(**answer) if answer.pop("code") == _code() else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # Asking again is always possible.


@cache
def _code() -> str:
    """Hash of the source that settings and presets are written in."""
    digest = hashlib.sha256()
    for package in (rlbench, agents, backbones):
        for file in sorted(Path(str(package.__file__)).parent.glob("*.py")):
            digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(values, default=str))
    return plain
