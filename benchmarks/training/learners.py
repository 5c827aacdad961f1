"""Agents and models by name, for every command that runs one; importing this loads no PyTorch."""

from typing import TYPE_CHECKING

from rlbench.agents import AGENTS, META_LEARNERS
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
