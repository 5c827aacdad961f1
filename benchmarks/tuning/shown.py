"""The trials of a study as a table, and its plots in a report."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from inspect import signature
from pathlib import Path

from rlbench.benchmarks.tables.curves import Curve, Plot, Tick, plot
from rlbench.benchmarks.tables.paper import run_name
from rlbench.benchmarks.tables.sheet import Section
from rlbench.benchmarks.tables.statistics import Interval
from rlbench.benchmarks.tuning.description import Description, study_folders
from rlbench.benchmarks.tuning.spaces import written
from rlbench.benchmarks.tuning.study import Study, Trial, load_optuna
from rlbench.errors import UserError
from rlbench.terminal import say

FEWEST = 10
"""Complete trials from which on the importance of settings is shown."""
TOP, TOP_SHARE = 5, 0.1
"""Number and share of the trials that count as good when importance is computed; the larger group is taken."""
BAR = 20
"""Height of a bar with the space around it, in pixels."""
NAMES = 150
"""Width of the names next to the bars, in pixels."""


@dataclass(frozen=True)
class ShownStudy:
    """What a report shows of a study."""

    section: Section
    plots: list[Plot]
    hidden: frozenset[str]
    """Names of the run folders that the report leaves out: all but those of the first trial and of the best."""
    folder: Path


def in_words(trial: Trial, study: Description) -> str:
    """A trial that has ended, for the user.

    >>> from rlbench.measures import RETURN
    >>> study = Description("td3", "point-random", {}, {}, (), 2, 0, True, 4, RETURN)
    >>> in_words(Trial(3, {"discount": 0.9}, "pruned", {1: -20.0}), study)
    'trial 3 pruned at 25 %: return -20; discount=0.9'
    """
    settings = ", ".join(f"{name}={written(value)}" for name, value in trial.settings.items())
    result = trial.why if trial.value is None else f"{study.measure.name} {_number(trial.value)}"
    return f"trial {trial.number} {_state(trial, study)}: {result}; {settings}"


def trials_section(study: Description, trials: Study) -> Section:
    """The table of all trials."""
    found, best = trials.trials, trials.best
    names = [one.name for one in study.searched]
    rows = [
        [
            str(trial.number), _state(trial, study),
            "-" if trial.value is None else _number(trial.value),
            *(written(trial.settings[name]) for name in names),
        ]
        for trial in found
    ]  # fmt: skip
    better = "higher" if study.measure.higher_is_better else "lower"
    seeds = "1 seed" if study.seeds == 1 else f"{study.seeds} seeds"
    notes = [
        f"{study.measure.title}: mean of {seeds} in the last evaluation, {better} is better; of a pruned trial, when it ended.",
        "The best of many trials did well partly by chance; train it with other seeds for its real result.",
    ]
    notes += [f"Trial {x.number} failed: {x.why}" for x in found if x.state == "failed"]
    if best is not None:
        notes.insert(0, f"Best: trial {best.number}.")
    marked = [(best.number, column) for column in (0, 2)] if best else []
    title = f"Trials of {study.learner} on {study.task}"
    return Section(title, ["trial", "state", study.measure.title, *names], rows, notes, marked)


def shown_studies(folders: Sequence[Path]) -> Iterator[ShownStudy]:
    """The studies in folders, for a report; damaged ones, and all if Optuna is not installed, are named and left out."""
    for folder in study_folders(folders):
        try:
            yield _shown(folder)
        except UserError as error:
            say(f"note: the study in {folder} is left out: {error}")


def _shown(folder: Path) -> ShownStudy:
    study = Description.kept(folder)
    trials = study.study(folder)
    found, best = trials.trials, trials.best
    keep = {0} if best is None else {0, best.number}
    hidden = frozenset(
        run_name(f"trial {trial.number}", study.task, seed)
        for trial in found
        if trial.number not in keep
        for seed in range(study.seeds)
    )
    complete = [trial for trial in found if trial.state == "complete"]
    plots = [_history(study, complete)] if complete else []
    section = trials_section(study, trials)
    importances = _importances(trials, len(complete))
    if importances:
        plots.append(_bars("importance of the settings", "share of the importance", importances))
    else:
        section.notes.append(
            f"The importance of the settings is shown from {FEWEST} complete trials on; there are {len(complete)}."
        )
    return ShownStudy(section, plots, hidden, folder)


def _history(study: Description, complete: Sequence[Trial]) -> Plot:
    """The value of each complete trial, and the best up to it."""
    better = max if study.measure.higher_is_better else min
    values = [(trial.number, float(trial.value or 0.0)) for trial in complete]
    best = [
        (number, better(value for _, value in values[: place + 1]))
        for place, (number, _) in enumerate(values)
    ]
    curves = [
        (name, colour, [(number, Interval(value, value, value)) for number, value in line])
        for colour, (name, line) in enumerate((("complete trials", values), ("best so far", best)))
    ]
    return plot(f"{study.learner} on {study.task}: {study.measure.title}", "trial", curves)


def _importances(trials: Study, complete: int) -> dict[str, float]:
    """Share of each setting in the importance, by PED-ANOVA, which needs no further package; empty for few trials.

    Watanabe et al., 2023, https://arxiv.org/abs/2304.10255
    """
    if complete < FEWEST:
        return {}
    importance = load_optuna().importance
    share = max(TOP_SHARE, TOP / complete)
    kind = importance.PedAnovaImportanceEvaluator
    # The argument was renamed within Optuna 4.
    (name,) = {"target_quantile", "baseline_quantile"} & signature(kind).parameters.keys()
    evaluator = kind(**{name: share})
    found: dict[str, float] = importance.get_param_importances(trials.optuna, evaluator=evaluator)
    return {name.removeprefix("1 - "): value for name, value in found.items()}


def _bars(title: str, x_label: str, values: dict[str, float]) -> Plot:
    """A horizontal bar from 0 for each of some shares, the first one on top."""
    left, right, bottom = NAMES, NAMES + 220, BAR * len(values) + 8
    bars, names = [], []
    for place, (name, value) in enumerate(values.items()):
        top = place * BAR + 8
        end, low = left + (right - left) * value, top + BAR - 6
        corners = f"{left},{top} {end:g},{top} {end:g},{low} {left},{low}"
        bars.append(Curve(f"{name}: {value:.2f}", 0, corners, corners))
        names.append(Tick((top + low) / 2, name))
    ticks = [Tick(left + (right - left) * share, f"{share:g}") for share in (0, 0.5, 1)]
    return Plot(
        title, x_label, bars, ticks, names,
        width=right + 20, height=bottom + 40, left=left, right=right, bottom=bottom,
    )  # fmt: skip


def _state(trial: Trial, study: Description) -> str:
    if trial.state != "pruned":
        return trial.state
    return f"pruned at {100 * max(trial.curve) / study.stages:.0f} %"


def _number(value: float) -> str:
    return f"{value:,.1f}" if abs(value) >= 100 else f"{value:.4g}"
