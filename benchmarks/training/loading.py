"""Loads the contents of a run folder: settings, trained learners and encoders."""

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor, nn

from rlbench import compute
from rlbench.agents._team import team_of
from rlbench.backbones.encoders import ENCODERS, FROM_RUNS, Encoder
from rlbench.backbones.encoders._base import FromRun
from rlbench.backbones.memories import MEMORIES
from rlbench.backbones.spaces import CHANNELS
from rlbench.benchmarks.training.config import RunConfig
from rlbench.benchmarks.training.evaluation import lifetimes_of
from rlbench.benchmarks.training.faults import named_as_users
from rlbench.benchmarks.training.learners import is_custom, load_learner
from rlbench.benchmarks.training.pretrained import pretrained_folder
from rlbench.benchmarks.training.run_folder import RunFolder
from rlbench.envs.tasks import PARTS, Task, find_task
from rlbench.errors import UserError
from rlbench.interface import Agent, Learner, Model, Spec
from rlbench.meta_learner import MetaLearner
from rlbench.offline_data import Provenance, as_recorded
from rlbench.offline_data.examples import ExampleSet, open_examples
from rlbench.trust import Trust, refuse_untrusted, texts


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
        spec = examples_of_run(path, trust=trust).fields
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
        learner.load_state_dict(with_generators_of(learner, state["learner"]))
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


def with_generators_of(learner: Learner, state: Mapping[str, Any]) -> dict[str, Any]:
    """A saved state with the learner's own generator states: the saved ones do not fit on another kind of device."""
    own = dict(state)
    for name, value in vars(learner).items():
        if isinstance(value, Generator):
            own[name] = value.get_state()
        elif isinstance(value, Learner):
            own[name] = with_generators_of(value, state[name])
    return own


def load_pretrained(learner: Learner, given: str, *, trust: Trust = False) -> dict[str, Any]:
    """Gives a learner the weights of another run: those of its encoder, or all if neither run has an encoder.

    The weights of an encoder go to every encoder of the learner that has the same layers. All weights are the networks, the learned
    tensors and what was taken from the data, such as a scale of rewards; optimisers, counters and random generators begin anew.

    Args:
        learner: A learner that is not trained yet.
        given: The other run; see `pretrained_folder`. The learner's encoder may be `parts`; then the encoders inside it count.
        trust: See `load_run`.

    Returns:
        The origin of the weights, in plain values.

    Raises:
        UserError: Only one of the runs has an encoder, or the weights do not fit.
    """
    path = pretrained_folder(given, learner)
    saved = RunFolder(path).config()
    source, _ = load_run(path, trust=trust)
    mine, theirs = encoders_of(learner), encoders_of(source)
    origin = {
        "run": str(path),
        "learner": saved["learner"],
        "task": saved["run"]["env"],
        "update": RunFolder(path).checkpoints()[-1],
    }
    readers = [x.layers for x in mine if isinstance(x.layers, FromRun)]
    if readers and all(saved["learner"]["name"] in reader.models for reader in readers):
        state = _take_network(readers, source, path)
        return {**origin, "parts": "network", "sha256": weights_hash(state)}
    if not mine and not theirs:
        state = _take_all(learner, source, path)
        return {**origin, "parts": "all", "sha256": weights_hash(state)}
    if not mine or not theirs:
        lacking = type(source).__name__ if mine else type(learner).__name__
        raise UserError(
            f"--pretrained {path}: {lacking} has no encoder with weights; give both runs an encoder, such as "
            "--encoder resnet20"
        )
    state = _weights(theirs[0])
    fitting = [encoder for encoder in mine if _fits(encoder, state)]
    if not fitting:
        raise UserError(
            f"--pretrained {path}: its encoder {saved['learner']['settings'].get('encoder')} differs from "
            "the encoder of this run in its layers or in the observations that it reads; give --encoder the "
            "same name and options, and a task with observations of the same shape"
        )
    for encoder in fitting:
        encoder.load_state_dict(state, strict=False)
    return {**origin, "sha256": weights_hash(state)}


def _take_network(readers: list[FromRun], source: Learner, path: Path) -> dict[str, Tensor]:
    """Gives the networks of encoders the weights of a trained one; returns them by name.

    Raises:
        UserError: The networks differ in the shape of their images, in their layers or in what they keep besides weights.
    """
    shape = _channels_first(source.spec["obs"].shape)
    for reader in readers:
        network, own = reader.network_of(source), reader.trained
        state = _weights(network)
        own_shape = _channels_first(reader.shape)
        if own_shape != shape:
            there, here = ("x".join(map(str, (*x[1:], x[0]))) for x in (shape, own_shape))
            raise UserError(
                f"--pretrained {path}: its network learned from observations of {there} values (rows, columns and channels of images), but "
                f"those of this run are {here}; give a task with observations of that shape"
            )
        if not _fits(own, state) or not _same_constants(own, network):
            name = next(x for x in FROM_RUNS if ENCODERS.load(x).layers is type(reader))
            what, options = reader.fixed
            raise UserError(
                f"--pretrained {path}: the encoder `{name}` of this run has different {what}; give --encoder {name}:{path} without "
                f"options of the network, such as {options}"
            )
        own.load_state_dict(state, strict=False)
    return state


def _channels_first(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of an image with its channels first; any other one as it is."""
    if len(shape) != 3 or shape[0] in CHANNELS:
        return shape
    return (shape[2], *shape[:2])


def _same_constants(one: nn.Module, other: nn.Module) -> bool:
    """Whether the buffers of two networks that are not part of their state, such as default boxes, are the same."""
    kept = [
        {k: x for k, x in network.named_buffers() if k not in network.state_dict()}
        for network in (one, other)
    ]
    return kept[0].keys() == kept[1].keys() and all(
        torch.equal(x, kept[1][k].to(x)) for k, x in kept[0].items()
    )


def _take_all(learner: Learner, source: Learner, path: Path) -> dict[str, Tensor]:
    """Gives a learner everything that another one has learned or taken from its data; returns it by name.

    Raises:
        UserError: The learners differ in their spaces, in their parts or in the shapes of these.
    """
    spaces = "observation_space", "action_space"
    for words in spaces if isinstance(learner, Agent) and isinstance(source, Agent) else ():
        here, there = getattr(learner.spec, words), getattr(source.spec, words)
        if here != there and (words == "action_space" or here.shape != there.shape):
            raise UserError(
                f"--pretrained {path}: its {words.replace('_', ' ')} is {there}, but that of this run is {here}; give a task "
                "with the same spaces"
            )
    own, given = _learned(learner), _learned(source)
    taken = {name: x for name, x in given.items() if name not in learner.unlearned}
    own = {name: x for name, x in own.items() if name not in learner.unlearned}
    try:
        if own.keys() != taken.keys() or not own:
            raise ValueError(f"it has {sorted(taken)}, but this run needs {sorted(own)}")
        for name, part in taken.items():
            if isinstance(part, float):
                setattr(learner, name, part)
            else:
                _copy(own[name], part, name, learner.unlearned)
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"--pretrained {path}: its {type(source).__name__} does not fit the {type(learner).__name__} of this run "
            f"({reason}); give a run of the same agent with the same sizes of networks"
        ) from None
    return {
        f"{name}.{key}": x
        for name, part in taken.items()
        for key, x in (
            part.state_dict() if isinstance(part, nn.Module) else {"": torch.as_tensor(part)}
        ).items()
    }


def _learned(learner: Learner) -> dict[str, Any]:
    """Networks, tensors and real numbers of a learner, by name."""
    return {k: x for k, x in vars(learner).items() if isinstance(x, nn.Module | Tensor | float)}


@torch.no_grad()
def _copy(own: Any, given: Any, name: str, unlearned: Sequence[str]) -> None:
    """Copies the content of a network or tensor to another one, except for its `unlearned` tensors.

    Raises an error if they differ in names or shapes.
    """
    if isinstance(own, nn.Module):
        kept = {k: x for k, x in own.state_dict().items() if f"{name}.{k}" in unlearned}
        own.load_state_dict({**given.state_dict(), **kept})
    else:
        own.copy_(given)


def _weights(network: nn.Module) -> dict[str, Tensor]:
    """Weights and statistics by name, without the counters of batches, which not every batch normalisation has."""
    given = network.state_dict().items()
    return {name: x for name, x in given if not name.endswith("num_batches_tracked")}


def _fits(network: nn.Module, state: Mapping[str, Tensor]) -> bool:
    """Whether weights have the names and shapes of a network's."""
    own = {name: x.shape for name, x in _weights(network).items()}
    return own == {name: x.shape for name, x in state.items()}


def encoders_of(learner: Learner) -> list[Encoder]:
    """All encoders with weights in the networks of a learner, or of the members of a team, each once."""
    parts = vars(learner).values()
    networks = [x for x in parts if isinstance(x, nn.Module)]
    found = {id(x): x for network in networks for x in network.modules() if isinstance(x, Encoder)}
    of_members = [encoder for x in parts if isinstance(x, Learner) for encoder in encoders_of(x)]
    return [encoder for encoder in found.values() if encoder.state_dict()] + of_members


def weights_hash(state: Mapping[str, Tensor]) -> str:
    """SHA-256 of tensors by name."""
    digest = hashlib.sha256()
    for name, value in state.items():
        digest.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


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
