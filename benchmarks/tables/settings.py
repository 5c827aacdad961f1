"""Settings of a paper's methods that differ from the defaults of `rlbench run`."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rlbench.benchmarks.tables.jobs import Job
from rlbench.benchmarks.tables.methods import UNDECISIVE, in_words
from rlbench.benchmarks.tables.paper import Grid
from rlbench.benchmarks.tables.results import Results
from rlbench.benchmarks.tables.sheet import Section
from rlbench.benchmarks.training.config import RunConfig


def settings_sections(grid: Grid, folder: Path, results: Results) -> list[Section]:
    """Non-default settings of the methods that have results; tasks with the same ones share a section."""
    found: dict[str, dict[str, list[str]]] = {}
    for method, job in grid.jobs(folder):
        if results.of(method, job.task):
            found.setdefault(job.task, {}).setdefault(method, changed(job))
    alike: list[tuple[list[str], dict[str, list[str]]]] = []
    for task, methods in found.items():
        tasks = next((tasks for tasks, others in alike if others == methods), None)
        if tasks is None:
            alike.append(([task], methods))
        else:
            tasks.append(task)
    return [_section(tasks, methods) for tasks, methods in alike]


def changed(job: Job) -> list[str]:
    """Settings of a job that affect its result and differ from the defaults, as `name=value`."""
    usual = job.defaults()
    options = dataclasses.asdict(job.config)
    asked = _plain({**job.settings, **options})
    taken = {**usual.settings, **_plain(dataclasses.asdict(RunConfig(env=""))), **usual.run}
    named = {
        name: value for name, value in asked.items() if name not in UNDECISIVE | {"env", "seed"}
    }
    return [f"{name}={in_words(value)}" for name, value in named.items() if value != taken[name]]


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values as in a JSON file."""
    plain: dict[str, Any] = json.loads(json.dumps(values, default=str))
    return plain


def _section(tasks: Sequence[str], methods: Mapping[str, Sequence[str]]) -> Section:
    """The settings that all methods share come first."""
    shared = [x for x in next(iter(methods.values())) if all(x in y for y in methods.values())]
    rows = [["all methods", ", ".join(shared) or "-"]]
    for method, settings in methods.items():
        rows.append([method, ", ".join(x for x in settings if x not in shared) or "-"])
    title = f"Settings that are not the defaults of `rlbench run` on {', '.join(tasks)}"
    return Section(title, ["method", "settings"], rows)
