"""`rlbench report`: runs as one HTML file that needs no network."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from rlbench.benchmarks.papers import PAPERS, load_paper
from rlbench.benchmarks.tables import statistics
from rlbench.benchmarks.tables.analyses import analyses
from rlbench.benchmarks.tables.curves import Plot, common_points, plot, x_axis
from rlbench.benchmarks.tables.films import films
from rlbench.benchmarks.tables.methods import kept_name, labels
from rlbench.benchmarks.tables.paper import Paper, Scale
from rlbench.benchmarks.tables.pictures import pictures
from rlbench.benchmarks.tables.results import Missing, Result, Results, read_result
from rlbench.benchmarks.tables.sheet import Section
from rlbench.benchmarks.tables.table import table
from rlbench.benchmarks.training.finding import run_folders
from rlbench.benchmarks.training.run_folder import RunFolder
from rlbench.benchmarks.tuning.shown import ShownStudy, shown_studies
from rlbench.errors import UserError
from rlbench.files import write_atomically
from rlbench.measures import RETURN
from rlbench.terminal import say
from rlbench.trust import TrustOption

MAX_PICTURES = 4
"""Models whose examples are drawn; more would make the page too large to send."""
THRESHOLDS = 41


@dataclass(frozen=True)
class ReportConfig:
    """Show runs in one HTML file: curves, tables, verdicts, settings, data, films."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional] = (Path("runs"),)
    """Run folders, or folders that contain them, such as the folder of a table or a sweep."""
    out: Path = Path("report.html")
    """File to write."""
    films: bool = True
    """Show the films in run folders, and film one run of each method on each task if the environment can render."""
    trust: TrustOption = False


@dataclass(frozen=True)
class Group:
    """Plots of one kind."""

    title: str
    caption: str
    plots: list[Plot] = field(default_factory=list)


def make(asked: ReportConfig) -> None:
    """Writes the file."""
    studies = list(shown_studies(asked.runs))
    hidden = {(study.folder / name).resolve() for study in studies for name in study.hidden}
    folders = [
        path
        for path in run_folders(asked.runs)
        if path.resolve() not in hidden and RunFolder(path).complete()
    ]
    configs = [RunFolder(path).config() for path in folders]
    names = [kept_name(path, config) for path, config in zip(folders, configs, strict=True)]
    methods = labels(names, configs, trust=asked.trust)
    once, again = _apart(_readable(methods, folders))
    results = Results(once, trust=asked.trust)
    if not results.all:
        raise UserError(
            f"there is no complete run in {', '.join(map(str, asked.runs))}; give run folders or "
            "folders that hold them"
        )
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader(__name__.rpartition(".")[0], "")
    pages = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    papers = list(_papers(asked.runs))
    titles = [paper.title for paper, *_ in papers] + [study.section.title for study in studies]
    title = titles[0] if len(titles) == 1 else f"Runs of {', '.join(_methods(results))}"
    sections = [
        section for paper, scale, folder in papers for section in table(paper, scale, folder)
    ]
    returns = (run for run in results.all if run.headline == RETURN)
    agents = Results(returns, trust=asked.trust)
    # Runs of meta-learners have no data, and so no test examples.
    others = (run for run in results.all if run.headline != RETURN and run.config["data"])
    models = Results(others, trust=asked.trust)
    found = analyses(results)
    caption = "Means over test examples or episodes with a 95 % bootstrap interval; see `rlbench analyse`."
    looked = Group("Analyses", caption, found.plots)
    count = len(once) + len(again)
    version = results.all[0].config["versions"]["rlbench"]
    text = pages.get_template("report.html").render(
        title=title,
        subtitle=f"{count} {'run' if count == 1 else 'runs'} of rlbench {version}",
        results=[*(study.section for study in studies), *sections, _means(results)],
        groups=[
            x for x in (_studies(studies), _curves(results), _profiles(results), looked) if x.plots
        ],
        films=list(films(agents, asked.trust)) if asked.films and agents.all else [],
        pictures=[pictures(result, trust=asked.trust) for result in _first_of_each(models)],
        analysed=found.pictures,
        details=[*found.numbers, _runs(results, again), *_data(results), _versions(results)],
        settings=_settings(results),
    )
    write_atomically(asked.out, text.encode())
    say(f"{asked.out} ({asked.out.stat().st_size / 1e3:,.0f} kB); open it in a browser")


def _studies(studies: Sequence[ShownStudy]) -> Group:
    """The plots of all studies."""
    caption = (
        "Values of complete trials, and importance by PED-ANOVA (Watanabe et al., 2023): how much each setting decides whether a "
        "trial is among the best. Learning curves are shown of the first trial, which has the defaults, and of the best."
    )
    return Group("Search for settings", caption, [x for study in studies for x in study.plots])


def _readable(methods: Iterable[str], folders: Iterable[Path]) -> Iterator[Result]:
    """The runs whose results are sound; the others are named, so that one of them does not end a report."""
    for method, folder in zip(methods, folders, strict=True):
        try:
            yield read_result(method, folder)
        except UserError as error:
            say(f"note: a run is left out: {error}")


def _apart(results: Iterable[Result]) -> tuple[list[Result], list[tuple[Result, Result]]]:
    """Runs that count, and repeated runs, each with the run of the same method, task and seed that counts."""
    first: dict[tuple[str, str, int], Result] = {}
    again = []
    for result in results:
        counts = first.setdefault((result.method, result.task, result.seed), result)
        if counts is not result:
            again.append((result, counts))
    return list(first.values()), again


def _papers(folders: Iterable[Path]) -> Iterator[tuple[Paper, Scale, Path]]:
    """The papers whose tables are in the folders."""
    scales: tuple[Scale, ...] = ("small", "full")
    for folder in folders:
        for name in PAPERS:
            for scale in scales:
                place = folder if folder.name == f"{name}-{scale}" else folder / f"{name}-{scale}"
                if place.is_dir():
                    yield load_paper(name), scale, place


def _methods(results: Results) -> list[str]:
    return list(dict.fromkeys(result.method for result in results.all))


def _tasks(results: Results) -> list[str]:
    return sorted({result.task for result in results.all})


def _unit(result: Result) -> str:
    return result.headline.title if result.config["reference_returns"] is None else "score"


def _curves(results: Results) -> Group:
    """Score for each task, over environment steps if all of its runs count them, otherwise over updates."""
    methods = _methods(results)
    plots = []
    for task in _tasks(results):
        runs = [result for result in results.all if result.task == task]
        label, place = x_axis([result.config for result in runs])
        curves = []
        for colour, method in enumerate(methods):
            found = results.of(method, task)
            updates, scores = _evaluations(found)
            if updates:
                intervals = statistics.mean_intervals(scores, seed=0)
                places = [place(found[0].config, update) for update in updates]
                curves.append((method, colour, list(zip(places, intervals, strict=True))))
        if curves:
            plots.append(plot(f"{task}: {_unit(runs[0])}", label, curves))
    return Group(
        "Learning curves",
        "Mean over seeds with a pointwise 95 % bootstrap interval, which is too narrow for few seeds "
        "and has no width for one.",
        plots,
    )


def _evaluations(found: Sequence[Result]) -> tuple[list[int], np.ndarray[Any, Any]]:
    """Updates [K] at which all seeds were evaluated, and the scores, [R, K]."""
    curves = []
    for result in found:
        saved = RunFolder(result.folder).evaluations()
        values = saved[result.headline.name]
        scores = [result.score_of(float(each.mean())) for each in values]
        curves.append((saved["update"].tolist(), scores))
    return common_points(curves)


def _profiles(results: Results) -> Group:
    """Share of runs above each score, over the tasks that all methods have."""
    methods = _methods(results)
    tasks = [t for t in _tasks(results) if all(results.of(m, t) for m in methods)]
    tasks = [t for t in tasks if all(_unit(r) == "score" for r in results.all if r.task == t)]
    caption = f"Share of runs above each score on {', '.join(tasks)} (Agarwal et al., 2021)."
    if len(methods) < 2 or not tasks:
        return Group("Performance profiles", caption)
    try:
        matrices = {method: results.matrix(method, tasks) for method in methods}
    except Missing:
        return Group("Performance profiles", caption)
    low = min(matrix.min() for matrix in matrices.values())
    high = max(matrix.max() for matrix in matrices.values())
    thresholds = np.linspace(low - 1, high + 1, THRESHOLDS).tolist()
    curves = []
    for colour, (method, matrix) in enumerate(matrices.items()):
        intervals = statistics.profile_intervals(matrix, thresholds, seed=0)
        curves.append((method, colour, list(zip(thresholds, intervals, strict=True))))
    return Group("Performance profiles", caption, [plot("share of runs", "score", curves)])


def _means(results: Results) -> Section:
    """Mean and interval over the seeds of each method on each task."""
    rows: list[list[str]] = []
    best: list[tuple[int, int]] = []
    for task in _tasks(results):
        groups = [(m, results.of(m, task)) for m in _methods(results) if results.of(m, task)]
        means = [float(np.mean([run.score for run in runs])) for _, runs in groups]
        first = max(means) if groups[0][1][0].headline.higher_is_better else min(means)
        digits = 1 if max(map(abs, means)) >= 10 else 3
        for mean, (method, runs) in zip(means, groups, strict=True):
            scores = np.array([[run.score] for run in runs])
            (interval,) = statistics.mean_intervals(scores, seed=0)
            shown = f"{interval.low:,.{digits}f} to {interval.high:,.{digits}f}"
            if mean == first and len(means) > 1:
                best.append((len(rows), 3))
            rows.append([
                task, method, _unit(runs[0]), f"{mean:,.{digits}f}",
                shown if len(runs) > 1 else "-", str(len(runs)),
            ])  # fmt: skip
    header = ["task", "method", "measure", "mean", "95 % interval", "seeds"]
    notes = ["Bootstrap intervals over seeds, which are too narrow if there are few seeds."]
    return Section("Means over seeds", header, rows, notes, best)


def _runs(results: Results, again: Sequence[tuple[Result, Result]]) -> Section:
    every = [(result, str(result.seed)) for result in results.all]
    every += [(result, f"{result.seed} (repeated)") for result, _ in again]
    rows = [
        [
            result.method, result.task, seed, f"{result.config['run']['updates']:,}",
            f"{result.score:.1f}" if _unit(result) == "score" else "-",
            _spread(result), str(result.count), f"{result.seconds:,.0f}",
        ]
        for result, seed in every
    ]  # fmt: skip
    header = [
        "method",
        "task",
        "seed",
        "updates",
        "score",
        "measure",
        "episodes or examples",
        "seconds",
    ]
    notes = ["The last checkpoint of each run, never the best."]
    notes += [
        f"{result.folder} repeats {counts.folder}: the same method, task and seed. It is left out of means and curves."
        for result, counts in again
    ]
    return Section("Runs", header, rows, notes)


def _spread(result: Result) -> str:
    """The headline measure, mean and deviation over episodes or examples."""
    column = result.columns[result.headline.name]
    digits = 1 if abs(column).max() >= 10 else 3
    return f"{result.headline.name} {column.mean():,.{digits}f} ± {column.std():,.{digits}f}"


def _data(results: Results) -> Iterator[Section]:
    """The data sets, if any run has one."""
    rows: dict[str, list[str]] = {}
    for result in results.all:
        data = result.config["data"]
        if data is not None:
            score = data["details"].get("score")
            rows.setdefault(data["sha256"], [
                data["name"], data["kind"], data["source"],
                f"{data['details']['transitions']:,}",
                "-" if score is None else f"{score:.1f}", data["sha256"][:12],
            ])  # fmt: skip
    header = ["data set", "kind", "recorded by", "transitions", "behaviour's score", "SHA-256"]
    note = "Data marked `generated` are recorded by this suite; they are not D4RL's."
    if rows:
        yield Section("Data", header, list(rows.values()), [note])


def _versions(results: Results) -> Section:
    found = {json.dumps(result.config["versions"]) for result in results.all}
    return Section("Versions", [], [], [_in_words(json.loads(x)) for x in sorted(found)])


def _in_words(versions: dict[str, Any]) -> str:
    """Versions of packages, and the git commit if rlbench ran from a repository."""
    commit, clean = versions.pop("git_commit", None), versions.pop("git_clean", None)
    git = "no git repository" if commit is None else f"git commit {commit}"
    changes = " with uncommitted changes" if clean is False else ""
    return ", ".join([*(f"{k} {v}" for k, v in versions.items() if v is not None), git + changes])


def _settings(results: Results) -> list[tuple[str, str]]:
    """Settings of the first seed of each method on each task, as JSON."""
    shown = []
    for method in _methods(results):
        for task in _tasks(results):
            for result in results.of(method, task)[:1]:
                parts = {"learner": result.config["learner"], "run": result.config["run"]}
                shown.append((f"{method} on {task}", json.dumps(parts, indent=1)))
    return shown


def _first_of_each(results: Results) -> Iterator[Result]:
    """The first seed of each method, on each of its tasks; no more than can be looked at."""
    found: dict[tuple[str, str], Result] = {}
    for result in results.all:
        found.setdefault((result.method, result.task), result)
    yield from list(found.values())[:MAX_PICTURES]
