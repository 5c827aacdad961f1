"""The command `analyse`: runs an analysis of finished runs."""

from collections.abc import Sequence
from dataclasses import MISSING, field, fields, make_dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import tyro

from rlbench.backbones.analyses import ANALYSES, load_analysis
from rlbench.benchmarks.commands.options import field_docs
from rlbench.benchmarks.training.analysing import AnalysisJob, perform
from rlbench.errors import UserError
from rlbench.terminal import Terminal, say
from rlbench.trust import TrustOption


def overview(words: Sequence[str]) -> None:
    """Prints the names of all analyses for `--help`; otherwise reports that an analysis is missing."""
    if not words or words[0] not in ("-h", "--help"):
        raise UserError(f"give an analysis first: rlbench analyse {'|'.join(sorted(ANALYSES))}")
    say("usage: rlbench analyse ANALYSIS RUN ...\n")
    width = max(map(len, ANALYSES))
    for name, line in sorted(ANALYSES.items()):
        say(f"  {name:<{width}}  {line}")


def options(name: str) -> tuple[type[Any], str]:
    """The options of an analysis as a dataclass, and its description in one line."""
    kind = load_analysis(name)
    meanings = field_docs(kind.Config)
    rows: list[Any] = [
        ("runs", Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(help=f"Folders: {'; '.join(kind.runs)}.")]),
    ]  # fmt: skip
    for each in fields(kind.Config):
        how = (
            field(default=each.default)
            if each.default is not MISSING
            else field(default_factory=each.default_factory)
        )
        known = Annotated.__class_getitem__(  # type: ignore[attr-defined]
            (each.type, tyro.conf.arg(help=meanings.get(each.name)))
        )
        rows.append((each.name, known, how))
    where = Annotated[Path | None, tyro.conf.arg(help="Folder to write to; by default `analyses/NAME` in the first run, with a number after the name if results of other settings are there.")]  # fmt: skip
    rows.append(("out", where, field(default=None)))
    rows.append(("trust", TrustOption, field(default=False)))
    line = ANALYSES.get(name) or (kind.__doc__ or "").strip().partition("\n")[0]
    return make_dataclass("Options", rows, kw_only=True), line


def make(name: str, asked: Any) -> None:
    """Runs the analysis and prints its main results."""
    kind = load_analysis(name)
    settings = {each.name: getattr(asked, each.name) for each in fields(kind.Config)}
    kind.Config(**settings)  # Refuses wrong settings before a run is loaded.
    job = AnalysisJob(name, settings, tuple(asked.runs), asked.out)
    progress = Terminal(stderr=True)
    found = perform(job, trust=asked.trust, say=partial(progress.print, soft_wrap=True))
    folder = job.folder
    width = max(map(len, found.numbers), default=0)
    for label, value in found.numbers.items():
        say(f"{label:<{width}}  {value:.4g}")
    say(f"kept in {folder}")
