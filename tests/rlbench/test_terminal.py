"""Text of others on a terminal and in tables."""

import csv
import io

import pytest
from rich.table import Table

from rlbench.benchmarks.tables import sheet
from rlbench.benchmarks.tables.sheet import Section
from rlbench.terminal import Terminal, printable

FOREIGN = ["[/red]", "[bold]run[/]", "a:smile:b", "\x1b[2Jgone", "\x07", "\u202eevil"]


@pytest.mark.parametrize("text", FOREIGN)
def test_text_is_shown_as_it_is_and_controls_nothing(text: str) -> None:
    out = io.StringIO()
    console = Terminal(file=out, width=60, force_terminal=True)
    table = Table(box=None)
    table.add_column(text)
    table.add_row(text)
    console.print(text, table)
    assert out.getvalue().count(printable(text)) == 3
    assert not {"\x07", "\u202e"} & set(out.getvalue())
    assert "\x1b[2J" not in out.getvalue()


def test_a_console_shows_every_character_on_every_stream() -> None:
    """Runs that a program starts have no command line that prepares the streams."""
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    console = Terminal(file=stream, width=60)
    console.print("5 ± 1")
    stream.write("漢")
    stream.flush()
    assert raw.getvalue() == b"5 \\xb1 1\n\\u6f22"


def test_control_characters_become_escape_sequences() -> None:
    assert printable("a\tb\nc ü 漢\x1b\x00\x9b") == "a\tb\nc ü 漢\\x1b\\x00\\x9b"


@pytest.mark.parametrize("form", ["terminal", "md", "csv", "latex"])
def test_tables_in_all_formats_control_no_terminal(form: sheet.Format) -> None:
    made = sheet.render([Section("\x1b]t", ["\x1bh"], [["\x1bc"]], ["\x1bn"])], form)
    assert "\x1b" not in made


def test_a_spreadsheet_computes_no_cell() -> None:
    cells = ["=1+1", "@x", "+cmd", "-cmd", "-0.5 ± 1", "+3", "-", "x=1"]
    made = sheet.render([Section("t", ["h"] * len(cells), [cells])], "csv")
    *_, row = csv.reader(io.StringIO(made))
    assert row[1:] == ["'=1+1", "'@x", "'+cmd", "'-cmd", "-0.5 ± 1", "+3", "-", "x=1"]
