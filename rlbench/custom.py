"""Checks whether classes that a user named are complete learners."""

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from inspect import signature
from typing import Any, TypeVar

from rlbench.errors import UserError
from rlbench.experience import Examples, Lifetimes, Trajectories, Transitions
from rlbench.interface import Agent, Learner, Model
from rlbench.measures import Measure
from rlbench.meta_learner import MetaLearner

L = TypeVar("L", bound=Learner)
KINDS: Mapping[type[Learner], str] = {Agent: "agent", Model: "model", MetaLearner: "meta-learner"}  # type: ignore[type-abstract]
"""What each kind of learner is called."""
CALLS: Mapping[str, tuple[int, tuple[str, ...], str]] = {
    "learn": (1, (), "experience"),
    "act": (1, ("explore", "state"), "obs, *, explore=False, state=None"),
    "decide": (1, (), "obs, noise=None"),
    "explore": (1, (), "obs"),
    "measure": (1, (), "examples"),
}
"""Methods that the suite calls: the number of arguments by position, the names of the others, and both in words."""


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
                    f"{title} {name!r}: the class {found.__name__} {'; it '.join(missing)}; see "
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


def _lacking(found: type[Learner]) -> list[str]:
    """Describes everything that a class lacks to be a learner; empty if it is one."""
    methods = set(found.__abstractmethods__)
    if found.build is Learner.build and found.__init__ in (
        Agent.__init__,
        Model.__init__,
        MetaLearner.__init__,
    ):
        methods.add("build")
    if issubclass(found, Agent) and found.act is Agent.act and found.decide is Learner.decide:
        methods.add("decide")
    lacking = [f"has no method {' and '.join(sorted(methods))}"] if methods else []
    lacking += [
        f"has a method {name} that takes {signature(getattr(found, name))}, expected (self, {words})"
        for name, (count, names, words) in CALLS.items()
        if name not in methods and not _takes(getattr(found, name, None), count, names)
    ]
    consumes = getattr(found, "consumes", None)
    known: tuple[type, ...] = (Transitions, Trajectories)
    if not issubclass(found, Agent):
        known = (Examples,) if issubclass(found, Model) else (Lifetimes,)
    if consumes not in known:
        names = " or ".join(x.__name__ for x in known)
        lacking.append(f"has consumes = {consumes}, expected {names}")
    lacking += _lacking_settings(found)
    measures = getattr(found, "measures", ())
    if not (
        isinstance(measures, tuple) and measures and all(isinstance(x, Measure) for x in measures)
    ):
        lacking.append(
            f"has measures = {measures}, expected a tuple of one or more rlbench.measures.Measure"
        )
    elif len({x.name for x in measures}) < len(measures):
        lacking.append("has two measures with the same name, so give them different names")
    return lacking


def _takes(method: Any, count: int, names: tuple[str, ...]) -> bool:
    """Whether a method, if there is one, can be called with a number of arguments and others by name."""
    if method is None:
        return True
    try:
        signature(method).bind(None, *range(count), **dict.fromkeys(names))
    except TypeError:
        return False
    return True


def _lacking_settings(found: type[Learner]) -> list[str]:
    """Describes what the Config of a class lacks."""
    config = getattr(found, "Config", None)
    if not (isinstance(config, type) and is_dataclass(config)):
        return [f"has the Config {config}, expected a frozen dataclass of its settings"]
    lacking = []
    known = {field.name for field in fields(config)} | set(dir(config))
    if missing := {name: text for name, text in needed(found).items() if name not in known}:
        each = "one" if len(missing) == 1 else "each of them"
        meanings = ", ".join(f"{name} is the number of {text}" for name, text in missing.items())
        lacking.append(
            f"has a Config without {' and '.join(missing)}, so give it {each} ({meanings})"
        )
    bare = [
        field.name
        for field in fields(config)
        if field.init and field.default is MISSING and field.default_factory is MISSING
    ]
    if bare:
        lacking.append(
            f"has a Config without a default for {', '.join(bare)}, so give one to every setting"
        )
    return lacking


def needed(found: type[Learner]) -> dict[str, str]:
    """The settings of a learner that its driver reads, and what each of them counts."""
    if issubclass(found, Model):
        return {"batch_size": "examples in an update"}
    if issubclass(found, MetaLearner):
        return {"lifetimes": "agents that learn at once", "workers": "environments of each agent"}
    explores = getattr(found, "explores", False)
    consumes = getattr(found, "consumes", None)
    if consumes is Trajectories and explores:
        steps = {"rollout_steps": "steps in each of them before an update"}
        own = found.rollout_steps is not Agent.rollout_steps  # type: ignore[attr-defined]
        return {"envs": "environments"} | ({} if own else steps)
    if consumes is Trajectories:
        return {
            "batch_size": "stretches of episodes in an update",
            "sequence_length": "steps of a stretch",
        }
    replay = {
        "random_steps": "random steps before the first update",
        "replay_size": "transitions in the replay buffer",
    }
    return {"batch_size": "transitions in an update"} | (replay if explores else {})
