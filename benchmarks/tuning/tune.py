"""`rlbench tune`: a search for the settings with which a learner does best on a task."""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from shlex import quote
from typing import Annotated, Any

import tyro

from rlbench.backbones.ranges import check
from rlbench.benchmarks.commands import listing
from rlbench.benchmarks.tables.executors import Execution, executing
from rlbench.benchmarks.tables.table import conclude
from rlbench.benchmarks.training.config import RunConfig
from rlbench.benchmarks.training.learners import load_learner
from rlbench.benchmarks.training.lengths import steps_of
from rlbench.benchmarks.training.loading import learner_for
from rlbench.benchmarks.training.progress import ProgressLine
from rlbench.benchmarks.training.run_folder import folder_name
from rlbench.benchmarks.tuning.description import BEST, Description
from rlbench.benchmarks.tuning.shown import in_words, trials_section
from rlbench.benchmarks.tuning.spaces import searched, written
from rlbench.benchmarks.tuning.study import Study, Trial, load_optuna, repair
from rlbench.benchmarks.tuning.training import Training, stage_ends
from rlbench.envs.tasks import find_task
from rlbench.errors import Interrupted, RunsFailed, UserError
from rlbench.files import only_one, write_atomically
from rlbench.terminal import Terminal

MOST_FAILURES = 5
"""Trials that fail one after the other before the study stops, because then the cause is hardly in their settings."""
SEARCH = (
    "Settings to search, each with values or alone, as in discount learning-rate=1e-5..1e-2 batch-size=64,128,256 hidden=64x64,256x256. "
    "A setting alone is searched around its default. By default: the learning rates, the discount and the batch size that are not "
    "given on the command line."
)


@dataclass(frozen=True)
class TuneConfig:
    """Search for the settings with which a learner does best on a task, with Optuna. All others are the same in every trial."""

    search: Annotated[tuple[str, ...], tyro.conf.arg(help=SEARCH)] = ()
    trials: int = 30
    """Trials in all, of which the first has the defaults; a larger number extends a finished study."""
    seeds: int = 2
    """Runs of each trial, with the seeds from 0 on; the mean of their last evaluations counts."""
    prune: bool = True
    """End a trial if its mean falls below the median of the complete trials; it needs several evaluations in a run, see --eval-every."""
    seed: int = 0
    """Seed of the search."""
    out: Path | None = None
    """Folder of the study (default: runs/tune-LEARNER-TASK); the same command resumes a stopped study."""
    execution: Annotated[Execution, tyro.conf.arg(name="")] = field(default_factory=Execution)
    """Where the runs are executed."""

    def __post_init__(self) -> None:
        """Refuses options of a wrong type or out of range."""
        check(self)


def overview(words: Sequence[str]) -> None:
    """Prints what the command does, for `rlbench tune` without a learner.

    Raises:
        UserError: There is neither a learner nor --help.
    """
    if not words or words[0] not in ("-h", "--help"):
        raise UserError("give an agent or a model first: rlbench tune td3 --env point-random")
    print("usage: rlbench tune LEARNER --env TASK [SETTINGS]\n")
    print(TuneConfig.__doc__)
    print("\nOptions, and settings of a learner: rlbench tune td3 --help")


def make(
    learner: str, settings: Any, config: RunConfig, asked: TuneConfig, *, steps: int | None, trust: bool
) -> None:  # fmt: skip
    """Runs the trials that are missing, prints all of them, and stores the best settings.

    Args:
        learner: As in `rlbench list`.
        settings: Its settings.
        config: Options of the runs.
        asked: Options of the study.
        steps: Length of the runs in environment steps; None: that of `config`.
        trust: Whether the custom code that run folders name may be imported.
    """
    load_optuna()
    study = _described(learner, settings, config, asked, steps, trust)
    out = asked.out or Path("runs") / folder_name(f"tune-{learner}-{config.env}")
    console = Terminal(stderr=True)
    refusal = f"another process works on the study in {out}; wait for it or give another --out"
    with only_one(out / ".lock", refusal):
        study.keep(out)
        repair(out)
        trials = study.study(out)
        _say_what(study, console)
        _keep_best(study, trials, out)
        done = sum(trial.state != "running" for trial in trials.trials)
        title = f"tune {learner} on {config.env}"
        with ProgressLine(console, title, asked.trials, "trials", done) as line:

            def ended(trial: Trial) -> None:
                line.say(in_words(trial, study))
                line.advance(line.done + 1)
                _keep_best(study, trials, out)
                _refuse_failures(trials, out)

            line.advance(done)
            at_once = max(1, asked.execution.at_once // study.seeds)
            try:
                with executing(asked.execution) as run:
                    trials.run(
                        Training(study, out, run, trust=trust), asked.trials,
                        at_once=at_once, stages=study.stages, prune=study.prune, ended=ended,
                    )  # fmt: skip
            except (Interrupted, KeyboardInterrupt):
                raise Interrupted(
                    "stopped; unfinished runs are saved, and the same command resumes the study"
                ) from None
        conclude([trials_section(study, trials)], "terminal", out, [], console)
        if trials.best is None:
            raise RunsFailed("no trial is complete; the notes above say why")
        console.print(f"run the best: {_command(study, out)}", soft_wrap=True)


def _described(
    learner: str,
    settings: Any,
    config: RunConfig,
    asked: TuneConfig,
    steps: int | None,
    trust: bool,
) -> Description:
    """The study that was asked for; see `make`."""
    measures = learner_for(learner, find_task(config.env)).measures
    usual = listing.preset(learner, config.env, config.updates)[2]
    found = tuple(searched(asked.search, learner, settings, usual))
    names = {one.name for one in found}
    own = {x.name: getattr(settings, x.name) for x in fields(settings) if x.name not in names}
    defaults = dataclasses.asdict(RunConfig(env=config.env)) | dict(load_learner(learner).run)
    run = {name: value for name, value in vars(config).items() if value != defaults[name]}
    updates = config.updates
    if steps is not None:
        run["steps"] = steps
        updates = steps_of(steps, learner, settings, config, trust=trust).updates(steps)
    return Description(
        learner=learner,
        task=config.env,
        settings={name: value for name, value in own.items() if value != getattr(usual, name)},
        run=run,
        searched=found,
        seeds=asked.seeds,
        seed=asked.seed,
        prune=asked.prune,
        stages=len(stage_ends(updates, config.eval_every)) if asked.prune else 1,
        measure=measures[0],
    )


def _say_what(study: Description, console: Terminal) -> None:
    """Prints what is searched, and what the user may not expect."""
    for one in study.searched:
        console.print(f"{one.name}: {one.space}; default {written(one.default)}", soft_wrap=True)
        if one.default not in one.space:
            console.print(
                f"note: the default of {one.name} is not searched, so the first trial does not have the defaults",
                soft_wrap=True,
            )
    if study.prune and study.stages == 1:
        console.print(
            "note: each run has one evaluation, so no trial can end early; give a smaller --eval-every",
            soft_wrap=True,
        )


def _keep_best(study: Description, trials: Study, out: Path) -> None:
    """Writes the best settings up to now, if there are any."""
    best = trials.best
    if best is None:
        return
    found = {
        "learner": study.learner,
        "settings": {**study.settings, **best.settings},
        "task": study.task,
        "trial": best.number,
        study.measure.name: best.value,
        "seeds": study.seeds,
    }
    write_atomically(out / BEST, (json.dumps(found, indent=1, default=str) + "\n").encode())


def _refuse_failures(trials: Study, out: Path) -> None:
    """Stops a study in which every trial fails."""
    ended = [trial for trial in trials.trials if trial.state != "running"][-MOST_FAILURES:]
    if len(ended) == MOST_FAILURES and all(trial.state == "failed" for trial in ended):
        raise RunsFailed(
            f"the last {MOST_FAILURES} trials failed, trial {ended[-1].number} because of {ended[-1].why}; correct the cause and "
            f"run the same command again, which makes the trials that are left, or remove {out} first to begin again"
        )


def _command(study: Description, out: Path) -> str:
    """The command that runs the best settings with a seed that the study did not use."""
    words = ["rlbench", "run", study.learner, "--env", study.task, "--settings", str(out / BEST)]
    for name, value in study.run.items():
        words.append(f"--{name.replace('_', '-')}")
        words += map(str, value) if isinstance(value, tuple) else [str(value)]
    return " ".join(map(quote, [*words, "--seed", str(study.seeds)]))
