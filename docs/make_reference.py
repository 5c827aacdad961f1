"""The text of two generated pages: docs/commands.md, from the settings, and docs/claims.md, from the pages of papers.

`python -m docs.make_pages` writes them with all other generated pages.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

import tyro

from rlbench.backbones.analyses import ANALYSES
from rlbench.benchmarks.commands import analyse
from rlbench.benchmarks.commands.data import COMMANDS as DATA
from rlbench.benchmarks.commands.options import field_docs, options
from rlbench.benchmarks.commands.zoo import COMMANDS as ZOO
from rlbench.benchmarks.papers import PAPERS, load_paper
from rlbench.benchmarks.training.learners import load_learner
from rlbench.benchmarks.tuning.tune import TuneConfig
from rlbench.cli import HELP, IMPORTED, Resume

DOCS = Path(__file__).parent
BAR = r"\|"  # A bar inside a cell of a Markdown table.
EXAMPLE = "recurrent-ppo"
"""A learner with an encoder and a memory, so that its help has every option of `rlbench run` that several learners have."""
VERDICTS = ("holds", "does not hold", "reported", "not run")


def commands() -> str:
    """The page of all commands and their options."""
    run, _, encoder = get_type_hints(options(EXAMPLE, {}, load_learner(EXAMPLE).Config())).values()
    parts = [
        _command("rlbench run LEARNER", run.__doc__, run),
        f"{encoder.__doc__} Only learners with an encoder or a memory have these options:\n",
        _options(encoder),
        "Every setting of a learner is an option too; they are on the page of [each learner](agents.md).\n",
        _command("rlbench run --resume RUN", Resume.__doc__, Resume),
    ]
    for name, (module, settings, _) in IMPORTED.items():
        kind = getattr(import_module(f"rlbench.benchmarks.{module}"), settings)
        parts.append(_command(f"rlbench {name}", kind.__doc__, kind))
    parts += [
        _command("rlbench tune LEARNER", TuneConfig.__doc__, TuneConfig),
        "The options of `rlbench run LEARNER` set what is the same in all trials.\n",
    ]
    parts.append("## rlbench analyse\n\n[Analyses](analyses.md) shows how to read the results.\n")
    for name in sorted(ANALYSES):
        kind, line = analyse.options(name)
        about = f"{line[0].upper()}{line[1:]}."
        parts.append(f"#{_command(f'rlbench analyse {name}', about, kind)}")
    parts.append("## rlbench data\n\n[Offline data](data.md) describes the data sets.\n")
    for name, (kind, _) in DATA.items():
        parts.append(f"#{_command(f'rlbench data {name}', kind.__doc__, kind)}")
    parts.append("## rlbench zoo\n\n[Trained agents and models](zoo.md) shows how to use them.\n")
    for name, (kind, _) in ZOO.items():
        parts.append(f"#{_command(f'rlbench zoo {name}', kind.__doc__, kind)}")
    parts.append("## rlbench list\n\nList agents, update rules, models, encoders and tasks.\n")
    return f"""# Commands

Every command with its options, their defaults and their meanings, as `--help` shows them. An option without a default
must be given; words in capitals are given without a name. An option that is `True` or `False` takes no value: `--trust` switches it
on and `--no-trust` off.

```text
{HELP}
```

{chr(10).join(parts)}"""


def _command(title: str, about: str | None, kind: type[Any]) -> str:
    """The section of one command."""
    return f"## {title}\n\n{about}\n\n{_options(kind)}"


def _options(kind: type[Any]) -> str:
    """A table with a row for each option; empty without options."""
    rows = [
        f"| `{name}` | {default} | {text.replace('|', BAR)} |"
        for name, default, text in _rows(kind)
    ]
    return (
        "\n".join(["| option | default | meaning |", "| --- | --- | --- |", *rows, ""])
        if rows
        else ""
    )


def _rows(kind: type[Any]) -> Iterator[tuple[str, str, str]]:
    """Name, default and meaning of each option of a dataclass, and of the dataclasses inside it."""
    types, meanings = get_type_hints(kind, include_extras=True), field_docs(kind)
    for field in fields(kind):
        extras: tuple[Any, ...] = ()
        plain = types[field.name]
        if get_origin(plain) is Annotated:
            plain, *more = get_args(plain)
            extras = tuple(more)
        if is_dataclass(plain):
            yield from _rows(plain)  # type: ignore[arg-type]
            continue
        helps = [text for extra in extras if (text := getattr(extra, "help", None))]
        meaning = helps[0] if helps else meanings.get(field.name, "")
        if get_origin(plain) is Literal:
            meaning += f" One of {', '.join(f'`{x}`' for x in get_args(plain))}."
        positional = tyro.conf.Positional in extras
        name = field.name.upper() if positional else f"--{field.name.replace('_', '-')}"
        yield name, _default(field), meaning


def _default(field: "Field[Any]") -> str:
    """A default as it is written on the command line; empty if the option must be given."""
    value = field.default if field.default_factory is MISSING else field.default_factory()
    if value is MISSING:
        return ""
    words = " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return f"`{words}`" if words else "none"


class Row(NamedTuple):
    """One claim as a page shows it."""

    text: str
    criterion: str
    verdict: str


def claims() -> str:
    """The page of all claims of all papers."""
    sections, counts = [], Counter[str]()
    for name in PAPERS:
        paper = load_paper(name)
        shown, place = _shown(name)
        rows = []
        for claim in paper.claims:
            row = shown.get(claim.name) or Row(claim.text, claim.criterion, "not run")
            counts[row.verdict] += 1
            rows.append(
                f"| {claim.name} | {row.verdict} | {_cell(row.text)} | {_cell(row.criterion)} |"
            )
        if rows:
            head = ["| name | verdict | claim | criterion |", "| --- | --- | --- | --- |"]
            about = f"[{place[0]}]({place[1]})" if place else paper.title
            sections.append(
                "\n".join(
                    [f"## {name}", "", f"{about}: `rlbench table {name}`", "", *head, *rows, ""]
                )
            )
    total = " | ".join(str(counts[verdict]) for verdict in VERDICTS)
    return f"""# What holds and what does not

Every claim of every paper that `rlbench table` can check, with the criterion that was fixed for it and the verdict of the runs that
the linked page describes.

| {" | ".join(VERDICTS)} | all |
|{" --- |" * (len(VERDICTS) + 1)}
| {total} | {counts.total()} |

"Holds" means that our runs meet the criterion, at the scale and on the tasks that the linked page names; it does not mean that the
paper's own figures were reached. "Reported" claims have no criterion and count neither for nor against a paper. "Not run" means that no
verdict is on the page yet.

{chr(10).join(sections)}"""


def _cell(text: str) -> str:
    """A text of a paper's module as a cell of a table."""
    return text if BAR in text else text.replace("|", BAR)


def _shown(name: str) -> tuple[dict[str, Row], tuple[str, str] | None]:
    """The claims that a page shows for a paper, by name, and the title and the address of this page; None if there is none."""
    page = DOCS / "papers" / f"{name}.md"
    if page.exists():
        text = page.read_text(encoding="utf-8")
        return _table(text), (text.partition("\n")[0].removeprefix("# "), f"papers/{page.name}")
    # Papers without a page have a section of the results instead.
    for section in re.split(
        r"^(?=## )", (DOCS / "results.md").read_text(encoding="utf-8"), flags=re.MULTILINE
    ):
        if f"`rlbench table {name} " in section and (rows := _table(section)):
            title = section.partition("\n")[0].removeprefix("## ")
            anchor = re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")
            return rows, (title, f"results.md#{anchor}")
    return {}, None


def _table(text: str) -> dict[str, Row]:
    """The rows of the first table of claims in a text."""
    found = re.search(r"^(\| claim \|.*)\n\|[-| ]+\n((?:\|.*\n?)+)", text, re.MULTILINE)
    if not found:
        return {}
    columns = _cells(found[1])
    rows = [dict(zip(columns, _cells(line), strict=True)) for line in found[2].splitlines()]
    claims = {
        row["claim"]: Row(
            row.get("the paper says") or row["statement"],
            row["criterion"],
            row.get("verdict", "not run"),
        )
        for row in rows
    }
    for name, claim in claims.items():
        if claim.verdict not in VERDICTS:
            raise ValueError(
                f"the verdict of {name} is {claim.verdict!r}; write one of {', '.join(VERDICTS)}"
            )
    return claims


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
