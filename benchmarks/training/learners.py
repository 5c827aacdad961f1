"""Agents and models by name, for every command that runs one; importing this loads no PyTorch."""

import dataclasses
from typing import TYPE_CHECKING, Any

from rlbench.agents import AGENTS, META_LEARNERS
from rlbench.backbones.encoders import spelled_out
from rlbench.backbones.models import MODELS
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


def without_files(settings: Any) -> Any:
    """The settings of a learner with its encoder's architecture in place of the file that holds it.

    Raises:
        UserError: There is no such file, or it holds no architecture.
    """
    encoder = getattr(settings, "encoder", None)
    if not isinstance(encoder, str) or spelled_out(encoder) == encoder:
        return settings
    return dataclasses.replace(settings, encoder=spelled_out(encoder))
