"""`rlbench table`: executes the missing runs of a paper, and shows our results with the published ones."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote
from typing import Annotated

import numpy as np
import tyro
from rich.console import Console

from rlbench.benchmarks.papers import PAPERS, load_paper
from rlbench.benchmarks.tables import sheet, statistics
from rlbench.benchmarks.tables.executors import Execution, run_missing
from rlbench.benchmarks.tables.jobs import Outcome, unfinished
from rlbench.benchmarks.tables.paper import Claim, Figure, Grid, Paper, Scale, Stage, Verdict
from rlbench.benchmarks.tables.results import Missing, Result, Results, read_result
from rlbench.benchmarks.tables.settings import settings_sections
from rlbench.benchmarks.tables.sheet import Format, Section
from rlbench.benchmarks.training.analysing import AnalysisJob, perform, read_analysis
from rlbench.benchmarks.training.progress import duration
from rlbench.benchmarks.training.run_folder import RunFolder
from rlbench.benchmarks.training.steps import EnvSteps
from rlbench.errors import RunsFailed, UserError
from rlbench.files import only_one, write_atomically
from rlbench.measures import RETURN
from rlbench.terminal import Terminal
from rlbench.trust import Trust


@dataclass(frozen=True)
class TableConfig:
    """Reproduce a paper's table: run what is missing, print our and the published scores, judge the claims."""

    paper: Annotated[str, tyro.conf.Positional] = ""
    """Name of the paper."""
    all: bool = False
    """Show the scoreboard of all papers instead, without training."""
    scale: Scale = "small"
    """small: minutes on two cores; full: the paper's lengths."""
    out: Path = Path("runs")
    """Folder for the run folders, with a subfolder for each paper and scale."""
    format: Format = "terminal"
    """How the table is written."""
    execution: Annotated[Execution, tyro.conf.arg(name="")] = field(default_factory=Execution)
    """Where the missing runs are executed."""


def make(asked: TableConfig) -> None:
    """Executes the missing runs and prints the table."""
    if asked.all:
        print(sheet.render([_scoreboard(asked)], asked.format))
        return
    if not asked.paper:
        raise UserError(f"give a paper: rlbench table {'|'.join(PAPERS)}, or --all")
    paper = load_paper(asked.paper)
    folder = asked.out / f"{paper.name}-{asked.scale}"
    refusal = f"another table is being made in {folder}; wait for it or give another --out"
    # Progress goes to standard error, so that a table can be sent to a file.
    console = Terminal(stderr=True)
    with only_one(folder / ".lock", refusal):
        failed = []
        for stage in paper.stages(asked.scale, folder):
            title = f"{paper.name}, {asked.scale}"
            record_missing(stage, folder, console, paper.names(asked.scale))
            failed += run_missing(stage.jobs, asked.execution, title, console)
        analyses = [job for *_, job in paper.analysis_jobs(asked.scale, folder)]
        analyse_missing(analyses, console, paper.names(asked.scale))
        sections = table(paper, asked.scale, folder)
    conclude(sections, asked.format, folder, failed, console)


def conclude(
    sections: Sequence[Section],
    form: Format,
    folder: Path,
    failed: Sequence[Outcome],
    console: Console,
) -> None:
    """Prints sections, stores them in the folder, and reports failed runs and the next command.

    Raises:
        RunsFailed: There are failed runs.
    """
    print(sheet.render(sections, form))
    write_atomically(folder / "table.md", (sheet.render(sections, "md") + "\n").encode())
    for outcome in failed:
        line = f"{outcome.job.folder}: {outcome.error}"
        console.print(line, soft_wrap=True)
    console.print(f"kept in {folder}; next: rlbench report {quote(str(folder))}", soft_wrap=True)
    if failed:
        which = "1 run" if len(failed) == 1 else f"{len(failed)} runs"
        raise RunsFailed(f"{which} failed; correct the cause and run the same command again")


def table(paper: Paper, scale: Scale, folder: Path) -> list[Section]:
    """Everything that is printed for a paper, from the runs that are complete."""
    results = collect(paper, scale, folder)
    sections = [
        section
        for grid in paper.grids[scale]
        for section in (
            scores(grid, results, paper.figures),
            _improvements(paper.method, grid, results),
        )
    ]
    sections.append(_claims(paper, scale, results))
    for grid in paper.grids[scale]:
        sections += settings_sections(grid, folder, results)
    sections.append(_about(paper, scale, results))
    return [section for section in sections if section.rows or section.notes]


def collect(paper: Paper, scale: Scale, folder: Path) -> Results:
    """The results of the runs of a paper that are complete."""
    complete = [(method, job) for method, job in paper.jobs(scale, folder) if job.complete()]
    folders = {job.folder for _, job in complete}
    return Results(
        (read_result(method, job.folder, job.recorded) for method, job in complete),
        [
            (method, task, read_analysis(job.folder))
            for method, task, job in paper.analysis_jobs(scale, folder)
            if folders.issuperset(job.runs) and job.complete()
        ],
        trust=paper.names(scale),
    )


def record_missing(stage: Stage, folder: Path, console: Console, trust: Trust) -> None:
    """Records the tasks of a stage whose agents are complete, with a line for each that cannot be recorded."""
    for recording, seed in stage.recordings:
        file, agents = recording.file(folder, seed), recording.agents(folder, seed)
        if file.exists() or not all(map(_finished, agents)):
            continue
        # Imported here, so that a table of finished runs is printed without loading PyTorch.
        from rlbench.benchmarks.training.teaching import write_clients, write_examples

        try:
            if recording.clients:
                given = agents, recording.size, recording.clients
                write_clients(*given, file, lambda _: None, trust=trust)
            else:
                write_examples(agents[0], recording.size, file, lambda _: None, trust=trust)
        except UserError as error:
            console.print(f"{file}: {error}", soft_wrap=True)


def analyse_missing(jobs: Sequence[AnalysisJob], console: Console, trust: Trust) -> None:
    """Makes the analyses whose runs are complete, with a line for each that cannot be made."""
    for job in jobs:
        if not all(_finished(path) for path in job.runs) or job.complete():
            continue
        try:
            perform(job, trust=trust)
        except UserError as error:
            line = f"{job.folder}: {error}"
            console.print(line, soft_wrap=True)


def _finished(path: Path) -> bool:
    return (path / "config.json").exists() and RunFolder(path).complete()


def judge(claim: Claim, scale: Scale, results: Results) -> tuple[str, str]:
    """Verdict on a claim in a word or two, and the evidence."""
    if scale not in claim.scales:
        return "not at this scale", ""
    try:
        verdict: Verdict = claim.judge(results)
    except Missing as missing:
        return "not run", str(missing)
    words = {True: "holds", False: "does not hold", None: "reported"}
    return words[verdict.holds], verdict.evidence


def _tasks_with_results(grid: Grid, results: Results) -> list[str]:
    return [t for t in grid.tasks if any(results.of(m.name, t) for m in grid.methods)]


def scores(grid: Grid, results: Results, figures: Sequence[Figure] = ()) -> Section:
    """Mean and deviation over seeds of each method on each task, and aggregates over tasks.

    Published scores follow the row of their task, one row per source, with the name of their D4RL data set.
    Returns of several tasks are never averaged: they have no common unit.
    """
    methods = [method.name for method in grid.methods]
    every = [run for m in methods for task in grid.tasks for run in results.of(m, task)]
    scored = all(run.config["reference_returns"] is not None for run in every)
    # Returns of a task with a total reward of 1, and measures of models, need more digits than scores.
    fine = all(
        r.config["reference_returns"] is None and (r.headline != RETURN or abs(r.score) < 2)
        for r in every
    )
    digits = 3 if fine else 1
    lower = [run.headline.name for run in every if not run.headline.higher_is_better]
    rows: list[list[str]] = []
    best: list[tuple[int, int]] = []

    def mark(means: Sequence[float | None]) -> None:
        """Marks the best values of the last row; None if a method has no value."""
        known = [mean for mean in means if mean is not None]
        if len(known) > 1:
            first = min(known) if lower else max(known)
            best.extend((len(rows) - 1, 1 + i) for i, mean in enumerate(means) if mean == first)

    for task in _tasks_with_results(grid, results):
        found = [results.of(method, task) for method in methods]
        cells = [_cell([run.score for run in runs], grid.seeds, digits) for runs in found]
        rows.append([f"{task} ({_data(found)})", *cells])
        mark([_mean([run.score for run in runs]) for runs in found])
        held_out = [[run for run in runs if run.has_held_out] for runs in found]
        if any(held_out):
            cells = [
                _cell([run.held_out_score for run in runs], grid.seeds, digits) for runs in held_out
            ]
            rows.append([f"{task}, held-out levels", *cells])
            mark([_mean([run.held_out_score for run in runs]) for runs in held_out])
        rows += _published(task, methods, figures)
    if _comparable(grid, results) and (scored or len(grid.tasks) == 1):
        matrices = [results.matrix(method, grid.tasks) for method in methods]
        iqms = [statistics.bootstrap_interval(statistics.iqm, m, seed=0) for m in matrices]
        shown = [
            f"{iqm.point:.{digits}f} [{iqm.low:.{digits}f}, {iqm.high:.{digits}f}]" for iqm in iqms
        ]
        over = "over tasks" if len(grid.tasks) > 1 else "over seeds"
        rows.append([f"IQM {over} [95 %]", *shown])
        mark([iqm.point for iqm in iqms])
    lengths = sorted({job.config.updates for _, job in grid.jobs(Path())})
    length = " or ".join(f"{updates:,}" for updates in lengths) + " updates"
    if grid.steps is not None:
        length = f"{grid.steps:,} environment steps"
    named = {"score" if run.config["reference_returns"] else run.headline.title for run in every}
    what = " or ".join(sorted(named)).capitalize() or "Score"
    seeds = "1 seed" if grid.seeds == 1 else f"{grid.seeds} seeds"
    title = f"{what} after {length}, mean ± std of {seeds}"
    unequal = any(0 < len(results.of(m, t)) != grid.seeds for m in methods for t in grid.tasks)
    notes = [f"In brackets: the number of seeds if it is not {grid.seeds}."] if unequal else []
    return Section(
        title, ["task (data)", *methods], rows, notes + _stopped(every) + _ends(every), best
    )


def _mean(scores_of_seeds: Sequence[float]) -> float | None:
    return float(np.mean(scores_of_seeds)) if scores_of_seeds else None


def _stopped(runs: Sequence[Result]) -> list[str]:
    """A note with the number of runs that a callback ended early, if there are any."""
    count = sum(RunFolder(run.folder).stopped() is not None for run in runs)
    return [f"A callback ended {count} of {len(runs)} runs early."] if count else []


def _ends(runs: Sequence[Result]) -> list[str]:
    """A note with the environment steps at the end of each method's runs; none if they are equal on every task."""
    of_task: dict[str, set[int]] = {}
    of_method: dict[str, set[int]] = {}
    for run in runs:
        if (steps := EnvSteps.saved(run.config)) is not None:
            stopped = RunFolder(run.folder).stopped()
            end = steps.at(run.config["run"]["updates"] if stopped is None else stopped[0])
            of_task.setdefault(run.task, set()).add(end)
            of_method.setdefault(run.method, set()).add(end)
    if all(len(ends) == 1 for ends in of_task.values()):
        return []
    each = "; ".join(
        f"{method} {' or '.join(f'{end:,}' for end in sorted(ends))}"
        for method, ends in of_method.items()
    )
    return [f"The methods ended at different numbers of environment steps: {each}."]


def _data(found: Sequence[Sequence[Result]]) -> str:
    """Kinds of data of a task, and the number of data sets if methods used different ones."""
    kinds = sorted({run.data_kind for runs in found for run in runs})
    hashes: dict[int, set[str]] = {}
    for run in (run for runs in found for run in runs):
        if run.config["data"] and (sha256 := run.config["data"].get("sha256")):
            hashes.setdefault(run.seed, set()).add(sha256)
    sets = max(map(len, hashes.values()), default=0)
    return ", ".join(kinds) + (f", {sets} different data sets" if sets > 1 else "")


def _published(task: str, methods: list[str], figures: Sequence[Figure]) -> list[list[str]]:
    """Published scores of a task's data set, one row per source that has one of the methods."""
    found: dict[tuple[str, str], dict[str, str]] = {}
    for figure in figures:
        if re.fullmatch(rf"{re.escape(task)}-v\d", figure.task) and figure.method in methods:
            std = "" if figure.std is None else f" ± {figure.std:.1f}"
            row = found.setdefault((figure.task, figure.source), {})
            row[figure.method] = f"{figure.value:.1f}{std}"
    return [
        [f"{data} (d4rl), {source}", *(row.get(method, "-") for method in methods)]
        for (data, source), row in found.items()
    ]


def _cell(scores_of_seeds: Sequence[float], seeds: int, digits: int) -> str:
    if not scores_of_seeds:
        return "-"
    means, deviations = statistics.mean_and_std(np.array(scores_of_seeds)[:, None])
    number = "" if len(scores_of_seeds) == seeds else f" ({len(scores_of_seeds)})"
    return f"{means[0]:.{digits}f} ± {deviations[0]:.{digits}f}{number}"


def _comparable(grid: Grid, results: Results) -> bool:
    """Whether all runs are complete, with several seeds: methods are compared only on equal terms."""
    pairs = [(method.name, task) for method in grid.methods for task in grid.tasks]
    return grid.seeds > 1 and all(len(results.of(*pair)) == grid.seeds for pair in pairs)


def _improvements(method: str, grid: Grid, results: Results) -> Section:
    """Probability that a run of the paper's method beats a run of another on the same task."""
    title = f"Probability that a run of {method} beats one of another method"
    others = [other.name for other in grid.methods if other.name != method]
    rows = []
    # A paper may have grids without its own method.
    if _comparable(grid, results) and len(others) < len(grid.methods):
        better = 1 if results.of(method, grid.tasks[0])[0].headline.higher_is_better else -1
        mine = better * results.matrix(method, grid.tasks)
        for other in others:
            found = statistics.bootstrap_interval(
                statistics.probability_of_improvement,
                mine,
                better * results.matrix(other, grid.tasks),
                seed=0,
            )
            rows.append([other, f"{found.point:.2f} [{found.low:.2f}, {found.high:.2f}]"])
    return Section(title, ["method", f"P on {', '.join(grid.tasks)} [95 %]"], rows)


def _claims(paper: Paper, scale: Scale, results: Results) -> Section:
    rows = []
    for claim in paper.claims:
        word, evidence = judge(claim, scale, results)
        rows.append([claim.name, word, claim.text, claim.criterion, evidence])
    return Section("Claims", ["claim", "verdict", "the paper says", "criterion", "ours"], rows)


def _about(paper: Paper, scale: Scale, results: Results) -> Section:
    notes = [f"{paper.title}. {paper.reference}"]
    notes += [paper.notes] if paper.notes else []
    if results.all:
        counts = sorted({result.count for result in results.all})
        seconds = sum(result.seconds for result in results.all)
        notes.append(
            f"{len(results.all)} runs, the last checkpoint of each, "
            f"{' or '.join(map(str, counts))} {_units(results.all)}; {duration(seconds)} of "
            "computing in all. `generated` data are recorded by this suite and are not D4RL's."
        )
    notes.append(f"Made by: rlbench table {paper.name} --scale {scale}")
    return Section("About", [], [], notes)


def _units(results: Sequence[Result]) -> str:
    """The unit of the evaluations: episodes or examples."""
    returns = {result.headline == RETURN for result in results}
    words = {True: "evaluation episodes", False: "test examples"}
    return " or ".join(words[x] for x in sorted(returns, reverse=True))


def _scoreboard(asked: TableConfig) -> Section:
    """One row per paper: completed runs, claims that hold, time."""
    rows = []
    for name in PAPERS:
        paper = load_paper(name)
        folder = asked.out / f"{name}-{asked.scale}"
        results = collect(paper, asked.scale, folder)
        words = [judge(claim, asked.scale, results)[0] for claim in paper.claims]
        # Claims that are only reported neither hold nor fail.
        judged = [word for word in words if word not in ("not at this scale", "reported")]
        holding = judged.count("holds")
        works = holding == len(judged) and bool(judged or results.all)
        state = "works" if works else "partly" if results.all else "not yet"
        taken = sum(result.seconds for result in results.all)
        left = len(unfinished([job for _, job in paper.jobs(asked.scale, folder)]))
        total = len(results.all) + left
        time_needed = duration(taken) if not left else f"about {paper.minutes[asked.scale]:.0f} min"
        rows.append(
            [
                name,
                state,
                f"{holding} of {len(judged)}",
                f"{len(results.all)} of {total}",
                time_needed,
            ]
        )
    header = ["paper", "state", "judged claims that hold", "runs", "time"]
    return Section(f"All papers, {asked.scale} scale", header, rows)
