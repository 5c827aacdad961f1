"""The runner: task, data set, agent, driver, evaluations and run folder, in one direction.

config -> task -> data set -> agent -> driver -> [update]*N -> evaluate -> run folder
"""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from torch import Generator

from rlbench import compute
from rlbench.accelerate.compile import compiled_learn, why_not
from rlbench.accelerate.precision import with_products_in
from rlbench.agents import load_agent
from rlbench.benchmarks.training.config import RunConfig
from rlbench.benchmarks.training.drivers import DatasetDriver, Driver, ReplayDriver
from rlbench.benchmarks.training.faults import named_as_agents
from rlbench.benchmarks.training.interrupt import Interrupt, Unfinished
from rlbench.benchmarks.training.keeper import Keeper, stopped
from rlbench.benchmarks.training.progress import ProgressLine
from rlbench.benchmarks.training.rollouts import RolloutDriver
from rlbench.benchmarks.training.run_folder import RunFolder, folder_name
from rlbench.benchmarks.training.versions import versions
from rlbench.envs.contract import check
from rlbench.envs.tasks import Task, find_task
from rlbench.errors import Diverged, UserError
from rlbench.interface import Agent, Spec, Trajectories
from rlbench.offline_data import DataSet, Provenance, as_recorded, open_data
from rlbench.seeding import derive

COMPILING_PAYS = 50_000
"""Compiled steps from which on `--compile auto` compiles: where it saves more time than it takes."""


class Run:
    """One run, new or continued."""

    def __init__(
        self, agent_name: str, settings: Any, config: RunConfig, console: Console | None = None
    ) -> None:
        """Puts the parts of a run together; nothing is written to the run folder yet.

        Args:
            agent_name: As in `rlbench list`, or package.module:Class.
            settings: The agent's settings, of its `Config`.
            config: Everything else.
            console: Where to tell how it goes.
        """
        compute.configure(config.threads, config.device)
        self.console = console or Console()
        self.agent_name, self.settings, self.config = agent_name, settings, config
        device = compute.resolve_device(config.device)
        agent_class = load_agent(agent_name)
        self.task = find_task(config.env).drawn(config.seed)
        world = check(self.task.make, self.task.name)
        self.data = self._open_data(agent_class)
        if self.data is not None:
            self.task = as_recorded(self.task, self.data.provenance)
        self.folder = RunFolder(config.out or new_folder(agent_name, config))
        spec = Spec.of(world)
        if self.data is not None:
            mean, std = self.data.obs_mean.to(device), self.data.obs_std.to(device)
            returns = self.data.return_range
            spec = dataclasses.replace(spec, obs_mean=mean, obs_std=std, return_range=returns)
        seed = derive(config.seed, "agent")
        with named_as_agents(agent_class):
            self.agent: Agent = agent_class(settings, spec, seed=seed, device=device)
            compiled = compiles(config, self.agent)
        self.config = dataclasses.replace(config, compile="on" if compiled else "off")
        self.update = 0

    @classmethod
    def resume(cls, path: Path, console: Console | None = None) -> "Run":
        """The run of a folder, ready to `finish`.

        Raises:
            UserError: The folder holds no run, or its data are not to be had any more.
        """
        saved = RunFolder(path).config()
        name = saved["agent"]["name"]
        settings = from_json(load_agent(name).Config, saved["agent"]["settings"], path)
        config = dataclasses.replace(from_json(RunConfig, saved["run"], path), out=path)
        run = cls(name, settings, config, console)
        if run.data is not None and run.data.provenance.sha256 != saved["data"]["sha256"]:
            raise UserError(
                f"the data of {config.env} are not those that {path} began with; "
                "restore them or start a new run"
            )
        return run

    def start(self) -> None:
        """A new run, from its first update to its last."""
        with self.folder.locked(), named_as_agents(type(self.agent)):
            self.folder.start(self.description())
            self._train(self._make_driver())

    def finish(self) -> int:
        """Runs the remaining updates of a stopped run; returns their number."""
        with self.folder.locked(), named_as_agents(type(self.agent)):
            state = self.folder.load_checkpoint(self.agent.device)
            first = 0 if state is None else int(state["update"])
            if first == self.config.updates:
                return 0
            driver = self._make_driver()
            self.go_back(state, driver)
            self._train(driver)
            return self.config.updates - first

    def go_back(self, state: dict[str, Any] | None, driver: Driver) -> None:
        """Agent, driver and folder as they were at a checkpoint, or at the start without one."""
        self.update = 0 if state is None else int(state["update"])
        if state is not None:
            with explaining_misfit(self.folder.path):
                self.agent.load_state_dict(state["agent"])
                driver.load_state_dict(state["driver"])
        self.folder.rewind(self.update)

    def _train(self, driver: Driver) -> None:
        title = f"{self.agent_name} on {self.task.name}"
        try:
            with (
                Interrupt() as interrupt,
                ProgressLine(
                    self.console, title, self.config.updates, "updates", self.update
                ) as line,
            ):
                keeper = Keeper(self, line)
                while self.update < self.config.updates:
                    try:
                        metrics = driver.update()
                    except Diverged as error:
                        raise keeper.diverged(str(error)) from error
                    keeper.after(metrics, driver.state_dict, stopping=interrupt.requested)
        except Unfinished:
            saved = [0, *self.folder.checkpoints()]
            raise stopped(saved[-1], self.folder.path) from None
        driver.close()

    def _make_driver(self) -> Driver:
        config = self.config
        if config.compile == "on":
            learn = compiled_learn(self.agent, precision=config.precision)
        else:
            learn = self.agent.compiled(partial(with_products_in, config.precision))
        if self.data is not None:
            return DatasetDriver(self.agent, self.data, config.seed, learn)
        if self.agent.consumes is Trajectories:
            return RolloutDriver(self.agent, self.task, config.seed, learn)
        return ReplayDriver(
            self.agent, self.task, config.seed, self.folder.path,
            updates=config.updates, slack=config.checkpoint_every, learn=learn,
        )  # fmt: skip

    def _open_data(self, agent_class: type[Agent]) -> DataSet | None:
        """The data set; None where the agent gathers its own experience."""
        config = self.config
        online = config.data == "none" or (self.task.data is None and config.data == "auto")
        if online and agent_class.explores:
            return None
        if config.data == "none":
            raise UserError(
                f"--data is none, but {self.agent_name} learns from data alone; leave --data out or "
                "choose an agent that explores, such as sac"
            )
        if agent_class.consumes is Trajectories and agent_class.explores:
            raise UserError(
                f"{self.agent_name} learns from its own steps and takes no data set; give a task "
                "without one, such as --env Pendulum-v1, and leave --data out"
            )
        title = f"making {config.data_size:,} transitions of {self.task.name}"
        with ProgressLine(self.console, title, config.data_size, "transitions") as line:
            return open_data(
                self.task, config.data, size=config.data_size,
                notify=line.say, progress=lambda done, total: line.advance(done),
            )  # fmt: skip

    def description(self) -> dict[str, Any]:
        """What config.json keeps."""
        options = dataclasses.asdict(self.config)
        del options["out"]  # the folder may be moved
        return {
            "agent": {"name": self.agent_name, "settings": dataclasses.asdict(self.settings)},
            "run": options,
            "data": None if self.data is None else self.data.provenance.to_json(),
            "reference_returns": self.task.reference_returns,
            "versions": versions(),
        }


def compiles(config: RunConfig, agent: Agent) -> bool:
    """Whether the run compiles its updates; a UserError where it is told to and cannot."""
    short = config.updates * agent.compiled_steps < COMPILING_PAYS
    if config.compile == "off" or (config.compile == "auto" and short):
        return False
    hindrance = why_not(agent)
    if hindrance and config.compile == "on":
        raise UserError(f"compile is on, but {hindrance}; give --compile off")
    return hindrance is None


def load_run(path: Path, device: str = "cpu") -> tuple[Agent, Task]:
    """The trained agent of a run folder, on any device, and its task.

    >>> agent, task = load_run(Path("runs/bear-halfcheetah-medium-s0"))  # doctest: +SKIP
    """
    folder = RunFolder(path)
    saved = folder.config()
    agent_class = load_agent(saved["agent"]["name"])
    task = find_task(saved["run"]["env"]).drawn(saved["run"]["seed"])
    if saved["data"] is not None:
        task = as_recorded(task, Provenance.from_json(saved["data"]))
    settings = from_json(agent_class.Config, saved["agent"]["settings"], path)
    with named_as_agents(agent_class):
        agent = agent_class(
            settings, Spec.of(task.make()), seed=0, device=compute.resolve_device(device)
        )
    state = folder.load_checkpoint(agent.device)
    if state is None:
        raise UserError(f"{path} has no checkpoint yet; let the run go on for longer")
    # Generators stay as they are: where the run was on another kind of device, its own would not fit.
    generators = {
        name: value.get_state()
        for name, value in vars(agent).items()
        if isinstance(value, Generator)
    }
    with explaining_misfit(path):
        agent.load_state_dict({**state["agent"], **generators})
    return agent, task


def from_json(kind: type[Any], values: Mapping[str, Any], path: Path) -> Any:
    """A frozen settings dataclass from config.json, where tuples became lists.

    Raises:
        UserError: The settings are those of another version.
    """
    try:
        return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
    except TypeError as error:
        raise UserError(
            f"the settings in {path} are not those of this version ({error}); "
            "install the version of rlbench that wrote them"
        ) from None


@contextmanager
def explaining_misfit(path: Path) -> Iterator[None]:
    """Turns the ValueError of a checkpoint that does not fit into a sentence."""
    try:
        yield
    except (ValueError, KeyError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"the checkpoint in {path} belongs to another agent or other settings ({error}); "
            "give the folder it came from"
        ) from None


def new_folder(agent_name: str, config: RunConfig) -> Path:
    """runs/AGENT-TASK-sSEED, numbered if that name is taken."""
    base = folder_name(f"{agent_name}-{config.env}-s{config.seed}")
    if config.seeds > 1:
        base += f"-{config.seed + config.seeds - 1}"
    taken = (Path("runs") / (base if n == 1 else f"{base}-{n}") for n in itertools.count(1))
    return next(path for path in taken if not path.exists())
