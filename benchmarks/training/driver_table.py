"""The driver of a run, from one table: by what its learner consumes and what its task offers."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol

from rlbench.accelerate.compile import compiled_learn
from rlbench.accelerate.precision import with_products_in
from rlbench.benchmarks.training.config import RunConfig
from rlbench.benchmarks.training.drivers import (
    DatasetDriver,
    Driver,
    ExamplesDriver,
    LifetimesDriver,
    ReplayDriver,
)
from rlbench.benchmarks.training.rollouts import RolloutDriver
from rlbench.benchmarks.training.run_folder import RunFolder
from rlbench.envs.tasks import Task
from rlbench.experience import Examples, Lifetimes, Trajectories, Transitions
from rlbench.interface import Learn
from rlbench.offline_data import DataSet
from rlbench.offline_data.examples import ExampleSet


class _Run(Protocol):
    """What drivers are made from; see the attributes of `Run` with the same names."""

    @property
    def config(self) -> RunConfig: ...
    @property
    def learner_class(self) -> Any: ...
    @property
    def learner(self) -> Any: ...
    @property
    def task(self) -> Task: ...
    @property
    def folder(self) -> RunFolder: ...
    @property
    def began_from(self) -> dict[str, Any] | None: ...
    @property
    def gathers(self) -> bool: ...
    @property
    def data(self) -> DataSet | None: ...
    @property
    def examples(self) -> ExampleSet | None: ...
    @property
    def lifetimes(self) -> Any: ...


def make_driver(run: _Run) -> Driver:
    """The driver of a run, which calls the learner's update as it is, compiled or in another precision."""
    config, learner = run.config, run.learner
    if config.compile == "on":
        learn = compiled_learn(learner, precision=config.precision)
    else:
        learn = learner.compiled(partial(with_products_in, config.precision))
    sources = {"examples": run.examples, "lifetimes": run.lifetimes, "data": run.data}
    given = () if run.gathers else sources.items()
    offered = next((name for name, x in given if x is not None), "episodes")
    return DRIVERS[run.learner_class.consumes, offered](run, learn)


def _dataset_driver(run: _Run, learn: Learn) -> Driver:
    assert run.data is not None
    return DatasetDriver(run.learner, run.data, run.config.seed, learn)


def _examples_driver(run: _Run, learn: Learn) -> Driver:
    assert run.examples is not None
    return ExamplesDriver(run.learner, run.examples.train, run.config.seed, learn)


def _replay_driver(run: _Run, learn: Learn) -> Driver:
    return ReplayDriver(
        run.learner, run.task, run.config.seed, run.folder.path,
        updates=run.config.updates, slack=run.config.checkpoint_every, learn=learn,
        trained="parts" in (run.began_from or {}), data=run.data, share=run.config.data_share,
    )  # fmt: skip


def _rollout_driver(run: _Run, learn: Learn) -> Driver:
    return RolloutDriver(run.learner, run.task, run.config.seed, learn)


def _lifetimes_driver(run: _Run, learn: Learn) -> Driver:
    assert run.lifetimes is not None
    return LifetimesDriver(run.lifetimes, learn)


DRIVERS: Mapping[tuple[type[Any], str], Callable[[_Run, Learn], Driver]] = {
    (Transitions, "data"): _dataset_driver,
    (Trajectories, "data"): _dataset_driver,
    (Transitions, "episodes"): _replay_driver,
    (Trajectories, "episodes"): _rollout_driver,
    (Examples, "examples"): _examples_driver,
    (Lifetimes, "lifetimes"): _lifetimes_driver,
}
"""Experience that a learner consumes, and its source, to the driver that feeds it."""
