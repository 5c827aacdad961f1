"""Which runs are seeds of one method: those that differ in nothing but the seed.

A mean over runs that also differ in a setting, in their data or in their length means nothing. So runs
are told apart by everything that decides a result, and never by a name alone.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from rlbench.benchmarks.tables.defaults import field_defaults
from rlbench.benchmarks.training.config import RunConfig
from rlbench.envs.tasks import find_task
from rlbench.errors import UserError

Config = Mapping[str, Any]
"""The content of a config.json."""

FREE = {"out", "device", "threads", "compile"}
"""Options of a run that say where and how it is computed, not what."""
UNDECISIVE = FREE | {"seeds", "eval_every", "log_every", "checkpoint_every", "snapshot_every"}
"""Options that do not change the result of its last evaluation."""
HASH_LENGTH = 8
"""Digits of a hash in a label."""


def labels(names: Sequence[str], configs: Sequence[Config]) -> list[str]:
    """Names under which the runs of a task are seeds of one method.

    Where runs of a name differ on a task, the settings that differ follow it on all tasks, as in
    `crr (weight=binary, learning_rate=0.01)`, and the hash of the data where nothing else differs.

    Args:
        names: The name of each run so far, such as its agent.
        configs: The config.json of each run.
    """
    found = identities(configs)
    tasks = [_task(config) for config in configs]
    agents: dict[str, set[str]] = {}
    for name, identity in zip(names, found, strict=True):
        agents.setdefault(name, set()).add(identity["agent"])
    names = [
        name if len(agents[name]) == 1 else f"{name}, {identity['agent']}"
        for name, identity in zip(names, found, strict=True)
    ]
    first: dict[tuple[str, str], dict[str, Any]] = {}
    differing: dict[str, set[str]] = {}
    for name, task, identity in zip(names, tasks, found, strict=True):
        changed = differences(first.setdefault((name, task), identity), identity)
        # Every task has data of its own, so their hash cannot name a method on all tasks.
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
    """Refuses two runs of one method, task and seed, which are one result and not two.

    Args:
        keys: Method, task and seed of each run.
        places: The folder of each run, or the file that holds it.

    Raises:
        UserError: There are two.
    """
    seen: dict[tuple[str, str, int], object] = {}
    for key, place in zip(keys, places, strict=True):
        if key in seen:
            method, task, seed = key
            raise UserError(
                f"{seen[key]} and {place} hold one run twice: {method} on {task}, seed {seed}, with "
                "equal settings and data; give only one of them"
            )
        seen[key] = place


def identities(configs: Sequence[Config]) -> list[dict[str, Any]]:
    """Everything that decides the result of each run, save its task and seed.

    Settings and options that are newer than a run had their default. Data are identified by their
    hash, or by their size where the task draws them anew for each seed. Reference returns are the unit
    of the score.
    """
    settings_of: dict[str, set[str]] = {}
    for config in configs:
        name, settings = _agent(config)
        settings_of.setdefault(name, set()).update(settings)
    found = []
    for config in configs:
        name, settings = _agent(config)
        if newer := settings_of[name] - settings.keys():
            known = field_defaults(name)
            settings = settings | {key: known[key] for key in sorted(newer & known.keys())}
        unit = {"reference_returns": config.get("reference_returns")}
        run = decisive(config.get("run", {}))
        found.append({"agent": name, **settings, **run, **_data(config), **unit})
    return found


def decisive(run: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a run that decide its result, without those of its task, data and seed."""
    options = dataclasses.asdict(RunConfig(env="")) | dict(run)
    other = UNDECISIVE | {"env", "seed", "data", "data_size"}
    return {name: value for name, value in options.items() if name not in other}


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> set[str]:
    """Names that have another value in the other, or none."""
    absent = object()
    return {k for k in {**one, **other} if one.get(k, absent) != other.get(k, absent)}


def _named(name: str, settings: Mapping[str, Any]) -> str:
    """A name and its settings, as in `crr (weight=binary)`."""
    parts = ", ".join(f"{key}={in_words(value)}" for key, value in settings.items())
    return f"{name} ({parts})" if parts else name


def _agent(config: Config) -> tuple[str, dict[str, Any]]:
    agent = config.get("agent", {})
    return agent.get("name", ""), agent.get("settings", {})


def _task(config: Config) -> str:
    return str(config.get("run", {}).get("env", ""))


def _data(config: Config) -> dict[str, Any]:
    data = config.get("data")
    if data is None:
        return {"data": "online", "data_hash": ""}
    found = {"data": data["kind"], "data_hash": data.get("sha256", "")}
    if data["kind"] == "generated":
        found["data_size"] = config.get("run", {}).get("data_size", RunConfig.data_size)
    if _drawn(_task(config)):
        found["data_hash"] = ""
    return found


@cache
def _drawn(task: str) -> bool:
    """Whether the task, and so its data, are drawn anew for each seed."""
    try:
        return find_task(task).draw is not None
    except UserError:  # Its package need not be there to read what its runs gave.
        return False


def in_words(value: object) -> str:
    """A value of a setting; a list of a JSON file is a tuple."""
    return str(tuple(value)) if isinstance(value, list) else str(value)
