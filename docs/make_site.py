"""Builds the documentation site in build/site/, with the extra `docs`.

    python -m docs.make_site

It collects the pages of docs/ and those of `docs.site_pages` in build/pages/ and lets Zensical build them with the settings of
mkdocs.yml. Links to files outside docs/ lead to pages with their text. The site opens from its folder, without a server, and loads
nothing from elsewhere.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from docs.site_pages import ROOT, reference, source, start
from rlbench.agents import AGENTS, META_LEARNERS
from rlbench.backbones.models import MODELS

DOCS, BUILD = ROOT / "docs", ROOT / "build"
PAGES, SITE = BUILD / "pages", BUILD / "site"
TABLES = {"AGENTS": {**AGENTS, **META_LEARNERS}, "MODELS": MODELS}
"""Names in the navigation that stand for the pages of all learners of a table."""
SHIM = "https://unpkg.com/iframe-worker/shim"
"""What Zensical's plugin `offline` loads to search without a server; docs/site/ has a copy."""


def collect() -> None:
    """Writes all pages, with their links, and the settings to build/."""
    shutil.rmtree(PAGES, ignore_errors=True)
    shutil.copytree(DOCS, PAGES, ignore=shutil.ignore_patterns("*.py", "*.md", "__pycache__"))
    texts = {
        f"docs/{page.relative_to(DOCS)}": page.read_text("utf-8") for page in DOCS.rglob("*.md")
    }
    texts |= {
        name: (ROOT / name).read_text("utf-8") for name in ("CHANGELOG.md", "CONTRIBUTING.md")
    }
    made = start() | reference()
    linked: set[Path] = set()
    for name, text in texts.items():
        made[str(place(name))] = relinked(text, name, linked)
    for name in start():
        made[name] = relinked(made[name], "README.md", linked)
    made |= {str(place(str(file.relative_to(ROOT)))): source(file) for file in linked}
    for name, text in made.items():
        page = PAGES / name
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(text, encoding="utf-8")
    (BUILD / "mkdocs.yml").write_text(settings(), encoding="utf-8")


def place(name: str, anchor: str = "") -> PurePosixPath:
    """Where the site has a file of the repository, relative to the site's root."""
    path = PurePosixPath(name)
    if name == "README.md":
        return PurePosixPath("overview.md" if anchor else "index.md")
    if path.parts[0] == "docs" and path.suffix != ".py":
        return path.relative_to("docs")
    return (
        PurePosixPath(name.lower()) if path.suffix == ".md" else PurePosixPath(f"source/{name}.md")
    )


def relinked(text: str, name: str, linked: set[Path]) -> str:
    """The text of a page whose links lead to places on the site.

    Args:
        text: The page.
        name: Its file in the repository.
        linked: Files whose text needs a page; those of this page's links are added.
    """

    def moved(link: re.Match[str]) -> str:
        target, anchor = link[1], link[2] or ""
        file = (ROOT / name).parent.joinpath(target).resolve()
        if target.startswith(("http:", "https:")) or not file.is_file():
            return link[0]  # The build reports links to files that do not exist.
        new = place(str(file.relative_to(ROOT)), anchor)
        if new.parts[0] == "source":
            linked.add(file)
        return f"]({os.path.relpath(new, place(name).parent)}{anchor})"

    parts = re.split(r"(^```.*?^```$)", text, flags=re.MULTILINE | re.DOTALL)
    parts[::2] = [re.sub(r"\]\(([^)\s#]+)(#[^)\s]*)?\)", moved, part) for part in parts[::2]]
    return "".join(parts)


def settings() -> str:
    """The text of mkdocs.yml with the pages that its navigation stands for."""
    text, mark, entries = (ROOT / "mkdocs.yml").read_text("utf-8").partition("\nnav:\n")
    entries = yaml.safe_load(entries)
    named = set(leaves(entries))
    return f"{text}{mark}{yaml.safe_dump([expanded(entry, named) for entry in entries], sort_keys=False)}"


def leaves(entry: Any) -> Iterator[str]:
    """All pages, patterns and tables that a part of the navigation names."""
    if isinstance(entry, str):
        yield entry
    else:
        for inner in entry.values() if isinstance(entry, dict) else entry:
            yield from leaves(inner)


def expanded(entry: Any, named: set[str]) -> Any:
    """A part of the navigation in which each pattern and table is a list of pages.

    Args:
        entry: The part.
        named: Pages that a pattern leaves out; those that it finds are added.
    """
    if isinstance(entry, dict):
        return {title: expanded(inner, named) for title, inner in entry.items()}
    if isinstance(entry, list):
        flat = [expanded(inner, named) for inner in entry]
        return [page for inner in flat for page in (inner if isinstance(inner, list) else [inner])]
    if entry in TABLES:  # Names that other packages have registered have no page.
        pages = (f"agents/{name}.md" for name in TABLES[entry])
        return [page for page in pages if (PAGES / page).exists()]
    if "*" in entry:
        found = {str(page.relative_to(PAGES)) for page in PAGES.glob(entry)} - named
        named |= found
        return sorted(found)
    return entry


def build() -> None:
    """Builds the collected pages; ends the program with Zensical's messages if one of them has a fault."""
    words = ("zensical", "build", "--clean", "--strict", "-f", str(BUILD / "mkdocs.yml"))
    path = {"PYTHONPATH": str(ROOT)}  # For the docstrings.
    done = subprocess.run([sys.executable, "-m", *words], env=os.environ | path, check=False)
    if done.returncode:
        raise SystemExit(done.returncode)
    for page in SITE.rglob("*.html"):
        text = page.read_text(encoding="utf-8").replace(
            f'"{SHIM}"', f'"{_from(page, "site/iframe-worker.js")}"'
        )
        # The logo's link leads to a folder, which only a server would complete.
        text = re.sub(r'href="[./]+"', f'href="{_from(page, "index.html")}"', text)
        page.write_text(text, encoding="utf-8")


def _from(page: Path, target: str) -> str:
    return os.path.relpath(SITE / target, page.parent)


def main() -> None:
    """Collects the pages and builds them."""
    collect()
    build()
    print(f"open {SITE / 'index.html'}")


if __name__ == "__main__":
    main()
