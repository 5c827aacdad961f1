"""Loads the contents of a run folder: settings and trained learners."""

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Generator
from torch.optim import Optimizer

from rlbench import compute
from rlbench.agents._team import team_of
from rlbench.backbones.encoders import ENCODERS
from rlbench.backbones.memories import MEMORIES
from rlbench.backbones.optim import SGD, Adam
from rlbench.benchmarks.training.config import RunConfig
from rlbench.benchmarks.training.evaluation import lifetimes_of
from rlbench.benchmarks.training.faults import named_as_users
from rlbench.benchmarks.training.learners import is_custom, load_learner
from rlbench.benchmarks.training.run_folder import RunFolder
from rlbench.envs.tasks import PARTS, Task, find_task
from rlbench.errors import UserError
from rlbench.interface import Agent, Learner, Model, Spec
from rlbench.meta_learner import MetaLearner
from rlbench.offline_data import Provenance, as_recorded
from rlbench.offline_data.examples import ExampleSet, fields_of, open_examples
from rlbench.trust import Trust, refuse_untrusted, texts

OPTIMISERS = (Optimizer, Adam, SGD)
WEIGHTS_ONLY = "weights_only"
"""Entry of checkpoints without optimisers and random generators, from which no run can be resumed."""


def task_of(name: str, learner: type[Learner], settings: Any) -> Task:
    """The task of a name, with the observations that a learner with these settings needs.

    Raises:
        UserError: There is no such task, or it lacks the observations that the agent needs.
    """
    task = find_task(name)
    view = learner.view(settings) if issubclass(learner, Agent) else None
    if view is None or (view == PARTS and view not in task.views):
        return task
    if view not in task.views:
        raise UserError(
            f"{learner.__name__} needs observations of the kind {view!r}, which {name} does not have; give a "
            "multi-agent game, such as --env stag-hunt"
        )
    return task.views[view]


def load_run(path: Path, device: str = "cpu", *, trust: Trust = False) -> tuple[Any, Task]:
    """The trained learner of a run folder, on any device, and its task.

    >>> agent, task = load_run(Path("runs/bear-halfcheetah-medium-s0"))  # doctest: +SKIP

    Args:
        path: The folder.
        device: Where the learner computes.
        trust: Whether custom code that the folder names may be imported, or the names that may.

    Raises:
        UserError: The folder has no checkpoint, is damaged, or names custom code that is not trusted.
    """
    folder = RunFolder(path)
    saved = folder.config()
    refuse_foreign_code(saved, path, trust)
    config = dataclasses.replace(from_json(RunConfig, saved["run"], path), device=device, out=path)
    name = saved["learner"]["name"]
    learner_class = learner_for(name, find_task(config.env))
    settings = from_json(learner_class.Config, saved["learner"]["settings"], path)
    task = task_of(config.env, learner_class, settings)
    if saved["data"] is not None:
        task = as_recorded(task, Provenance.from_json(saved["data"]))
    spec: Any
    if issubclass(learner_class, Model):
        spec = fields_of(task)
    elif issubclass(learner_class, MetaLearner):
        on = compute.resolve_device(device)
        spec = lifetimes_of(task, settings, settings.lifetimes, config.seed, on).spec
    else:
        env = task.make()
        spec = Spec.of(env)
        env.close()
    with named_as_users(learner_class):
        learner = learner_class(settings, spec, seed=0, device=compute.resolve_device(device))
    state = folder.load_checkpoint(learner.device)
    if state is None:
        raise UserError(f"{path} has no checkpoint yet; let the run continue for longer")
    with explaining_misfit(path):
        learner.load_state_dict(
            loadable_state(learner, state["learner"], weights_only=WEIGHTS_ONLY in state)
        )
    return learner, task


def refuse_foreign_code(saved: Mapping[str, Any], path: Path, trust: Trust) -> None:
    """Refuses a config.json that names custom code which is not trusted, before any of it is imported.

    Raises:
        UserError: Its learner, its task or one of its settings is such code.
    """
    name, run = saved["learner"]["name"], saved["run"]
    imported = find_task(run["env"]).imports
    found = [name] if is_custom(name) else []
    refuse_untrusted(found + ([] if imported is None else [imported]), path, trust)
    kind = load_learner(name)
    with named_as_users(kind):
        usual = [field.default for field in dataclasses.fields(kind.Config)]
        own = texts([*usual, kind.preset(run["env"], run["updates"])])
    # A learner may import what a setting names, such as a memory. Encoders and memories have options after the colon.
    given = sorted(texts(saved["learner"]["settings"]) - own)
    names = [x for x in given if ":" in x and x.partition(":")[0] not in {*ENCODERS, *MEMORIES}]
    refuse_untrusted(names, path, trust)


def learner_for(name: str, task: Task) -> type[Learner]:
    """The class of a learner for a task; for a team task, the class of a team of such learners.

    Raises:
        UserError: There is no such learner, or it cannot be in a team.
    """
    found = load_learner(name)
    return found if task.team is None else team_of(found, name, task.team)


def loadable_state(
    learner: Learner, state: Mapping[str, Any], *, weights_only: bool = False
) -> dict[str, Any]:
    """A saved state in which the states of random generators are the learner's own, because saved ones do not fit on another kind of device.

    Args:
        learner: A learner that is not trained yet.
        state: The saved state.
        weights_only: Whether it is from `weights_of`; then the states of optimisers are the learner's own too.
    """
    found, own = dict(state), learner.state_dict()
    for name, value in vars(learner).items():
        if isinstance(value, Generator) or (weights_only and isinstance(value, OPTIMISERS)):
            found[name] = own[name]
        elif isinstance(value, Learner):
            found[name] = loadable_state(value, state[name], weights_only=weights_only)
    return found


def weights_of(learner: Learner) -> dict[str, Any]:
    """The state of a learner without its optimisers and random generators."""
    parts = vars(learner)
    return {
        name: weights_of(part) if isinstance(part := parts.get(name), Learner) else x
        for name, x in learner.state_dict().items()
        if not isinstance(parts.get(name), (Generator, *OPTIMISERS))
    }


def examples_of_run(path: Path, *, trust: Trust = False) -> ExampleSet:
    """The examples that the model of a run folder learned from and is measured on; see `load_run`.

    Raises:
        UserError: The examples have changed, or the folder names custom code that is not trusted.
    """
    saved = RunFolder(path).config()
    refuse_foreign_code(saved, path, trust)
    config = from_json(RunConfig, saved["run"], path)
    found = open_examples(find_task(config.env), config.data_size, config.seed)
    refuse_other_data(found.provenance, saved, path)
    return found


def refuse_other_data(found: Provenance, saved: Mapping[str, Any], path: Path) -> None:
    """Refuses data or examples that differ from those with which the run of a config.json began."""
    if saved["data"] is None or found.sha256 != saved["data"]["sha256"]:
        raise UserError(
            f"the data of {saved['run']['env']} differ from those with which {path} began; "
            "restore them or start a new run"
        )


def load_agent_run(path: Path, device: str = "cpu", *, trust: Trust = False) -> tuple[Agent, Task]:
    """The trained agent of a run folder, and its task; see `load_run`.

    Raises:
        UserError: It is the run of a learner that does not act.
    """
    learner, task = load_run(path, device, trust=trust)
    return refuse_other_than_agents(learner, path), task


def refuse_other_than_agents(learner: Learner, path: Path) -> Agent:
    """Returns the learner of a run folder if it is an agent.

    Raises:
        UserError: The learner does not act.
    """
    if not isinstance(learner, Agent):
        raise UserError(
            f"{path} is the run of a learner that does not act; give the run of an agent"
        )
    return learner


def from_json(kind: type[Any], values: Mapping[str, Any], path: Path) -> Any:
    """A frozen settings dataclass from config.json, where tuples became lists.

    Raises:
        UserError: The settings belong to another version.
    """
    try:
        return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
    except TypeError as error:
        raise UserError(
            f"the settings in {path} do not fit this version ({error}); "
            "install the version of rlbench that wrote them"
        ) from None


@contextmanager
def explaining_misfit(path: Path) -> Iterator[None]:
    """Converts the ValueError of a checkpoint that does not fit to a UserError."""
    try:
        yield
    except (ValueError, KeyError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"the checkpoint in {path} belongs to another learner or other settings ({error}); "
            "give the folder it came from"
        ) from None
