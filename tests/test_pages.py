"""The generated pages of agents and models are up to date, and their commands run."""

import re
from pathlib import Path

import pytest

from docs.make_pages import DOCS, RENEW, pages
from rlbench.cli import main

PAGES = sorted((DOCS / "agents").glob("*.md"))


def test_the_pages_are_up_to_date() -> None:
    made = pages()
    committed = {file: file.read_text() for file in (DOCS / "agents.md", *PAGES)}
    stale = sorted(
        x.name for x in made.keys() | committed.keys() if made.get(x) != committed.get(x)
    )
    assert not stale, f"{', '.join(stale)}: run `{RENEW}` and commit the pages"


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_command_of_a_page_runs(page: Path, in_folder: Path) -> None:
    command = re.search(r"^rlbench (run .+)$", page.read_text(), re.MULTILINE)
    assert command
    assert main(command[1].split()) == 0
