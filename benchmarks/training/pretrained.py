"""Weights of another run, with which a run begins.

`--pretrained` names the run by its folder or by the file of `rlbench analyse transfers`, `--encoder objects:RUN`, `keypoints:RUN`, `codes:RUN` or
`classes:RUN` by the folder of a trained network. A folder may also be `zoo:NAME`.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from rlbench.backbones.encoders import ENCODERS, FROM_RUNS, Encoder
from rlbench.backbones.encoders._base import FromRun
from rlbench.backbones.encoders.painter import Painter
from rlbench.backbones.models.pretext import Pretext
from rlbench.backbones.spaces import CHANNELS, PAIR
from rlbench.benchmarks.training.learners import ENCODER_SETTINGS
from rlbench.benchmarks.training.loading import load_run
from rlbench.benchmarks.training.run_folder import RunFolder
from rlbench.errors import UserError
from rlbench.interface import Agent, Learner
from rlbench.packed import Packed
from rlbench.trust import Trust

AUTO, TARGET = "auto:", ",target="
USUAL = "return"
"""Target of a learner that is not a run of `pretext`, such as an agent."""


def load_pretrained(learner: Learner, given: str, *, trust: Trust = False) -> dict[str, Any]:
    """Loads weights of another run into a learner: those of the encoder, or all of them if neither run has an encoder.

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
        _refuse_other_values(learner, source, path)
        state = _take_network(readers, source, path)
        return {**origin, "parts": "network", "sha256": weights_hash(state)}
    if not mine and not theirs:
        state = _take_all(learner, source, path)
        return {**origin, "parts": "all", "sha256": weights_hash(state)}
    if not mine or not theirs:
        lacking = type(source).__name__ if mine else type(learner).__name__
        reader = next((x for x in FROM_RUNS if _reads(x, saved["learner"]["name"])), None)
        advice = f"--encoder {reader}:{path}, if this run is to read images with it" if reader else (
            "both runs an encoder, such as --encoder resnet20"
        )  # fmt: skip
        raise UserError(
            f"--pretrained {path}: {lacking} has no encoder with weights; give {advice}"
        )
    state = _weights(theirs[0])
    fitting = [encoder for encoder in mine if _fits(encoder, state)]
    if not fitting:
        what, advice = f"encoder {saved['learner']['settings'].get('encoder')}", (
            f"{_encoder_flags(learner)} the same name and options"
        )  # fmt: skip
        if isinstance(theirs[0], Painter):
            what, advice = "style network", (
                "style-ppo the number of styles, width and blocks of that run (--styles, --painter-width, --painter-blocks)"
            )  # fmt: skip
        raise UserError(
            f"--pretrained {path}: its {what} differs from the encoders of this run in its layers or in the observations that it reads; "
            f"give {advice}, and a task with observations of the same shape"
        )
    for encoder in fitting:
        encoder.load_state_dict(state, strict=False)
    return {**origin, "sha256": weights_hash(state)}


def _reads(encoder: str, model: str) -> bool:
    """Whether an encoder of `FROM_RUNS` reads observations through the network of a model."""
    models: tuple[str, ...] = ENCODERS.load(encoder).layers.models
    return model in models


def _encoder_flags(learner: Learner) -> str:
    """The options of a learner that name encoders, such as `--encoder`."""
    own = [name for name in ENCODER_SETTINGS if hasattr(learner.config, name)]
    return " or ".join(f"--{name.replace('_', '-')}" for name in own or ENCODER_SETTINGS[:1])


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
                f"the network of {path} learned from observations of {there} values (rows, columns and channels of images), but "
                f"those of this run are {here}; give a task with observations of that shape"
            )
        if not _fits(own, state) or not _same_constants(own, network):
            name = next(x for x in FROM_RUNS if ENCODERS.load(x).layers is type(reader))
            what, options = reader.fixed
            raise UserError(
                f"the encoder `{name}` of this run differs from the network of {path} in its {what}; give --encoder {name}:{path} without "
                f"options of the network, such as {options}"
            )
        own.load_state_dict(state, strict=False)
    return state


def _refuse_other_values(learner: Learner, source: Learner, path: Path) -> None:
    """Refuses images of real numbers, such as those from 0 to 1, for a network that learned from bytes.

    Raises:
        UserError: The learner observes images of real numbers whose range is not 0 to 255.
    """
    if source.spec["obs"].dtype != np.uint8:
        return
    space = learner.spec.observation_space if isinstance(learner, Agent) else learner.spec["obs"]
    for part in space.parts.values() if isinstance(space, Packed) else (space,):
        if not isinstance(part, spaces.Box) or len(part.shape) != 3:
            continue
        low, high = float(part.low.min()), float(part.high.max())
        if np.issubdtype(part.dtype, np.floating) and (low, high) != (0, 255):
            raise UserError(
                f"the network of {path} learned from bytes, but the images of this run are real numbers from {low:g} to "
                f"{high:g}; let the environment return uint8 images"
            )


def _channels_first(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of an image with its channels first; any other one as it is."""
    if len(shape) != 3 or shape[0] in (*CHANNELS, PAIR):
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


def pretrained_folder(given: str, learner: Learner) -> Path:
    """The folder of the run.

    Args:
        given: A folder, or `auto:FILE` or `auto:FILE,target=NAME` with the transfers.json of an analysis.
        learner: The learner that is initialised. Without NAME the target is the objective of a `Pretext`, and `return` for every other learner.

    Raises:
        UserError: The file cannot be read, or has no such target.
    """
    if not given.startswith(AUTO):
        return Path(given)
    file, _, named = given.removeprefix(AUTO).partition(TARGET)
    target = named or (learner.config.objective if isinstance(learner, Pretext) else USUAL)
    try:
        runs = {
            name: str(x["run"])
            for name, x in json.loads(Path(file).read_bytes())["targets"].items()
        }
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise UserError(
            f"--pretrained {given}: the file cannot be read ({error}); give the transfers.json of `rlbench analyse transfers`"
        ) from error
    if target not in runs:
        raise UserError(
            f"--pretrained {given}: the file serves {', '.join(runs)}, but not {target}; give auto:{file},target=NAME with one of them"
        )
    return Path(runs[target])
