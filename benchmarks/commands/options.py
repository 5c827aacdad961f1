"""The options of `rlbench run LEARNER` and `rlbench tune LEARNER`, in the groups of their help. Standard library and tyro only."""

import ast
import inspect
import textwrap
from collections.abc import Mapping
from dataclasses import MISSING, field, fields, make_dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import tyro

from rlbench.backbones.ranges import ranges_of
from rlbench.benchmarks.training.config import RunConfig
from rlbench.errors import UserError
from rlbench.trust import TrustOption

ENCODER = ("encoder", "freeze", "pretrained", "memory", "memory_size")
"""Options of the third group, whether they belong to the run or to the learner."""
StepsOption = Annotated[
    int | None,
    tyro.conf.arg(
        help="Length of the run in environment steps, summed over parallel environments, instead of --updates; for agents "
        "that gather their own experience. It is rounded up to whole updates."
    ),
]
"""The option `--steps` of every command that begins runs."""
SettingsOption = Annotated[
    Path | None,
    tyro.conf.arg(
        help="JSON file with settings of the learner, such as the best.json of `rlbench tune`; settings on the command line take "
        "precedence over it."
    ),
]
STUDY = "study"
"""Title of the group of `rlbench tune`."""
ABOUT = "How observations become features; `rlbench list` shows the names."


def options(
    learner: str, defaults: Mapping[str, Any], settings: Any, study: type[Any] | None = None
) -> type[Any]:
    """A dataclass with a dataclass for each group; the names of its fields are the titles in the help.

    Args:
        learner: Name of the learner.
        defaults: The learner's own defaults for a run.
        settings: The learner's settings without any options on the command line.
        study: Dataclass with the options of a study, which come first and replace options of a run with the same names.

    Raises:
        UserError: A setting of the learner has the name of an option of a run.
    """
    reserved = {"steps", "trust", "settings", *(x.name for x in fields(RunConfig))}
    for name in reserved.intersection(x.name for x in fields(settings)):
        raise UserError(
            f"{learner} has a setting {name!r}, which is an option of every run; give the setting another name"
        )
    chosen = {x.name: getattr(settings, x.name) for x in fields(settings)}
    own = "".join(c if c.isalnum() else "_" for c in learner)
    groups: dict[str, list[Any]] = {"run": [], own: [], "encoder": []}
    for title, kind, values in (("run", RunConfig, defaults), (own, type(settings), chosen)):
        meanings, types = _help(kind), get_type_hints(kind, include_extras=True)
        for each in filter(lambda x: x.init, fields(kind)):
            known = Annotated.__class_getitem__(  # type: ignore[attr-defined]
                (types[each.name], tyro.conf.arg(help=meanings.get(each.name)))
            )
            default = values.get(each.name, each.default)
            how = field() if default is MISSING else field(default_factory=partial(_same, default))
            groups["encoder" if each.name in ENCODER else title].append((each.name, known, how))
    after_updates = 1 + [name for name, *_ in groups["run"]].index("updates")
    groups["run"].insert(after_updates, ("steps", StepsOption, field(default=None)))
    groups["run"].append(("trust", TrustOption, field(default=False)))
    groups["run"].append(("settings", SettingsOption, field(default=None)))
    groups["encoder"].sort(key=lambda row: ENCODER.index(row[0]))
    taken = {x.name for x in fields(study)} if study else set()
    groups["run"] = [row for row in groups["run"] if row[0] not in taken]
    about = {"run": RunConfig.__doc__, own: type(settings).__doc__, "encoder": ABOUT}
    made = [
        (title, make_dataclass(title, rows, kw_only=True, namespace={"__doc__": about[title]}))
        for title, rows in groups.items()
        if rows
    ]
    return make_dataclass("Options", [(STUDY, study), *made] if study else made)


def _same(value: Any) -> Any:
    return value


def separate(parsed: Any, settings: type[Any]) -> tuple[RunConfig, Any, int | None, bool]:
    """Splits the parsed options into the run's options, the learner's settings, `--steps`, and whether folders are trusted."""
    values: dict[str, Any] = {}
    for group in fields(parsed):
        if group.name != STUDY:
            values |= vars(getattr(parsed, group.name))
    run = {x.name: values.pop(x.name) for x in fields(RunConfig) if x.name in values}
    steps, trust, _ = values.pop("steps"), values.pop("trust"), values.pop("settings")
    return RunConfig(**run), settings(**values), steps, trust


def _help(kind: type[Any]) -> dict[str, str]:
    """The docstring under each field, and its range."""
    ranges = ranges_of(kind)
    return {
        name: f"{text} Range: {ranges[name].words}." if name in ranges else text
        for name, text in field_docs(kind).items()
    }


def field_docs(config: type) -> dict[str, str]:
    """The docstring under each field; a subclass that only changes a default inherits it."""
    found: dict[str, str] = {}
    for owner in reversed(config.__mro__[:-1]):
        try:
            source = textwrap.dedent(inspect.getsource(owner))
        except (OSError, TypeError):  # For example, the class was typed into a console.
            continue
        body = ast.parse(source).body[0].body  # type: ignore[attr-defined]
        for here, following in zip(body, [*body[1:], None], strict=True):
            match here, following:
                case ast.AnnAssign(target=ast.Name(name)), ast.Expr(ast.Constant(str(text))):
                    found[name] = " ".join(text.split())
    return found
