"""`rlbench report`: one file that needs nothing else, and says what the runs gave."""

import base64
import dataclasses
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlbench.benchmarks.commands import watch as film
from rlbench.benchmarks.tables import films, report, sweep
from rlbench.benchmarks.tables.curves import plot
from rlbench.benchmarks.tables.executors import Execution
from rlbench.benchmarks.tables.report import ReportConfig
from rlbench.benchmarks.tables.results import Results, read_result
from rlbench.benchmarks.tables.statistics import Interval
from rlbench.benchmarks.tables.sweep import SweepConfig
from rlbench.errors import UserError

TOML = """
seeds = 2
tasks = ["point-random", "point-expert"]
run = { updates = 20, data_size = 300, eval_every = 10, eval_episodes = 2 }
[[method]]
name = "<narrow> & short"
agent = "bc"
settings = { hidden = [4], batch_size = 4 }
[[method]]
agent = "td3"
settings = { hidden = [4], batch_size = 4 }
"""


class Page(HTMLParser):
    """What a browser would load, and the text it would show."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.cells: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.loads += [value or "" for name, value in attributes if name in ("src", "href")]
        if tag not in ("meta", "link", "img", "line", "polygon"):
            self.open.append(tag)
        if tag == "td":
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        if self.open and self.open[-1] == tag:
            self.open.pop()

    def handle_data(self, data: str) -> None:
        if "td" in self.open:
            self.cells[-1] += data


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    (folder / "sweep.toml").write_text(TOML)
    sweep.make(SweepConfig(folder / "sweep.toml", out=folder / "runs", execution=Execution(1)))
    return folder / "runs"


def made(runs: Path, out: Path, **options: Any) -> str:
    report.make(ReportConfig((runs,), out=out / "r.html", **options))
    return (out / "r.html").read_text()


def test_the_page_loads_nothing_and_is_well_formed(
    swept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = made(swept, tmp_path, films=False)
    page = Page(text)
    assert page.loads == ["data:,"]
    assert "http" not in re.sub(r"https://arxiv\.org/\S+", "", text)
    assert page.open == []
    kilobytes = round(len(text.encode()) / 1e3)
    assert f"r.html ({kilobytes} kB); open it in a browser" in capsys.readouterr().out.replace(
        "\n", ""
    )


def test_every_run_is_there_with_its_score(swept: Path, tmp_path: Path) -> None:
    cells = Page(made(swept, tmp_path, films=False)).cells[4 * 6 :]  # Below the means over seeds.
    with np.load(swept / "td3-point-expert-s1" / "measures.npz") as saved:
        mean = saved["return"][-1].mean()
    score = 100 * (mean + 39.511) / (39.511 - 5.778)
    assert cells.count("td3") == 4
    (row,) = (i for i in range(len(cells)) if cells[i : i + 3] == ["td3", "point-expert", "1"])
    assert cells[row + 3 : row + 5] == ["20", f"{score:.1f}"]


def test_names_are_text_and_not_markup(swept: Path, tmp_path: Path) -> None:
    text = made(swept, tmp_path, films=False)
    assert "&lt;narrow&gt; &amp; short" in text
    assert "<narrow>" not in text
    page = films.Film("<b>", why="a & b")
    assert page.data == ""


def test_curves_and_profiles_are_drawn_for_every_task(swept: Path, tmp_path: Path) -> None:
    text = made(swept, tmp_path, films=False)
    assert text.count("<svg") == 3
    assert text.count('<polyline class="line"') == 6


def test_a_film_is_inside_or_the_reason_why_not(
    swept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def small_film(path: Path, *, trust: bool) -> bytes:
        seen.append(path.name)
        if len(seen) > 1:
            raise UserError("there is no GL")
        return b"GIF89a"

    monkeypatch.setattr(film, "small_film", small_film)
    text = made(swept, tmp_path)
    assert len(seen) == 4, "each method on each task"
    assert "data:image/gif;base64,R0lGODlh" in text
    assert "there is no GL" in text


def test_films_in_run_folders_are_shown(
    swept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filmed: list[str] = []

    def small_film(path: Path, *, trust: bool) -> bytes:
        filmed.append(path.name)
        return b"GIF89a"

    monkeypatch.setattr(film, "small_film", small_film)
    monkeypatch.setattr(films, "MAX_FILMS", 1)
    runs = tmp_path / "runs"
    shutil.copytree(swept, runs)
    (runs / "td3-point-expert-s0/film.mp4").write_bytes(b"first")
    (runs / "td3-point-expert-s1/film.gif").write_bytes(b"second")
    (runs / "td3-point-random-s1/film.mp4").write_bytes(b"x" * 11)
    monkeypatch.setattr(films, "FILM_BYTES", 10)
    text = made(runs, tmp_path)
    for kind, name in (("video/mp4", b"first"), ("image/gif", b"second")):
        assert f"data:{kind};base64,{base64.b64encode(name).decode()}" in text
    assert text.count("<video") == 1
    assert "td3-point-random-s1/film.mp4 is too large for this page (0 MB)" in text
    assert filmed == ["-narrow----short-point-expert-s0"]
    assert "not filmed for this page; `rlbench watch " in text


def test_repeated_seeds_are_marked_and_count_once(swept: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    shutil.copytree(swept, runs)
    before = Page(made(runs, tmp_path, films=False)).cells
    shutil.copytree(runs / "td3-point-expert-s1", runs / "td3-point-expert-s1-2")
    text = made(runs, tmp_path, films=False)
    assert "9 runs of rlbench" in text
    after = Page(text).cells
    assert after.count("1 (repeated)") == 1
    assert (
        f"{runs}/td3-point-expert-s1-2 repeats {runs}/td3-point-expert-s1: the same method" in text
    )
    assert after[: 4 * 6] == before[: 4 * 6], "means over seeds"


def test_means_have_intervals_and_the_best_is_marked(swept: Path, tmp_path: Path) -> None:
    text = made(swept, tmp_path, films=False)
    cells = Page(text).cells[: 4 * 6]
    rows = {(cells[i], cells[i + 1]): cells[i + 2 : i + 6] for i in range(0, 24, 6)}
    means = []
    for name, folder in (("td3", "td3"), ("<narrow> & short", "-narrow----short")):
        scores = []
        for seed in (0, 1):
            with np.load(swept / f"{folder}-point-expert-s{seed}" / "measures.npz") as saved:
                scores.append(100 * (saved["return"][-1].mean() + 39.511) / (39.511 - 5.778))
        unit, mean, interval, seeds = rows["point-expert", name]
        assert (unit, mean, seeds) == ("score", f"{np.mean(scores):,.1f}", "2")
        # With two seeds, both are drawn twice in a quarter of the resamples each.
        assert interval == f"{min(scores):,.1f} to {max(scores):,.1f}"
        means.append((np.mean(scores), mean))
    assert f'class="best" title="best">{max(means)[1]}</td>' in text
    assert text.count('class="best"') == 2


def test_a_task_with_one_evaluation_has_a_curve(tmp_path: Path) -> None:
    (drawn,) = plot("t", "x", [("a", 0, [(50.0, Interval(1.0, 0.0, 2.0))])]).curves
    assert drawn.line == "206,109 218,109"
    assert drawn.band == "206,8 218,8 218,210 206,210"


def test_a_table_of_data_is_shown_if_a_run_has_data(swept: Path) -> None:
    (path,) = swept.glob("td3-point-expert-s0")
    offline = read_result("td3", path)
    online = dataclasses.replace(offline, config=offline.config | {"data": None})
    assert not list(report._data(Results([online])))
    (shown,) = report._data(Results([offline]))
    assert [row[:2] for row in shown.rows] == [["point-expert", "generated"]]


def test_versions_are_in_words() -> None:
    plain = {"rlbench": "1", "envpool": None}
    assert (
        report._in_words({**plain, "git_commit": None, "git_clean": None})
        == "rlbench 1, no git repository"
    )
    assert (
        report._in_words({**plain, "git_commit": "ab", "git_clean": False})
        == "rlbench 1, git commit ab with uncommitted changes"
    )
    assert (
        report._in_words({**plain, "git_commit": "ab", "git_clean": True})
        == "rlbench 1, git commit ab"
    )


def test_a_run_with_changed_values_is_left_out(
    swept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = tmp_path / "runs"
    shutil.copytree(swept, runs)
    (file, *_) = sorted(runs.glob("td3-point-expert-s0/measures.npz"))
    with np.load(file) as saved:
        columns = {name: np.array(x) for name, x in saved.items()}
    columns["return"][:] = np.nan
    np.savez(file, **columns)  # type: ignore[arg-type]
    text = made(runs, tmp_path, films=False)
    assert "7 runs of rlbench" in text
    (note,) = [x for x in capsys.readouterr().out.splitlines() if x.startswith("note:")]
    assert f"a run is left out: {file} was changed after" in note


def test_no_runs_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no complete run in"):
        report.make(ReportConfig((tmp_path,), out=tmp_path / "r.html"))
    assert not (tmp_path / "r.html").exists()


def test_a_plot_by_hand() -> None:
    points = [(0.0, Interval(0.0, -10.0, 10.0)), (100.0, Interval(5.0, 0.0, 10.0))]
    drawn = plot("t", "x", [("a", 9, points)])
    (curve,) = drawn.curves
    assert curve.colour == 1
    # 0 lies in the middle between -10 (pixel 210) and 10 (pixel 8), 5 a quarter from the top.
    assert curve.line == "44,109 380,58.5"
    assert curve.band == "44,8 380,8 380,109 44,210"
    assert [(tick.at, tick.label) for tick in drawn.y_ticks][::2] == [(210, "-10"), (109, "0"), (8, "10")]  # fmt: skip
    flat = plot("t", "x", [("a", 0, [(1.0, Interval(2.0, 2.0, 2.0))])])
    assert flat.curves[0].line == "206,109 218,109"
