"""`rlbench table`: what is missing is run, what is there is reused, verdicts come from results."""

import csv
import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlbench.benchmarks import papers
from rlbench.benchmarks.tables import executors, table
from rlbench.benchmarks.tables.executors import Execution
from rlbench.benchmarks.tables.jobs import Job, execute, unfinished
from rlbench.benchmarks.tables.paper import Claim, Figure, Grid, Method, Paper, Verdict
from rlbench.benchmarks.tables.results import Missing, Results
from rlbench.benchmarks.tables.table import TableConfig
from rlbench.benchmarks.training.config import RunConfig
from rlbench.cli import main
from rlbench.errors import UserError
from tests.run_files import edit

FAST: dict[str, Any] = {"hidden": (4,), "batch_size": 4}
RUN: dict[str, Any] = {
    "updates": 20,
    "data_size": 300,
    "eval_every": 10,
    "eval_episodes": 2,
    "log_every": 5,
}


def better(results: Results) -> Verdict:
    wide, narrow = (results.scores(name, "point-random").mean() for name in ("wide", "narrow"))
    return Verdict(bool(np.isfinite(wide + narrow)), f"{wide:.1f} against {narrow:.1f}")


def never(results: Results) -> Verdict:
    return Verdict(False, f"{results.metric('wide', 'point-random', 'policy_loss')[0]:.3f}")


def absent(results: Results) -> Verdict:
    results.scores("deep", "point-random")
    raise AssertionError("not reached")


CLAIMS = (
    Claim("T1", "Wide beats narrow | or not.", "any order", better),
    Claim("T2", "It flies.", "it flies", never),
    Claim("T3", "Deep is better.", "deep", absent),
    Claim("T4", "Only in the large.", "large", never, scales=("full",)),
)
TINY = Paper(
    name="tiny",
    title="A tiny paper",
    reference="Nobody, 2026",
    method="wide",
    grids={
        "small": (
            Grid(
                (Method("narrow", "bc", FAST), Method("wide", "bc", FAST | {"hidden": (8,)})),
                ("point-random", "point-expert"),
                seeds=2,
                run=RUN,
            ),
        ),
        "full": (),
    },
    minutes={"small": 1, "full": 9},
    claims=CLAIMS,
    figures=(
        Figure("wide", "point-random-v0", 12.34, 0.5, "a book"),
        Figure("deep", "point-random-v0", 99.87, None, "a book"),
        Figure("narrow", "point-random-v2", 55.5, None, "a paper"),
        Figure("narrow", "point-medium-v2", 77.7, None, "a paper"),
    ),
)


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "load_paper", lambda name: TINY)
    monkeypatch.setattr(table, "PAPERS", ("tiny",))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The eight runs of the tiny paper; tests that change something copy it."""
    folder = tmp_path_factory.mktemp("runs")
    for _, job in TINY.jobs("small", folder / "tiny-small"):
        assert execute(job).error == ""
    return folder


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    shutil.copytree(finished, tmp_path / "runs")
    return tmp_path / "runs"


def made(out: Path, **options: Any) -> None:
    table.make(TableConfig(paper="tiny", out=out, execution=Execution(jobs=1), **options))


def text(out: Path, capsys: pytest.CaptureFixture[str], **options: Any) -> str:
    made(out, **options)
    return capsys.readouterr().out


def test_all_runs_are_made_and_a_second_call_trains_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = text(tmp_path, capsys)
    names = {path.name for path in (tmp_path / "tiny-small").iterdir() if path.is_dir()}
    assert names == {
        f"{m}-point-{t}-s{s}"
        for m in ("narrow", "wide")
        for t in ("random", "expert")
        for s in "01"
    }
    monkeypatch.setattr(executors, "run_all", lambda *_: pytest.fail("trains again"))
    assert text(tmp_path, capsys) == first


def test_a_grid_without_the_papers_method_has_no_improvements(finished: Path) -> None:
    titles = {
        method: [
            section.title
            for section in table.table(
                dataclasses.replace(TINY, method=method), "small", finished / "tiny-small"
            )
        ]
        for method in ("wide", "elsewhere")
    }
    assert any("beats one of another" in title for title in titles["wide"])
    assert not any("beats one of another" in title for title in titles["elsewhere"])


def test_cells_are_mean_and_deviation_of_the_seeds(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sections = json.loads(text(finished, capsys, format="json"))
    scores = []
    for seed in "01":
        folder = finished / "tiny-small" / f"wide-point-expert-s{seed}"
        with np.load(folder / "measures.npz") as saved:
            assert saved["update"].tolist() == [10, 20]
            last = saved["return"][-1]
        scores.append(100 * (last.mean() + 39.511) / (39.511 - 5.778))
    row = next(r for r in sections[0]["rows"] if r[0].startswith("point-expert"))
    assert row[0] == "point-expert (generated)"
    assert row[2] == f"{np.mean(scores):.1f} ± {np.std(scores):.1f}"
    assert sections[0]["rows"][-1][0] == "IQM over tasks [95 %]"


def test_the_papers_method_is_compared_with_the_others(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    section = json.loads(text(finished, capsys, format="json"))[1]
    assert section["title"] == "Probability that a run of wide beats one of another method"
    ((name, shown),) = section["rows"]
    results = table.collect(TINY, "small", finished / "tiny-small")
    tasks = TINY.grids["small"][0].tasks
    wide, narrow = (results.matrix(method, tasks) for method in ("wide", "narrow"))
    wins = np.mean([a > b for t in range(2) for a in wide[:, t] for b in narrow[:, t]])
    assert name == "narrow"
    assert shown.startswith(f"{wins:.2f} [")


def test_verdicts_are_those_of_the_claims(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sections = json.loads(text(finished, capsys, format="json"))
    claims = {row[0]: row for row in sections[2]["rows"]}
    assert [row[1] for row in claims.values()] == [
        "holds", "does not hold", "not run", "not at this scale",
    ]  # fmt: skip
    assert claims["T3"][4] == "deep has not been run on point-random"
    lines = (finished / "tiny-small/wide-point-random-s0/metrics.jsonl").read_text().splitlines()
    mean = np.mean([json.loads(line)["policy_loss"] for line in lines[-5:]])
    assert claims["T2"][4] == f"{mean:.3f}"


def test_published_figures_stand_below_their_task_and_method(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for form in ("terminal", "md", "csv", "json", "latex"):
        told = text(finished, capsys, format=form)
        assert "12.3" in told
        assert "99.9" not in told
    header, *rows = csv.reader(text(finished, capsys, format="csv").splitlines())
    published = [row[1:] for row in rows if len(row) > 1 and "(d4rl)" in row[1]]
    assert header == ["section", "task (data)", "narrow", "wide"]
    assert published == [
        ["point-random-v0 (d4rl), a book", "-", "12.3 ± 0.5"],
        ["point-random-v2 (d4rl), a paper", "55.5", "-"],
    ]


def test_every_format_says_the_same(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cell = json.loads(text(finished, capsys, format="json"))[0]["rows"][0][1]
    for form, shown in (("md", cell), ("csv", cell), ("latex", cell.replace("±", r"$\pm$"))):
        assert shown in text(finished, capsys, format=form)
    assert r"narrow \| or not" in text(finished, capsys, format="md")
    latex = text(finished, capsys, format="latex")
    assert r"\toprule" in latex
    assert r"\hline" not in latex
    means = [
        float(cell.split()[0])
        for cell in json.loads(text(finished, capsys, format="json"))[0]["rows"][0][1:]
    ]
    (row,) = re.findall(r"^point-random .*generated.*$", latex, re.MULTILINE)[:1]
    marked = [cell.startswith(r"\textbf{") for cell in row.removesuffix(r" \\").split(" & ")[1:]]
    assert marked == [mean == max(means) for mean in means]
    assert (finished / "tiny-small" / "table.md").read_text().startswith("### Score after 20")


def test_what_is_missing_is_run_and_nothing_else(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = text(copied, capsys)
    folder = copied / "tiny-small"
    shutil.rmtree(folder / "wide-point-random-s1")
    times = {path: path.stat().st_mtime_ns for path in folder.glob("*/measures.npz")}
    # The seconds of computing may differ.
    assert re.sub(r"\d+ s of", "", text(copied, capsys)) == re.sub(r"\d+ s of", "", before)
    assert all(path.stat().st_mtime_ns == time for path, time in times.items())


def test_a_run_that_was_cut_off_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Here, for a test below imports this file without PyTorch.
    from rlbench.agents import BC
    from tests.kill_and_resume import assert_equal

    config = RunConfig(env="point-random", out=tmp_path / "cut", checkpoint_every=5, **RUN)
    job = Job("bc", FAST, config)
    whole = dataclasses.replace(job, config=dataclasses.replace(config, out=tmp_path / "whole"))
    execute(whole)
    learn, updates = BC.learn, []

    def failing(self: BC, experience: Any) -> Any:
        updates.append(1)
        if len(updates) == 13:
            raise UserError("the power went out")
        return learn(self, experience)

    monkeypatch.setattr(BC, "learn", failing)
    assert execute(job).error == (
        f"the power went out; afterwards `rlbench run --resume {job.folder}` continues from update 10"
    )
    assert unfinished([job, whole]) == [job]
    assert execute(job).error == ""
    assert len(updates) == 13 + 10  # from the checkpoint of update 10
    assert_equal(job.folder, whole.folder)


def test_a_run_that_fails_is_reported_and_the_others_continue(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = TINY.grids["small"][0]
    wrong = Method("wrong", "bear", {"mmd_estimator": "unbiased", "constraint_samples": 1})
    grid = dataclasses.replace(
        grid, methods=(wrong, grid.methods[1]), tasks=("point-random",), seeds=1
    )
    paper = dataclasses.replace(TINY, grids={"small": (grid,), "full": ()})
    monkeypatch.setattr(table, "load_paper", lambda name: paper)
    monkeypatch.setattr(papers, "load_paper", lambda name: paper)
    assert main(["table", "tiny", "--out", str(tmp_path), "--jobs", "1"]) == 1
    told = capsys.readouterr()
    assert "the unbiased MMD needs 2 or more" in told.err.replace("\n", " ")
    assert "rlbench: 1 run failed; correct the cause" in told.err
    assert "wide" in told.out
    assert "T1" in told.out


def test_any_exception_of_a_run_is_its_outcome(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rlbench.benchmarks.training.runner import Run

    def fail(self: Run) -> None:
        raise ZeroDivisionError("by\n0")

    job = Job("bc", FAST, RunConfig(env="point-random", out=tmp_path / "run", **RUN))
    monkeypatch.setattr(Run, "start", fail)
    assert execute(job).error == "ZeroDivisionError: by 0; the traceback is in log.txt"
    assert "in fail" in (tmp_path / "run" / "log.txt").read_text()
    monkeypatch.setattr(Run, "start", lambda self: sys.exit(3))
    assert execute(job).error.startswith("SystemExit: 3")


def test_the_scoreboard_counts_claims_and_runs(
    finished: Path, copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table.make(TableConfig(all=True, out=finished, format="csv"))
    assert ",tiny,partly,1 of 3,8 of 8," in capsys.readouterr().out
    shutil.rmtree(copied / "tiny-small" / "wide-point-random-s1")
    table.make(TableConfig(all=True, out=copied, format="csv"))
    assert ",tiny,partly,1 of 3,7 of 8,about 1 min" in capsys.readouterr().out
    table.make(TableConfig(all=True, out=copied / "nowhere", format="csv"))
    assert ",tiny,not yet,0 of 3,0 of 8,about 1 min" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("version", "format 99, but this version reads 1"),
        ("settings", r"holds another run: learning_rate is 0\.5, not"),
        ("config", "config.json is damaged"),
        ("metrics", "metrics.jsonl is damaged or lacks policy_loss"),
        ("returns", "measures.npz is damaged"),
    ],
)
def test_a_damaged_or_foreign_folder_is_one_sentence_and_stays(
    copied: Path, damage: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copied / "tiny-small" / "wide-point-random-s0"
    config = json.loads((folder / "config.json").read_text())
    if damage == "version":
        (folder / "config.json").write_text(json.dumps(config | {"format": 99}))
    elif damage == "settings":
        grid = TINY.grids["small"][0]
        rated = tuple(
            dataclasses.replace(m, settings={**m.settings, "learning_rate": 3e-4})
            for m in grid.methods
        )
        edit(folder, lambda config: config["learner"]["settings"].update(learning_rate=0.5))
        changed = dataclasses.replace(
            TINY, grids={"small": (dataclasses.replace(grid, methods=rated),)}
        )
        monkeypatch.setattr(table, "load_paper", lambda name: changed)
    elif damage == "config":
        (folder / "config.json").write_text("{")
    elif damage == "metrics":
        with (folder / "metrics.jsonl").open("a") as file:
            file.write('{"update": 2')
    else:
        (folder / "measures.npz").write_bytes(b"PK")
    before = {path: path.read_bytes() for path in copied.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match=words) as error:
        made(copied)
    assert "\n" not in str(error.value)
    assert {p: p.read_bytes() for p in before} == before


def test_a_run_from_before_an_option_had_its_default(copied: Path) -> None:
    folder = copied / "tiny-small" / "wide-point-random-s0"
    edit(folder, lambda config: config["run"].pop("precision"))
    made(copied)
    edit(folder, lambda config: config["run"].update(precision="bfloat16"))
    with pytest.raises(UserError, match="holds another run: precision is bfloat16, not float32"):
        made(copied)


def test_two_tables_in_one_folder_are_refused(finished: Path) -> None:
    from rlbench.files import only_one

    with (
        only_one(finished / "tiny-small" / ".lock", ""),
        pytest.raises(UserError, match="another table is being made in"),
    ):
        made(finished)


@pytest.mark.parametrize("name", ["", "baer", "nothing"])
def test_an_unknown_paper_is_one_sentence(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "load_paper", papers.load_paper)
    with pytest.raises(UserError, match=r"give a paper|there is no paper") as error:
        table.make(TableConfig(paper=name))
    assert "\n" not in str(error.value)


def test_missing_results_are_distinguished_from_damaged_ones() -> None:
    with pytest.raises(Missing, match="BEAR has not been run on point-random"):
        Results([]).scores("BEAR", "point-random")


@pytest.mark.parametrize("name", list(papers.PAPERS))
@pytest.mark.parametrize("scale", ["small", "full"])
def test_every_paper_declares_runs_that_exist(name: str, scale: Any, tmp_path: Path) -> None:
    from rlbench.benchmarks.training.learners import load_learner
    from rlbench.envs.tasks import find_task

    paper = papers.load_paper(name)
    jobs = paper.jobs(scale, tmp_path)
    assert len({job.folder for _, job in jobs}) == len(jobs) > 0
    # The seeds of a method differ in nothing else.
    different = {repr((job.learner, job.config.env, job.settings)): job for _, job in jobs}
    for job in different.values():
        agent = load_learner(job.learner)
        agent.Config(**{**agent.preset(job.config.env, job.config.updates), **job.settings})
    explored = {
        job.config.env for _, job in jobs if getattr(load_learner(job.learner), "explores", False)
    }
    for task in map(find_task, {job.config.env for _, job in jobs} - explored):
        assert any(x is not None for x in (task.data, task.source, task.lifetimes))
    assert all(figure.source for figure in paper.figures)


def test_a_table_of_finished_runs_loads_no_torch(finished: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from tests.benchmarks.test_table import TINY\n"
        "from rlbench.benchmarks.tables import table\n"
        f"table.table(TINY, 'small', Path({str(finished)!r}) / 'tiny-small')\n"
        "assert not {'torch', 'tensorboard'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


@pytest.mark.slow
def test_a_table_killed_again_and_again_repeats_no_finished_run(tmp_path: Path) -> None:
    out = tmp_path / "runs"
    words = [sys.executable, "-m", "rlbench", "table", "bear", "--out", str(out), "--jobs", "2"]
    finished: dict[Path, int] = {}
    for _ in range(3):
        with subprocess.Popen(words, stderr=subprocess.DEVNULL, start_new_session=True) as running:
            time.sleep(45)
            os.killpg(running.pid, signal.SIGKILL)
        for path, changed in finished.items():
            assert path.stat().st_mtime_ns == changed, f"{path} was made again"
        for _, job in papers.load_paper("bear").jobs("small", out / "bear-small"):
            if job.complete():
                file = job.folder / "measures.npz"
                finished[file] = file.stat().st_mtime_ns
    assert finished


def test_the_command_line_makes_a_table(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["table", "tiny", "--out", str(finished), "--format", "md"]) == 0
    told = capsys.readouterr()
    assert "### Claims" in told.out
    assert "next: rlbench report" in told.err
