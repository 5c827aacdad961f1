"""Agents and models by name, for every command that runs one; importing this loads no PyTorch."""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlbench.agents import AGENTS, META_LEARNERS
from rlbench.backbones.encoders import ENCODERS, FROM_RUNS, spelled_out
from rlbench.backbones.models import MODELS
from rlbench.benchmarks.training.config import RunConfig
from rlbench.errors import UserError

if TYPE_CHECKING:
    from rlbench.backbones.encoders._base import FromRun
    from rlbench.interface import Learner


ENCODER_SETTINGS = "encoder", "bonus_encoder", "reward_encoder", "tokens"
"""Settings of the suite's learners that name an encoder."""


def load_learner(name: str) -> "type[Learner]":
    """The class of an agent or model.

    Args:
        name: As in `rlbench list`, or `package.module:Class`.

    Raises:
        UserError: There is no such learner, or it cannot be imported.
    """
    from rlbench.custom import checked_class
    from rlbench.interface import Learner, Model
    from rlbench.meta_learner import MetaLearner

    if name in MODELS:
        return checked_class(MODELS.load(name), Model, name)  # type: ignore[type-abstract]
    if name in META_LEARNERS:
        return checked_class(META_LEARNERS.load(name), MetaLearner, name)  # type: ignore[type-abstract]
    if name not in AGENTS and ":" not in name:
        raise UserError(AGENTS.unknown(name, [*META_LEARNERS, *MODELS]))
    return checked_class(AGENTS.load(name), Learner, name)  # type: ignore[type-abstract]


def is_custom(name: str) -> bool:
    """Whether a learner is custom code: neither part of the suite nor registered by an installed package."""
    return ":" in name and not any(name in table for table in (AGENTS, META_LEARNERS, MODELS))


def without_files(settings: Any, config: RunConfig) -> tuple[Any, RunConfig]:
    """The settings of a learner and the options of its run with encoders that read no file; see `encoder_and_run`.

    Raises:
        UserError: The encoder's file or run cannot be read, or the weights would come from two runs.
    """
    own = {name: getattr(settings, name, None) for name in ENCODER_SETTINGS}
    changed, run = changes_without_files(own, config.pretrained)
    if changed:
        settings = dataclasses.replace(settings, **changed)
    return settings, dataclasses.replace(config, pretrained=run)


def changes_without_files(
    settings: Mapping[str, Any], pretrained: str | None
) -> tuple[dict[str, str], str | None]:
    """New values of the settings that name encoders, which read no file, and the run from which weights come.

    Args:
        settings: Settings of a learner by name.
        pretrained: The run from which weights would come without the encoders.

    Raises:
        UserError: An encoder's file or run cannot be read, or the weights would come from two runs.
    """
    changed = {}
    for setting in ENCODER_SETTINGS:
        if not isinstance(encoder := settings.get(setting), str):
            continue
        changed[setting], run = encoder_and_run(encoder)
        if run is not None and pretrained not in (None, run):
            raise UserError(
                f"the encoder {encoder} takes its weights from {run}, but --pretrained or another encoder names {pretrained}; "
                "leave --pretrained out, and give encoders the same run"
            )
        pretrained = run or pretrained
    return changed, pretrained


def encoder_and_run(encoder: str) -> tuple[str, str | None]:
    """An encoder's name that reads no file, and the run from which its weights come, if there is one.

    `objects:RUN` becomes `objects` with the settings of the SSD that the folder RUN holds, and likewise for the others of `FROM_RUNS`; for
    all others see `spelled_out`.

    Raises:
        UserError: The file or run cannot be read.
    """
    base, colon, given = encoder.partition(":")
    if base in FROM_RUNS and colon and not given:
        raise UserError(
            f"the encoder {encoder} names no run after its colon; give {base}:RUN with the folder of a run"
        )
    words = given.split(",")
    # The name of a folder may have commas and equals signs.
    folders = [n for n in range(len(words), 0, -1) if os.path.isdir(",".join(words[:n]))]
    length = folders[0] if folders else 1
    run, others = ",".join(words[:length]), words[length:]
    if base not in FROM_RUNS or not run or ("=" in run and not folders):
        return spelled_out(encoder), None
    return f"{base}:{','.join([detector_options(base, run), *others])}", run


def detector_options(encoder: str, run: str) -> str:
    """The options of an encoder for the network that a run trained.

    Args:
        encoder: One of `FROM_RUNS`.
        run: The folder of a run of the encoder's model.

    Raises:
        UserError: It is not such a run, or has no checkpoint.
    """
    from rlbench.benchmarks.training.run_folder import RunFolder

    layers: type[FromRun] = ENCODERS.load(encoder).layers
    folder = RunFolder(Path(run))
    learner = folder.config()["learner"]
    if learner["name"] not in layers.models:
        raise UserError(
            f"{encoder}:{run}: this is a run of {learner['name']}, which has no {encoder}; give a run of {' or '.join(layers.models)}"
        )
    state = folder.load_checkpoint()
    if state is None:
        raise UserError(
            f"{encoder}:{run}: this run has no checkpoint yet; let it continue for longer"
        )
    options = layers.options_of(learner["settings"], state["learner"])
    return ",".join(f"{name}={value}" for name, value in options.items())
