"""Cards of the trained agents, models and update rules that come with the package."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np

from rlbench.agents import RULES
from rlbench.agents._rule import RULES as RULES_FOLDER
from rlbench.benchmarks.tables.methods import UNDECISIVE
from rlbench.benchmarks.tables.summary import score
from rlbench.benchmarks.training.config import RunConfig
from rlbench.benchmarks.training.formats import measures_of
from rlbench.benchmarks.training.learners import load_learner
from rlbench.benchmarks.training.loading import learner_for
from rlbench.benchmarks.training.recorder import describe
from rlbench.benchmarks.training.run_folder import RunFolder
from rlbench.benchmarks.zoo import ABOUT, PREFIX, located
from rlbench.envs.tasks import find_task
from rlbench.interface import Agent
from rlbench.measures import RETURN

Config = Mapping[str, Any]
"""The content of a config.json."""


@dataclass(frozen=True)
class Card:
    """The facts about a trained agent, model or update rule."""

    name: str
    about: str
    """A description in one line."""
    config: Config
    """Learner, options and versions of its run."""
    headline: str
    """The main result, in a few words."""
    result: str
    """Every measure of the evaluation."""
    use: str
    """An example of a command that uses it."""
    bytes: int
    """Size of all files."""

    def rows(self) -> dict[str, str]:
        """The lines of the card: text by title."""
        learner, run, data = (self.config.get(key) for key in ("learner", "run", "data"))
        assert learner is not None
        assert run is not None
        rows = {"learner": learner["name"], "task": run["env"], "updates": f"{run['updates']:,}"}
        if data is not None:
            rows["data"] = (
                f"{data['details']['transitions']:,} rows, {data['kind']}, SHA-256 {data['sha256']}"
            )
        rows["result"] = self.result
        rows["settings"] = ", ".join(f"{key}={_plain(x)}" for key, x in learner["settings"].items())
        rows["versions"] = ", ".join(f"{key} {x}" for key, x in self.config["versions"].items())
        rows["size"] = f"{self.bytes / 1e6:.2f} MB"
        rows["made by"] = command_of(self.config)
        rows["use"] = self.use
        return rows


def card(name: str) -> Card:
    """The card of a trained agent, model or update rule.

    Raises:
        UserError: None of them has this name.
    """
    if name in RULES:
        return _card_of_rule(name)
    path = located(Path(PREFIX + name))
    folder = RunFolder(path)
    config, columns = folder.config(), folder.last_evaluation()
    task = find_task(config["run"]["env"])
    learner = learner_for(config["learner"]["name"], task)
    verb = "watch" if issubclass(learner, Agent) else "evaluate"
    about = (path / ABOUT).read_text(encoding="utf-8").strip()
    return Card(
        name, about, config, _headline(config, columns), describe(task, learner, columns), f"rlbench {verb} {PREFIX}{name}", _size(path.rglob("*")),
    )  # fmt: skip


def _card_of_rule(name: str) -> Card:
    """The card of an update rule of LPG."""
    file = RULES_FOLDER / f"{name}.json"
    config = json.loads(file.read_bytes())
    rewards = ", ".join(f"{key} {x:.3f}" for key, x in config["scores"].items())
    result = f"reward per step, of agents with the rule (reward), of A2C (a2c) and of random actions (random): {rewards}"
    return Card(
        name, f"update rule of lpg, {RULES[name]}", config, "-", result, f"rlbench run lpg --env CartPole-v1 --rule {name}",
        _size(RULES_FOLDER.glob(f"{name}.*")),
    )  # fmt: skip


def command_of(config: Config) -> str:
    """The command that starts a run with the options and settings of a config.json."""
    name, given = config["learner"]["name"], config["run"]
    learner = load_learner(name)
    settings = asdict(learner.Config(**learner.preset(given["env"], given["updates"])))
    usual = asdict(RunConfig(env=given["env"], **learner.run))
    options = {key: x for key, x in given.items() if key not in UNDECISIVE}
    words = [
        word
        for values, known in ((options, usual), (config["learner"]["settings"], settings))
        for key, x in values.items()
        if _plain(x) != _plain(known.get(key))
        for word in _words(key, x)
    ]
    return " ".join(["rlbench run", name, "--env", quote(given["env"]), *words])


def _words(key: str, value: Any) -> list[str]:
    """A setting as words of a command line."""
    flag = key.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{flag}" if value else f"--no-{flag}"]
    values = value if isinstance(value, list) else [value]
    return [f"--{flag}", *(quote(str(x)) for x in values)]


def _plain(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _headline(config: Config, columns: Mapping[str, Any]) -> str:
    """The mean of the headline measure, or the score if the task has scores."""
    measure = measures_of(config)[0]
    mean = float(np.mean(columns[measure.name]))
    if measure == RETURN and (scored := score(config, mean)) is not None:
        return f"score {scored:.1f}"
    unit = f" {measure.unit}" if measure.unit else ""
    return f"{measure.name.replace('_', ' ')} {mean:,.{1 if abs(mean) >= 10 else 3}f}{unit}"


def _size(files: Any) -> int:
    return sum(file.stat().st_size for file in files if file.is_file())
