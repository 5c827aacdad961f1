"""Checks whether classes that a user named are complete learners."""

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, TypeVar

from rlbench.errors import UserError
from rlbench.experience import Examples, Lifetimes, Trajectories, Transitions
from rlbench.interface import Agent, Learner, MetaLearner, Model
from rlbench.measures import Measure

L = TypeVar("L", bound=Learner)
KINDS: Mapping[type[Learner], str] = {Agent: "agent", Model: "model", MetaLearner: "meta-learner"}  # type: ignore[type-abstract]
"""What each kind of learner is called."""
NEEDED: Mapping[type[Learner], Mapping[str, str]] = {
    Model: {"batch_size": "examples in an update"},  # type: ignore[type-abstract]
    MetaLearner: {
        "lifetimes": "agents that learn at once",
        "workers": "environments of each agent",
    },  # type: ignore[type-abstract]
}
"""Settings that a driver reads, and what each of them counts."""


def checked_class(found: Any, base: type[L], name: str) -> type[L]:
    """Returns a class that a user named if it is a complete learner.

    Args:
        found: The object that the name refers to.
        base: `Agent`, `Model` or `MetaLearner`, or `Learner` for any of them.
        name: The name as the user wrote it.

    Raises:
        UserError: It is not a learner of this kind, or is incomplete.
    """
    bases = {kind: title for kind, title in KINDS.items() if issubclass(kind, base)}
    for kind, title in bases.items():
        if isinstance(found, type) and issubclass(found, kind):
            if missing := _lacking(found):
                raise UserError(
                    f"{title} {name!r}: the class {found.__name__} {missing}; see "
                    f"rlbench.interface.{kind.__name__}"
                )
            return found
    raise UserError(
        f"{_either(list(bases.values()))} {name!r}: it is not a subclass of rlbench.interface."
        f"{_either([kind.__name__ for kind in bases])}; expected package.module:Class"
    )


def _either(words: list[str]) -> str:
    """Words as in "a, b or c"."""
    *others, last = words
    return f"{', '.join(others)} or {last}" if others else last


def _lacking(found: type[Learner]) -> str:
    """Describes what a class lacks to be a learner; empty if it is one."""
    config = getattr(found, "Config", None)
    if not (isinstance(config, type) and is_dataclass(config)):
        return f"has the Config {config}, expected a frozen dataclass of its settings"
    bare = [
        field.name
        for field in fields(config)
        if field.init and field.default is MISSING and field.default_factory is MISSING
    ]
    for kind, needed in NEEDED.items():
        for setting, meaning in needed.items():
            if issubclass(found, kind) and setting not in {field.name for field in fields(config)}:
                return f"has a Config without {setting}, so give it one: the number of {meaning}"
    if bare:
        return f"has a Config without a default for {', '.join(bare)}, so give one to every setting"
    consumes = getattr(found, "consumes", None)
    known: tuple[type, ...] = (Transitions, Trajectories)
    if not issubclass(found, Agent):
        known = (Examples,) if issubclass(found, Model) else (Lifetimes,)
    if consumes not in known:
        names = " or ".join(x.__name__ for x in known)
        return f"has consumes = {consumes}, expected {names}"
    measures = getattr(found, "measures", ())
    if not (
        isinstance(measures, tuple) and measures and all(isinstance(x, Measure) for x in measures)
    ):
        return (
            f"has measures = {measures}, expected a tuple of one or more rlbench.measures.Measure"
        )
    if len({x.name for x in measures}) < len(measures):
        return "has two measures with the same name, so give them different names"
    methods = set(found.__abstractmethods__)
    if found.build is Learner.build and found.__init__ in (
        Agent.__init__,
        Model.__init__,
        MetaLearner.__init__,
    ):
        methods.add("build")
    if issubclass(found, Agent) and found.act is Agent.act and found.decide is Learner.decide:
        methods.add("decide")
    return f"has no method {' and '.join(sorted(methods))}" if methods else ""
