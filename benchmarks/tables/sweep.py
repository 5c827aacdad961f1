"""`rlbench sweep`: agents x tasks x seeds, from flags or from a TOML file.

seeds = 3
tasks = ["halfcheetah-medium", "point-mixed"]

[run]                      # anything that `rlbench run` takes
updates = 20_000           # or steps = 500_000, environment steps

[[method]]
name = "BEAR, Laplacian"
agent = "bear"
settings = { kernel = "laplacian" }
"""

import dataclasses
import difflib
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import tyro

from rlbench.backbones.ranges import FEW, check
from rlbench.benchmarks.commands.options import StepsOption
from rlbench.benchmarks.loggers._group import load as load_loggers
from rlbench.benchmarks.tables.executors import Execution, run_missing
from rlbench.benchmarks.tables.paper import Grid, Method
from rlbench.benchmarks.tables.results import Results, read_result
from rlbench.benchmarks.tables.sheet import Format
from rlbench.benchmarks.tables.table import conclude, scores
from rlbench.benchmarks.training.callbacks import Callbacks
from rlbench.benchmarks.training.config import RunConfig
from rlbench.benchmarks.training.faults import named_as_users
from rlbench.benchmarks.training.learners import changes_without_files, load_learner
from rlbench.benchmarks.training.settings_file import read_settings, settings_for
from rlbench.envs.tasks import find_task
from rlbench.errors import UserError
from rlbench.files import only_one
from rlbench.terminal import Terminal
from rlbench.trust import TrustOption, with_names

_KINDS = {
    "seeds": (int, "a whole number"),
    "tasks": (list, 'a list, as in ["point-mixed"]'),
    "method": (list, "tables with two brackets, [[method]]"),
    "run": (dict, "a table, [run]"),
}
"""Keys of a file: what they must be, and how an error says it."""


@dataclass(frozen=True)
class SweepConfig:
    """Run agents or models on tasks with several seeds, and show their scores."""

    file: Annotated[Path | None, tyro.conf.Positional] = None
    """TOML file that describes the sweep; flags then only set where and how it is run."""
    agents: tuple[str, ...] = ()
    """Agents or models, with their default settings unless --settings or a TOML file gives them others."""
    tasks: tuple[str, ...] = ()
    """Tasks."""
    seeds: int = 3
    """Runs of each agent on each task."""
    settings: tuple[Path, ...] = ()
    """JSON files with settings of the agents, such as the best.json of `rlbench tune`; each is for the agent that it names."""
    updates: int | None = None
    """Gradient updates of each run; None: the agent's default in `rlbench run`."""
    steps: StepsOption = None
    data: str = RunConfig.data
    """Data set of the agents, such as an HDF5 file; see --data of `rlbench run`."""
    data_size: int = RunConfig.data_size
    """Transitions to generate, for generated data."""
    eval_every: int | None = None
    """Updates between evaluations; the last update is always evaluated. None: the agent's default in `rlbench run`."""
    loggers: tuple[str, ...] = RunConfig.loggers
    """Where the learning curves go; see --loggers of `rlbench run`."""
    callbacks: tuple[str, ...] = ()
    """Your own code that every run calls; see --callbacks of `rlbench run`."""
    out: Path = Path("runs/sweep")
    """Where the run folders are."""
    format: Format = "terminal"
    """How the scores are written."""
    trust: TrustOption = False
    execution: Annotated[Execution, tyro.conf.arg(name="")] = field(default_factory=Execution)
    """Where the runs are executed."""

    def __post_init__(self) -> None:
        """Refuses options of a wrong type or out of range."""
        check(self)


def make(asked: SweepConfig) -> None:
    """Runs the sweep and prints its table."""
    grid = _from_file(asked.file) if asked.file else _from_flags(asked)
    _check(grid)
    grid = in_updates(grid, asked.trust)
    console = Terminal(stderr=True)
    named = list(grid.jobs(asked.out, asked.trust))
    refusal = f"another sweep is running in {asked.out}; wait for it or give another --out"
    with only_one(asked.out / ".lock", refusal):
        failed = run_missing([job for _, job in named], asked.execution, "sweep", console)
        results = Results(
            (read_result(method, job.folder) for method, job in named if job.complete()),
            trust=grid.names,
        )
        conclude([scores(grid, results)], asked.format, asked.out, failed, console)


def _from_flags(asked: SweepConfig) -> Grid:
    if not (asked.agents and asked.tasks):
        raise UserError(
            "give the runs: rlbench sweep --agents bc bear --tasks point-mixed, or a TOML file"
        )
    names = ("updates", "steps", "data", "data_size", "eval_every", "loggers", "callbacks")
    given = {name: getattr(asked, name) for name in names}
    run = {name: value for name, value in given.items() if value is not None}
    settings: dict[str, dict[str, Any]] = {}
    for file in asked.settings:
        agent, _ = read_settings(file)
        if agent not in asked.agents or agent in settings:
            raise UserError(
                f"{file} has settings of {agent}; give one such file for each of the --agents, or none"
            )
        settings[agent] = settings_for(agent, file)
    methods = tuple(method_of(name, name, settings.get(name, {})) for name in asked.agents)
    return Grid(methods, asked.tasks, asked.seeds, run)


def _from_file(file: Path) -> Grid:
    try:
        told = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"there is no file {file}; give the TOML file of a sweep") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{file} is not valid TOML ({error}); correct it") from None
    _known_keys(file, "the file", told, tuple(_KINDS))
    for name, (kind, what) in _KINDS.items():
        if name in told and not isinstance(told[name], kind):
            raise UserError(f"{file}: {name} is {told[name]!r}; give {what}")
    try:
        for m in told["method"]:
            _known_keys(file, "a [[method]]", m, ("name", "agent", "settings"))
        methods = tuple(
            method_of(str(m.get("name", m["agent"])), str(m["agent"]), _settings(m))
            for m in told["method"]
        )
        return Grid(methods, tuple(told["tasks"]), told["seeds"], _tuples(told.get("run", {})))
    except UserError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{file} lacks or misspells {error}; it needs seeds, tasks and a [[method]] with an "
            "agent for each column"
        ) from None


def _known_keys(file: Path, where: str, given: Mapping[str, Any], known: Sequence[str]) -> None:
    """Refuses keys that would be ignored."""
    if unknown := [key for key in given if key not in known]:
        raise UserError(
            f"{file}: {where} has {', '.join(unknown)}; give {', '.join(known)} and nothing else"
        )


def method_of(name: str, agent: str, settings: Mapping[str, Any]) -> Method:
    """A method whose encoder reads no file; see `changes_without_files`."""
    run = {**load_learner(agent).run}
    changed, pretrained = changes_without_files(settings, None)
    if pretrained is not None:
        run["pretrained"] = pretrained
    return Method(name, agent, {**settings, **changed}, run)


def _settings(method: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a [[method]], which may be the name of a JSON file."""
    settings = method.get("settings", {})
    if isinstance(settings, str):
        return settings_for(str(method["agent"]), Path(settings))
    return _tuples(settings)


def _tuples(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with tuples in place of TOML's lists."""
    return {name: tuple(x) if isinstance(x, list) else x for name, x in settings.items()}


def _check(grid: Grid) -> None:
    """Refuses settings that would fail in every run, before the first one starts."""
    if not FEW.holds(grid.seeds):
        raise UserError(f"seeds is {grid.seeds}; give {FEW.words}")
    names = [method.name for method in grid.methods]
    if len(set(names)) < len(names):
        raise UserError(
            f"two methods are called {max(names, key=names.count)!r}; give them different names"
        )
    if len(set(grid.tasks)) < len(grid.tasks):
        raise UserError(
            f"the task {max(grid.tasks, key=grid.tasks.count)!r} is given twice; give it once"
        )
    if {"updates", "steps"} <= grid.run.keys():
        raise UserError(
            f"updates is {grid.run['updates']} and steps is {grid.run['steps']}; give only one of them"
        )
    run = {name: value for name, value in grid.run.items() if name != "steps"}
    _check_names("[run]", run, RunConfig, {"env", "seed", "seeds", "out"}, ("steps",))
    # Refuses senseless values before presets are computed from them.
    options = RunConfig(env="", **run)
    load_loggers(options.loggers)
    Callbacks(options.callbacks)
    SweepConfig(steps=grid.run.get("steps"))
    for method in grid.methods:
        _check_names(method.name, method.settings, load_learner(method.learner).Config, set())
    for task in grid.tasks:
        find_task(task)
        for method in grid.methods:
            learner = load_learner(method.learner)
            updates = {**method.run, **run}.get("updates", RunConfig.updates)
            try:
                with named_as_users(learner):
                    learner.Config(**{**learner.preset(task, updates), **method.settings})
            except UserError as error:
                raise UserError(f"{method.name} on {task}: {error}") from error
    taken: dict[Path, str] = {}
    for name, job in replace(grid, run=run).jobs(Path()):
        this = f"{name!r} on {job.config.env}"
        if (other := taken.setdefault(job.folder, this)) != this:
            raise UserError(
                f"the runs of {other} and of {this} would share the folder {job.folder}; rename one"
            )


def in_updates(grid: Grid, trust: bool) -> Grid:
    """The grid with the updates of each agent on each task in place of environment steps, if these give its length."""
    run = {**grid.run}
    steps = run.pop("steps", None)
    if steps is None:
        return grid
    from rlbench.benchmarks.training.lengths import steps_of  # It loads PyTorch.

    updates: dict[tuple[str, str], int] = {}
    for task in grid.tasks:
        for method in grid.methods:
            learner = load_learner(method.learner)
            config = RunConfig(env=task, **{**method.run, **run})
            preset = learner.preset(task, config.updates)
            settings = learner.Config(**{**preset, **method.settings})
            allowed = with_names(trust, grid.names)
            found = steps_of(steps, method.learner, settings, config, trust=allowed)
            updates[method.name, task] = found.updates(steps)
    return replace(grid, run=run, steps=steps, updates=updates)


def _check_names(
    where: str, given: Any, kind: type[Any], taken: set[str], more: Sequence[str] = ()
) -> None:
    known = {field.name for field in dataclasses.fields(kind)}.union(more) - taken
    for name in given:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(sorted(known))}"
            raise UserError(f"{where}: there is no setting {name!r}; {hint}")
