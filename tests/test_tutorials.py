"""The tutorials work as printed: their files and commands run in their order, in one folder."""

import re
from pathlib import Path

import pytest

from tests.test_readme import ROOT, run

PAGES = sorted((ROOT / "docs" / "tutorials").glob("*.md"))
BLOCK = re.compile(r"^```(\w+)\n(?:# (\w+\.\w+)\n)?(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_tutorial_is_short_and_every_block_is_a_file_or_commands(page: Path) -> None:
    text = page.read_text()
    assert 60 <= len(text.splitlines()) <= 120
    blocks = BLOCK.findall(text)
    assert len(blocks) == text.count("\n```") / 2
    for language, file, _ in blocks:
        assert language == "bash" or file.endswith({"python": ".py", "toml": ".toml"}[language])


def test_each_tutorial_leads_to_the_next() -> None:
    page, seen = PAGES[0].parent / "offline.md", []
    while page not in seen:
        seen.append(page)
        following = re.search(r"Next:\s\[[^\]]*\]\((\w+\.md)\)", page.read_text())
        page = page.parent / following[1] if following else page
    assert sorted(seen) == PAGES


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_tutorial_runs(page: Path, tmp_path: Path) -> None:
    for language, file, text in BLOCK.findall(page.read_text()):
        if language == "bash":
            for line in text.splitlines():
                # As on the page, but the package goes into the folder and not into the environment.
                inside = "pip install --no-deps --no-build-isolation --target . ."
                run(inside if line == "pip install ." else line, tmp_path)
        else:
            (tmp_path / file).write_text(text)
