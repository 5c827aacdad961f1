"""The documentation site: its navigation is complete, and every link of the built site leads somewhere."""

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

pytest.importorskip("yaml", reason="the extra docs is not installed")

from docs import make_site
from docs.make_reference import claims, commands
from docs.site_pages import API, ROOT, source
from rlbench.benchmarks.papers import PAPERS, load_paper
from rlbench.cli import HELP


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder in which all pages were collected."""
    build = tmp_path_factory.mktemp("build")
    with pytest.MonkeyPatch.context() as patch:
        for name, place in (("BUILD", build), ("PAGES", build / "pages"), ("SITE", build / "site")):
            patch.setattr(make_site, name, place)
        make_site.collect()
        yield build


def test_the_navigation_names_every_page_of_the_docs(collected: Path) -> None:
    _, _, entries = (collected / "mkdocs.yml").read_text().partition("\nnav:\n")
    named = re.findall(r"[\w./-]+\.md", entries)
    pages = [str(page.relative_to(make_site.DOCS)) for page in make_site.DOCS.rglob("*.md")]
    assert sorted(named) == sorted(
        [*pages, *API, "index.md", "overview.md", "changelog.md", "contributing.md"]
    )


def test_links_out_of_the_docs_lead_to_pages_of_source(collected: Path) -> None:
    page = (collected / "pages" / "agents" / "crr.md").read_text()
    assert "[agents/crr.py](../source/agents/crr.py.md)" in page
    text = (ROOT / "agents" / "crr.py").read_text()
    assert text in (collected / "pages" / "source" / "agents" / "crr.py.md").read_text()


def test_links_in_code_and_to_other_sites_stay() -> None:
    text = "[a](https://a.org/README.md) `x`\n```python\n[f](README.md)\n```\n[b](../README.md#develop)"
    linked: set[Path] = set()
    assert make_site.relinked(text, "docs/data.md", linked) == text.replace(
        "../README.md#develop", "overview.md#develop"
    )
    assert not linked


def test_fences_in_a_source_file_do_not_end_its_page() -> None:
    page = source(make_site.DOCS / "make_pages.py")
    assert "\n```bash\n" in page
    assert re.findall(r"^````.*$", page, re.MULTILINE) == ["````python", "````"]


def test_a_pattern_in_the_navigation_leaves_out_pages_that_are_named_elsewhere(
    collected: Path,
) -> None:
    entries = [{"Memories": "papers/policy-memories.md"}, {"Others": ["papers/policy-m*.md"]}]
    named = set(make_site.leaves(entries))
    assert make_site.expanded(entries[1], named) == {"Others": ["papers/policy-missions.md"]}
    assert make_site.expanded("papers/policy-m*.md", named) == []


def test_the_page_of_commands_has_every_command() -> None:
    page, names = commands(), re.findall(r"^  rlbench (\w+)", HELP, re.MULTILINE)
    assert len(set(names)) > 8
    for name in names:
        assert re.search(rf"^#+ rlbench {name}\b", page, re.MULTILINE)
    assert "| `--eval-episodes` | `10` | Episodes in one evaluation" in page
    assert "| `--jobs` | `0` | Runs at once on this machine" in page  # inside another dataclass
    assert "| `RUN` |  | Folder of the run, or zoo:NAME. |" in page


def test_the_page_of_claims_has_every_claim_and_counts_them() -> None:
    page = claims()
    rows = re.findall(
        r"^\| [A-Z][^|]* \| (holds|does not hold|reported|not run) \|", page, re.MULTILINE
    )
    counts = re.search(r"^\| (\d+) \| (\d+) \| (\d+) \| (\d+) \| (\d+) \|$", page, re.MULTILINE)
    assert counts is not None
    words = ("holds", "does not hold", "reported", "not run")
    assert [int(x) for x in counts.groups()] == [*map(rows.count, words), len(rows)]
    assert len(rows) == sum(len(load_paper(name).claims) for name in PAPERS)
    # As on the paper's page and, for a paper without a page, in the results.
    assert "| R3 | does not hold | Edge activations are interpretable" in page
    assert "| C4 | does not hold | The max baseline is more selective" in page


class Page(HTMLParser):
    """Ids, links, and files that a page loads."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.ids |= {values[name] for name in ("id", "name") if name in values}
        if "src" in values or (tag == "link" and values.get("rel") != "canonical"):
            self.loaded.append(values.get("src", values.get("href", "")))
        elif "href" in values:
            self.links.append(values["href"])


@pytest.mark.slow
@pytest.mark.skipif(not find_spec("zensical"), reason="the extra docs is not installed")
def test_every_link_of_the_built_site_leads_somewhere(collected: Path) -> None:
    make_site.build()
    site = make_site.SITE.resolve()
    pages = {file.resolve(): Page(file) for file in site.rglob("*.html")}
    assert len(pages) > 200
    wrong = []
    for file, page in pages.items():
        name = file.relative_to(site)
        wrong += [f"{name} loads {x}" for x in page.loaded if urlsplit(x).netloc]
        if name.name == "404.html":  # Its links begin at the root of a server.
            continue
        for link in (*page.links, *page.loaded):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            ids = pages[target].ids if target in pages else {""}
            if not target.is_file() or unquote(parts.fragment) not in {*ids, ""}:
                wrong.append(f"{name} links to {link}")
    assert not wrong, "\n".join(wrong)
