"""Sections of a table in several text formats."""

import csv
import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from rlbench.terminal import printable

Format = Literal["terminal", "md", "csv", "json", "latex"]


@dataclass(frozen=True)
class Section:
    """A table of text with a title, and sentences below it."""

    title: str
    header: list[str]
    rows: list[list[str]]
    notes: list[str] = field(default_factory=list)
    best: list[tuple[int, int]] = field(default_factory=list)
    """Row and column of the best values, which LaTeX and HTML mark."""


def render(sections: Sequence[Section], form: Format) -> str:
    """All sections as one text, without a final newline."""
    if form == "json":  # It has escape sequences of its own.
        return json.dumps([vars(section) for section in sections], indent=1, ensure_ascii=False)
    write = {"terminal": _terminal, "md": _markdown, "csv": _csv, "latex": _latex}[form]
    return "\n\n".join(write(_printable(section)).rstrip("\n") for section in sections)


def _printable(section: Section) -> Section:
    rows = [[printable(cell) for cell in row] for row in section.rows]
    notes = [printable(note) for note in section.notes]
    return Section(
        printable(section.title), [*map(printable, section.header)], rows, notes, section.best
    )


def _terminal(section: Section) -> str:
    from rich.table import Table

    from rlbench.terminal import Terminal

    out = io.StringIO()
    # Lines fit a terminal's width; in a file or pipe they may have any length.
    terminal = Terminal()
    width = terminal.width if terminal.is_terminal else 10_000
    console = Terminal(file=out, width=width)
    console.print(section.title, style="bold")
    if section.rows:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for title in section.header:
            table.add_column(title, overflow="fold")
        for row in section.rows:
            table.add_row(*row)
        console.print(table)
    for note in section.notes:
        console.print(note)
    return out.getvalue()


def _markdown(section: Section) -> str:
    lines = [f"### {section.title}", ""]
    if section.rows:
        rule = ["---"] * len(section.header)
        for row in (section.header, rule, *section.rows):
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |")
        lines.append("")
    return "\n".join([*lines, *section.notes])


def _csv(section: Section) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    if section.rows:
        rows = [["section", *section.header], *([section.title, *row] for row in section.rows)]
        writer.writerows([[_no_formula(cell) for cell in row] for row in rows])
    return out.getvalue()


def _no_formula(cell: str) -> str:
    """The cell with an apostrophe before it if a spreadsheet would compute it."""
    return f"'{cell}" if re.match(r"[=@\t]|[-+][^\d.]", cell) else cell


_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "±": r"$\pm$", ">": r"$>$", "<": r"$<$",
}  # fmt: skip


def _latex(section: Section) -> str:
    def escaped(text: str) -> str:
        return "".join(_LATEX.get(character, character) for character in text)

    lines = [f"% {section.title}"]
    if section.rows:
        rows = [[escaped(cell) for cell in row] for row in (section.header, *section.rows)]
        for row, column in section.best:
            rows[1 + row][column] = rf"\textbf{{{rows[1 + row][column]}}}"
        header, *body = [" & ".join(row) + r" \\" for row in rows]
        lines += [r"% \usepackage{booktabs}", rf"\begin{{tabular}}{{{'l' * len(section.header)}}}"]
        lines += [r"\toprule", header, r"\midrule", *body, r"\bottomrule", r"\end{tabular}"]
    return "\n".join([*lines, *(f"% {note}" for note in section.notes)])
