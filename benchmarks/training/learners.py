"""Agents and models by name, for every command that runs one; importing this loads no PyTorch."""

import dataclasses
from typing import TYPE_CHECKING, Any

from rlbench.agents import AGENTS, META_LEARNERS
from rlbench.backbones.encoders import spelled_out
from rlbench.backbones.models import MODELS
from rlbench.benchmarks.training.config import RunConfig
from rlbench.errors import UserError

if TYPE_CHECKING:
    from rlbench.interface import Learner


def load_learner(name: str) -> "type[Learner]":
    """The class of an agent or model.

    Args:
        name: As in `rlbench list`, or `package.module:Class`.

    Raises:
        UserError: There is no such learner, or it cannot be imported.
    """
    from rlbench.custom import checked_class
    from rlbench.interface import Learner, MetaLearner, Model

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
    """The settings of a learner and the options of its run with an encoder that reads no file; see `encoder_and_run`.

    Raises:
        UserError: The encoder's file or run cannot be read, or the weights would come from two runs.
    """
    encoder = getattr(settings, "encoder", None)
    if not isinstance(encoder, str):
        return settings, config
    name, run = encoder_and_run(encoder)
    if run is not None and config.pretrained not in (None, run):
        raise UserError(
            f"--pretrained {config.pretrained}: the encoder {encoder} takes its weights from {run}; leave --pretrained out"
        )
    if run is not None:
        config = dataclasses.replace(config, pretrained=run)
    return (settings if name == encoder else dataclasses.replace(settings, encoder=name)), config


def encoder_and_run(encoder: str) -> tuple[str, str | None]:
    """An encoder's name that reads no file, and the run from which its weights come, if there is one.

    `objects:RUN` becomes `objects` with the settings of the SSD that the folder RUN holds; for others see `spelled_out`.

    Raises:
        UserError: The file or run cannot be read.
    """
    base, _, given = encoder.partition(":")
    run, comma, others = given.partition(",")
    if base != "objects" or not run or "=" in run:
        return spelled_out(encoder), None
    from rlbench.benchmarks.training.pretrained import detector_options

    return f"{base}:{detector_options(run)}{comma}{others}", run
