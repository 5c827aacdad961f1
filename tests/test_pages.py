"""The generated pages of agents and models are up to date, and their commands run."""

import re
from pathlib import Path

import pytest

from docs.make_curves import SEEDS, command, kept_curves
from docs.make_pages import DOCS, RENEW, pages
from rlbench.cli import main

PAGES = sorted((DOCS / "agents").glob("*.md"))
PICTURES = sorted((DOCS / "agents").glob("*.svg"))


def test_the_pages_are_up_to_date() -> None:
    made = pages()
    single = (DOCS / f"{name}.md" for name in ("agents", "commands", "claims", "zoo"))
    committed = {file: file.read_text() for file in (*single, *PAGES, *PICTURES)}
    stale = sorted(
        x.name for x in made.keys() | committed.keys() if made.get(x) != committed.get(x)
    )
    assert not stale, f"{', '.join(stale)}: run `{RENEW}` and commit the pages"


def test_every_page_has_a_learning_curve_of_its_command() -> None:
    kept = kept_curves()
    missing = sorted({page.stem for page in PAGES} ^ kept.keys())
    assert not missing, f"run `python -m docs.make_curves {' '.join(missing)}`"
    for name, curve in kept.items():
        assert curve["command"] == command(name), f"run `python -m docs.make_curves {name}`"
        assert list(curve["seeds"]) == [str(seed) for seed in SEEDS]
        for run in curve["seeds"].values():
            assert len(run["updates"]) == len(run["values"]) > 3
    assert {picture.stem for picture in PICTURES} == kept.keys()
    assert all(picture.stat().st_size < 30_000 for picture in PICTURES)


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_command_of_a_page_runs(page: Path, in_folder: Path) -> None:
    command = re.search(r"^rlbench (run .+)$", page.read_text(), re.MULTILINE)
    assert command
    assert main(command[1].split()) == 0
