"""Groups runs into methods: the runs of one method differ only in the seed.

A mean over runs that also differ in a setting, in their data or in their length is meaningless. So runs
are distinguished by everything that affects a result, never by name alone.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rlbench.benchmarks.tables.defaults import field_defaults
from rlbench.benchmarks.training.config import RunConfig
from rlbench.benchmarks.training.learners import is_custom
from rlbench.benchmarks.training.run_folder import folder_name
from rlbench.errors import UserError
from rlbench.files import write_atomically
from rlbench.trust import Trust, trusts

Config = Mapping[str, Any]
"""The content of a config.json."""

FREE = {"out", "device", "threads", "compile", "loggers"}
"""Options that affect where and how a run is computed and shown, but not its result."""
UNDECISIVE = FREE | {"seeds", "eval_every", "log_every", "checkpoint_every", "snapshot_every"}
"""Options that do not affect the last evaluation of a run."""
HASH_LENGTH = 8
"""Number of hash digits in a label."""
NAME = "method.txt"
"""File in the folder of a run of a table or sweep with the name of its method, such as `BEAR, Laplacian`."""


def keep_name(folder: Path, method: str) -> None:
    """Stores the name of a run's method in its folder."""
    write_atomically(folder / NAME, f"{method}\n".encode())


def kept_name(folder: Path, config: Config) -> str:
    """The name of a run's method in the table or sweep that made it; otherwise the name of its learner.

    Args:
        folder: Folder of the run. Older ones have the method in their own name, without spaces and commas.
        config: Its config.json.
    """
    try:
        return (folder / NAME).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeError):
        pass
    end = folder_name(f"-{config['run']['env']}-s{config['run']['seed']}")
    name, learner = folder.name.removesuffix(end), str(config["learner"]["name"])
    return learner if name in (folder.name, folder_name(learner)) else name


def labels(names: Sequence[str], configs: Sequence[Config], *, trust: Trust = False) -> list[str]:
    """Method names; runs that share one on a task differ only in the seed.

    If runs with the same name differ on a task, the settings that differ are appended on all tasks, as in
    `crr (weight=binary, learning_rate=0.01)`, or the hash of the data if nothing else differs.

    Args:
        names: Initial name of each run, such as its learner.
        configs: The config.json of each run.
        trust: See `identities`.
    """
    found = identities(configs, trust)
    tasks = [_task(config) for config in configs]
    learners: dict[str, set[str]] = {}
    for name, identity in zip(names, found, strict=True):
        learners.setdefault(name, set()).add(identity["learner"])
    names = [
        name if len(learners[name]) == 1 else f"{name}, {identity['learner']}"
        for name, identity in zip(names, found, strict=True)
    ]
    first: dict[tuple[str, str], dict[str, Any]] = {}
    differing: dict[str, set[str]] = {}
    for name, task, identity in zip(names, tasks, found, strict=True):
        changed = differences(first.setdefault((name, task), identity), identity)
        # Each task has its own data, so their hash cannot name a method on all tasks.
        differing.setdefault(name, set()).update(changed - {"data_hash"})
    shown = [
        {key: value for key, value in identity.items() if key in differing[name]}
        for name, identity in zip(names, found, strict=True)
    ]
    hashes: dict[tuple[str, str], set[str]] = {}
    for name, task, settings, identity in zip(names, tasks, shown, found, strict=True):
        hashes.setdefault((_named(name, settings), task), set()).add(identity["data_hash"])
    for name, task, settings, identity in zip(names, tasks, shown, found, strict=True):
        if len(hashes[_named(name, settings), task]) > 1:
            settings["data"] = identity["data_hash"][:HASH_LENGTH]
    return [_named(name, settings) for name, settings in zip(names, shown, strict=True)]


def refuse_repeats(keys: Sequence[tuple[str, str, int]], places: Sequence[object]) -> None:
    """Refuses two runs of the same method, task and seed, which would count one result twice.

    Args:
        keys: Method, task and seed of each run.
        places: The folder of each run, or the file that holds it.

    Raises:
        UserError: A run appears twice.
    """
    seen: dict[tuple[str, str, int], object] = {}
    for key, place in zip(keys, places, strict=True):
        if key in seen:
            method, task, seed = key
            raise UserError(
                f"{seen[key]} and {place} hold the same run: {method} on {task}, seed {seed}, with "
                "equal settings and data; give only one of them"
            )
        seen[key] = place


def identities(configs: Sequence[Config], trust: Trust = False) -> list[dict[str, Any]]:
    """Everything that affects the result of each run, except its task and seed.

    Settings and options that were added after a run count as having their defaults. Data are identified
    by their hash, or by their size if each seed draws new ones. Reference returns are
    included because they define the unit of the score. Pretrained encoders are identified by how they were
    trained, because each seed may start from one with the same seed. An imported model is a method of its own.

    Args:
        configs: The config.json of each run.
        trust: Whether custom learners that they name may be imported for their defaults, or the names that may; the
            defaults of others are unknown.
    """
    settings_of: dict[str, set[str]] = {}
    for config in configs:
        name, settings = _learner(config)
        settings_of.setdefault(name, set()).update(settings)
    found = []
    for config in configs:
        name, settings = _learner(config)
        if newer := settings_of[name] - settings.keys():
            known = field_defaults(name) if trusts(trust, name) or not is_custom(name) else {}
            settings = settings | {key: known[key] for key in sorted(newer & known.keys())}
        unit = {"reference_returns": config.get("reference_returns")}
        run = decisive(config.get("run", {}))
        if origin := config.get("pretrained"):
            run["pretrained"] = _origin(origin)
        if model := config.get("imported"):  # Its training is not known.
            run["imported"] = model["sha256"][:HASH_LENGTH]
        found.append({"learner": name, **settings, **run, **_data(config), **unit})
    return found


def decisive(run: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a run that affect its result, without its task, data and seed."""
    options = dataclasses.asdict(RunConfig(env="")) | dict(run)
    other = UNDECISIVE | {"env", "seed", "data", "data_size"}
    return {name: value for name, value in options.items() if name not in other}


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> set[str]:
    """Names whose values differ, or that are in only one of the two."""
    absent = object()
    return {k for k in {**one, **other} if one.get(k, absent) != other.get(k, absent)}


def _named(name: str, settings: Mapping[str, Any]) -> str:
    """A name followed by its settings, as in `crr (weight=binary)`."""
    parts = ", ".join(f"{key}={in_words(value)}" for key, value in settings.items())
    return f"{name} ({parts})" if parts else name


def _learner(config: Config) -> tuple[str, dict[str, Any]]:
    learner = config.get("learner", {})
    return learner.get("name", ""), learner.get("settings", {})


def _origin(pretrained: Mapping[str, Any]) -> str:
    """How an encoder was pretrained, whatever the seed, as in `segmenter-coinrun-1000-5f0c21ab`."""
    learner = pretrained["learner"]
    settings = json.dumps(learner["settings"], sort_keys=True).encode()
    digits = hashlib.sha256(settings).hexdigest()[:HASH_LENGTH]
    return f"{learner['name']}-{pretrained['task']}-{pretrained['update']}-{digits}"


def _task(config: Config) -> str:
    return str(config.get("run", {}).get("env", ""))


def _data(config: Config) -> dict[str, Any]:
    data = config.get("data")
    if data is None:
        return {"data": "online", "data_hash": ""}
    found = {"data": data["kind"], "data_hash": data.get("sha256", "")}
    if data["kind"] == "generated":
        found["data_size"] = config.get("run", {}).get("data_size", RunConfig.data_size)
    # Format 1 labelled sources that draw new data for each seed as data of the task itself.
    if data.get("details", {}).get("seeded", data.get("source") == "the task itself"):
        found["data_hash"] = ""
    return found


def in_words(value: object) -> str:
    """A value of a setting as text; a list from a JSON file is shown as a tuple."""
    return str(tuple(value)) if isinstance(value, list) else str(value)
