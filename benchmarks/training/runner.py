"""The runner: task, experience, learner, driver, evaluations and run folder, in one direction.

config -> task -> (data set | examples | environments) -> learner -> driver -> [update]*N -> evaluate -> run folder
"""

import dataclasses
from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from rich.console import Console

from rlbench import compute
from rlbench.benchmarks.loggers._group import (
    Loggers,
    is_custom as is_custom_logger,
    saved as saved_loggers,
)
from rlbench.benchmarks.training.callbacks import Callbacks
from rlbench.benchmarks.training.choices import (
    compiles,
    learns_from_data,
    new_folder,
    training_lifetimes,
)
from rlbench.benchmarks.training.config import RunConfig
from rlbench.benchmarks.training.driver_table import make_driver
from rlbench.benchmarks.training.drivers import Driver
from rlbench.benchmarks.training.evaluation import Evaluator, evaluators_of, examples_evaluators
from rlbench.benchmarks.training.faults import named_as_users
from rlbench.benchmarks.training.interrupt import Interrupt, Unfinished
from rlbench.benchmarks.training.learners import is_custom, load_learner, without_files
from rlbench.benchmarks.training.loading import (
    explaining_misfit,
    from_json,
    learner_for,
    refuse_foreign_code,
    refuse_other_data,
    task_of,
)
from rlbench.benchmarks.training.logged import points
from rlbench.benchmarks.training.pretrained import load_pretrained
from rlbench.benchmarks.training.progress import ProgressLine
from rlbench.benchmarks.training.recorder import Recorder, resumable, stopped
from rlbench.benchmarks.training.replay import remove_replay
from rlbench.benchmarks.training.run_folder import RunFolder
from rlbench.benchmarks.training.steps import EnvSteps
from rlbench.benchmarks.training.versions import versions
from rlbench.callbacks import Callback
from rlbench.envs.contract import check
from rlbench.envs.tasks import Task, find_task
from rlbench.errors import Diverged, UserError
from rlbench.experience import Lifetimes
from rlbench.interface import Agent, HasSpaces, Model, Spec
from rlbench.meta_learner import MetaLearner
from rlbench.offline_data import DataSet, Provenance, as_recorded, open_data
from rlbench.offline_data.examples import ExampleSet, open_examples
from rlbench.seeding import derive
from rlbench.terminal import Terminal
from rlbench.trust import Trust, refuse_untrusted, texts, with_names


class Run:
    """One run, new or continued. Its parts are created on first use."""

    def __init__(
        self,
        learner_name: str,
        settings: Any,
        config: RunConfig,
        console: Console | None = None,
        *,
        trust: Trust = False,
        callbacks: Sequence[Callback] = (),
    ) -> None:
        """Stores the description of the run; nothing is opened, created or written yet.

        Args:
            learner_name: As in `rlbench list`, or package.module:Class.
            settings: The learner's settings, of its `Config`.
            config: Options of the run.
            console: Progress output.
            trust: Whether custom code that the folder `pretrained` names may be imported, or the names that may;
                the names in the description of the run itself may in any case.
            callbacks: Callbacks in place of those that `config` names.
        """
        self.console = console or Terminal()
        self.loggers = Loggers(config.loggers, partial(self.console.print, soft_wrap=True))
        self.learner_name = learner_name
        self.settings, config = without_files(settings, config)
        self.callbacks = Callbacks(config.callbacks, callbacks)
        self.config = self.callbacks.options(config)
        self.learner_class = learner_for(learner_name, find_task(config.env))
        self.folder = RunFolder(config.out or new_folder(learner_name, config))
        self.until = self.config.updates
        """Update after which the run is saved and stopped; before the last, a resume continues from there."""
        self.began_from: dict[str, Any] | None = None  # From `load_pretrained`.
        self._trust = trust

    @classmethod
    def resume(
        cls,
        path: Path,
        console: Console | None = None,
        *,
        trust: Trust = False,
        callbacks: Sequence[Callback] = (),
    ) -> "Run":
        """The run of a folder, ready to `finish`.

        Args:
            path: The folder.
            console: Progress output.
            trust: Whether custom code that the folder names may be imported, or the names that may.
            callbacks: Objects of the classes of the run's callbacks; by default they are made anew.

        Raises:
            UserError: The folder holds no run or names custom code that is not trusted, or its data are no longer
                available.
        """
        saved = RunFolder(path).config()
        refuse_foreign_code(saved, path, trust)
        name = saved["learner"]["name"]
        settings = from_json(load_learner(name).Config, saved["learner"]["settings"], path)
        config = dataclasses.replace(from_json(RunConfig, saved["run"], path), out=path)
        if (loggers := saved_loggers(path)) is not None:
            config = dataclasses.replace(config, loggers=tuple(loggers))
        custom = [x for x in config.loggers if is_custom_logger(x)]
        refuse_untrusted([*custom, *(() if callbacks else config.callbacks)], path, trust)
        run = cls(name, settings, config, console, trust=trust, callbacks=callbacks)
        run.callbacks.refuse_others(saved, path)
        run.began_from = saved.get("pretrained")
        if run.provenance is not None:
            refuse_other_data(run.provenance, saved, path)
        return run

    @cached_property
    def data(self) -> DataSet | None:
        """The data set; None for a model, and for an agent that learns only from experience that it gathers."""
        alone = self.gathers and not self.config.data_share
        if alone or not issubclass(self.learner_class, Agent):
            return None
        found = self._named
        self.world  # noqa: B018  (A faulty environment is refused before data are made for it.)
        size = self.config.data_size
        title = f"making {found.name}"
        with ProgressLine(self.console, title, size, "transitions") as line:
            return open_data(
                found, self.config.data, size=size,
                notify=line.say, progress=lambda done, total: line.advance(done),
            )  # fmt: skip

    @cached_property
    def gathers(self) -> bool:
        """Whether the learner is an agent that gathers its own experience."""
        name, kind = self.learner_name, self.learner_class
        if not issubclass(kind, Agent):
            return False
        return not learns_from_data(name, kind, self.config, self._named)

    @cached_property
    def env_steps(self) -> EnvSteps | None:
        """Environment steps by updates; None for a learner that takes none."""
        with named_as_users(self.learner_class):
            return EnvSteps.of(self.learner) if self.gathers else None

    @cached_property
    def examples(self) -> ExampleSet | None:
        """The labelled examples on the device; None for an agent."""
        if not issubclass(self.learner_class, Model):
            return None
        if self.config.data != RunConfig.data:
            raise UserError(
                f"--data is {self.config.data}, but {self.learner_name} learns from the examples of its task; "
                "leave --data out and give them as --env"
            )
        say = partial(self.console.print, soft_wrap=True)
        found = open_examples(self.task, self.config.data_size, self.config.seed, say)
        return found.to(compute.resolve_device(self.config.device))

    @cached_property
    def lifetimes(self) -> Lifetimes | None:
        """The lifetimes that a meta-learner trains in; None for other learners."""
        if not issubclass(self.learner_class, MetaLearner):
            return None
        if self.config.data != RunConfig.data:
            raise UserError(
                f"--data is {self.config.data}, but {self.learner_name} learns in lifetimes; leave --data out"
            )
        return training_lifetimes(self.task, self.settings, self.config)

    @property
    def trust_option(self) -> str:
        """The option that commands on the folder of the run need; empty if it names no custom code."""
        return " --trust" if is_custom(self.learner_name) or self._named.imports else ""

    @property
    def resume_option(self) -> str:
        """The option that resuming the run needs, which also imports its callbacks and loggers."""
        custom = self.config.callbacks or any(map(is_custom_logger, self.config.loggers))
        return " --trust" if custom else self.trust_option

    @property
    def provenance(self) -> Provenance | None:
        """Where the data or examples come from; None if there are none."""
        found = self.data or self.examples
        return None if found is None else found.provenance

    @cached_property
    def _named(self) -> Task:
        """The task of the name that the user gave, as the learner sees it."""
        return task_of(self.config.env, self.learner_class, self.settings)

    @cached_property
    def task(self) -> Task:
        """The task, with the environment that the data were recorded on."""
        found = self._named
        return found if self.data is None else as_recorded(found, self.data.provenance)

    @cached_property
    def learner(self) -> Any:
        """The initial learner; a continued run restores it later."""
        config = self.config
        compute.configure(config.threads, config.device)
        device, spec = compute.resolve_device(config.device), self._spec()
        seed = derive(config.seed, "agent")
        with named_as_users(self.learner_class):
            learner = self.learner_class(self.settings, spec, seed=seed, device=device)
            compiled = compiles(config, learner)
        if config.pretrained is not None and not self.folder.checkpoints():
            before = self.began_from
            own = (self.learner_name, config.env, *texts(dataclasses.asdict(self.settings)))
            trust = with_names(self._trust, own)
            self.began_from = load_pretrained(learner, config.pretrained, trust=trust)
            if before is not None and before["sha256"] != self.began_from["sha256"]:
                raise UserError(
                    f"the weights of {config.pretrained} have changed since {self.folder.path} began; "
                    "restore that run or start a new one"
                )
        self.config = dataclasses.replace(config, compile="on" if compiled else "off")
        return learner

    @cached_property
    def world(self) -> HasSpaces:
        """The spaces of the task's environment, which was checked in a few steps and closed."""
        return check(self._named.make, self._named.name)

    def _spec(self) -> Any:
        """The learner's `spec`: what it must know of the task."""
        if self.examples is not None:
            return self.examples.fields
        if self.lifetimes is not None:
            return self.lifetimes.spec
        spec = Spec.of(self.world)
        if self.data is None:
            return spec
        device = compute.resolve_device(self.config.device)
        mean, std = self.data.obs_mean.to(device), self.data.obs_std.to(device)
        if not self.data.layout.images:
            spec = dataclasses.replace(spec, obs_mean=mean, obs_std=std)
        return dataclasses.replace(spec, return_range=self.data.return_range)

    def start(self) -> None:
        """Starts a new run, from its first update to its last."""
        description = self.description()  # Creates the parts before anything is written.
        # Drivers refuse batches larger than the number of examples, and replay buffers larger than the disk. A model's driver
        # is made before the folder exists; an agent's needs the folder, because it may write there.
        driver = None if self.examples is None else self.make_driver()
        with self.folder.locked(), named_as_users(self.learner_class), self.loggers:
            self.folder.refuse_other_run()
            driver = driver or self.make_driver()
            self.begin(description)
            if self.env_steps is not None:
                self.console.print(self.env_steps.length(self.config.updates), soft_wrap=True)
            with resumable([self.folder], self.folder.path, self.resume_option):
                self._train(driver)

    def begin(self, description: Mapping[str, Any]) -> None:
        """Opens the loggers and starts the folder; `description` is the content of its config.json."""
        self.loggers.open(self.folder.path, description)
        self.folder.start(description)

    def finish(self) -> int:
        """Runs the remaining updates of a stopped run; returns their number."""
        learner = self.learner
        with self.folder.locked(), named_as_users(self.learner_class), self.loggers:
            state = self.folder.load_checkpoint(learner.device)
            if self.folder.complete():  # A kill may have left what only a resume needs.
                self.folder.remove_checkpoints()
                remove_replay(self.folder.path)
                self.continue_logs(self.folder.checkpoints()[-1])
                return 0
            self.begin_again()
            driver = self.make_driver()
            first = self.go_back(state, driver)
            with (
                resumable([self.folder], self.folder.path, self.resume_option),
                named_as_users(self.learner_class),
            ):
                return self._train(driver, first)

    def begin_again(self) -> None:
        """Brings the folder to the present format, and says what an earlier version did not protect."""
        if self.folder.lacks_hashes():
            self.console.print(
                f"note: an earlier version began {self.folder.path} and did not hash all of its files, so some "
                "changes to them are not noticed", soft_wrap=True,
            )  # fmt: skip
        self.folder.upgrade()

    def go_back(self, state: dict[str, Any] | None, driver: Driver) -> int:
        """Restores learner, driver and folder from a checkpoint, or from the start; returns its update."""
        update = 0 if state is None else int(state["update"])
        if state is not None:
            self._name_changed_files(state)
            with explaining_misfit(self.folder.path):
                self.learner.load_state_dict(state["learner"])
                driver.load_state_dict(state["driver"])
                if self.callbacks:
                    self.callbacks.load_state_dict(state["callbacks"])
        self.folder.rewind(update)
        self.continue_logs(update)
        return update

    def continue_logs(self, update: int) -> None:
        """Opens the loggers of a run that continues after an update, and gives them all points, of which they may lack some."""
        self.loggers.open(self.folder.path, self.folder.config(), update)
        for at, values in points(self.folder, self.task):
            self.loggers.add(at, values, None if self.env_steps is None else self.env_steps.at(at))

    def _name_changed_files(self, state: Mapping[str, Any]) -> None:
        """Refuses changed settings, and reports other changes, which have no effect on learning."""
        for name in self.folder.changed_files(state):
            what = f"{self.folder.path / name} was changed after the checkpoint of update {state['update']:,}"
            if name == "config.json":
                raise UserError(f"{what}; restore it to resume the run, or start a new one")
            self.console.print(f"note: {what}", soft_wrap=True)

    def _train(self, driver: Driver, first: int = 0) -> int:
        """Runs the updates after `first`; returns their number."""
        updates, update, ended = self.config.updates, first, False
        title = f"{self.learner_name} on {self.task.name}"
        try:
            with (
                Interrupt() as interrupt,
                ProgressLine(
                    self.console, title, updates, "updates", first, self.env_steps
                ) as line,
            ):
                recorder = self.recorder(line, first)
                for update in range(first + 1, self.until + 1):
                    try:
                        metrics = driver.update()
                    except Diverged as error:
                        raise recorder.diverged(str(error)) from error
                    asked = interrupt.requested
                    if ended := recorder.after(update, metrics, driver.state_dict, stopping=asked):
                        break
        except Unfinished:
            saved = [0, *self.folder.checkpoints()]
            raise stopped(saved[-1], self.folder.path, self.resume_option) from None
        if ended or self.until == updates:
            driver.close()
        return update - first

    def recorder(self, line: ProgressLine, first: int = 0) -> Recorder:
        """The recorder of the run, from update `first` on."""
        evaluators: Sequence[Evaluator]
        if self.examples is not None:
            evaluators = examples_evaluators(self.examples.test, self.examples.train)
        else:
            evaluators = evaluators_of(self.learner, self.task, self.config.eval_episodes)
        return Recorder(
            self.config, self.learner, self.task, self.folder, evaluators, line, self.loggers,
            self.callbacks, first, self.resume_option, self.env_steps, self.until,
        )  # fmt: skip

    def make_driver(self) -> Driver:
        """The driver, chosen by what the learner consumes and what the task offers."""
        return make_driver(self)

    def description(self) -> dict[str, Any]:
        """The contents of config.json."""
        # First, because the making of the learner decides whether its updates are compiled.
        measures = [dataclasses.asdict(measure) for measure in self.learner.measures]
        options = dataclasses.asdict(self.config)
        del options["out"]  # The folder may be moved.
        del options["loggers"]  # They decide nothing; see `loggers.json`.
        return {
            "learner": {"name": self.learner_name, "settings": dataclasses.asdict(self.settings)},
            "run": options,
            "data": None if self.provenance is None else self.provenance.to_json(),
            "reference_returns": self.task.reference_returns,
            "measures": measures,
            "env_steps": None if self.env_steps is None else dataclasses.asdict(self.env_steps),
            "pretrained": self.began_from,
            "learner_changed_by": self.callbacks.changing,
            "versions": versions(),
        }
