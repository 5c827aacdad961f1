"""Records a run while it is trained: log lines, evaluations, snapshots, checkpoints; feeds its loggers and callbacks."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from rlbench.benchmarks.loggers._group import Loggers
from rlbench.benchmarks.training.callbacks import Callbacks
from rlbench.benchmarks.training.config import RunConfig
from rlbench.benchmarks.training.evaluation import Evaluator
from rlbench.benchmarks.training.formats import HELD_OUT, TRAIN
from rlbench.benchmarks.training.logged import in_group, means_of
from rlbench.benchmarks.training.progress import ProgressLine
from rlbench.benchmarks.training.run_folder import RunFolder
from rlbench.benchmarks.training.steps import EnvSteps
from rlbench.callbacks import Progress
from rlbench.envs.tasks import Task
from rlbench.errors import CannotWrite, Diverged, Interrupted, Unsuited, UserError
from rlbench.interface import Learner, Model
from rlbench.measures import RETURN, Measure
from rlbench.seeding import derive

Array = NDArray[Any]

FAR = 0.3
"""Divergence of a new policy from the old one, in nats, above which the log reports the update."""


class Recorder:
    """Logs, evaluates, saves and stops as due; it is called after each update."""

    def __init__(
        self,
        config: RunConfig,
        learner: Learner,
        task: Task,
        folder: RunFolder,
        evaluators: Sequence[Evaluator],
        line: ProgressLine,
        loggers: Loggers,
        callbacks: Callbacks,
        first: int = 0,
        resume_option: str = "",
        env_steps: EnvSteps | None = None,
        until: int | None = None,
    ) -> None:
        """Begins after update `first`, which is above 0 in a resumed run; see `resume_option`, `env_steps` and `until` of `Run`."""
        self._config, self._learner, self._task = config, learner, task
        self._folder, self._evaluators, self._line = folder, evaluators, line
        self._loggers, self._callbacks = loggers, callbacks
        self._stopped = ""
        """Why a callback ended the run; empty if none did."""
        self._update, self._first, self._resume_option = first, first, resume_option
        self._env_steps, self._until = env_steps, until
        self._before, self._start, self._evaluating = folder.seconds(), time.monotonic(), 0.0

    def after(
        self,
        update: int,
        metrics: Mapping[str, Tensor],
        driver_state: Callable[[], dict[str, Any]],
        *,
        stopping: bool,
    ) -> bool:
        """Does what is due after an update.

        Args:
            update: Number of the update, from 1.
            metrics: Metrics of the update.
            driver_state: State of the driver, for a checkpoint.
            stopping: Whether the user asked the run to save and stop.

        Returns:
            Whether this was the last update: the last of the run, or the one after which a callback ended it.

        Raises:
            UserError: A metric or a weight is not finite.
            Interrupted: The run was stopped on request and is saved.
        """
        config, folder, line = self._config, self._folder, self._line
        self._update = update
        last = update == config.updates
        self._name_far_update(metrics)
        if self._due(config.log_every) or last:
            self._log(self._finite(metrics))
            last |= bool(self._stopped)
        if self._due(config.eval_every) or last:
            self._finite(metrics)
            self._check_state(self._learner.state_dict())
            line.advance(update)
            start = time.monotonic()
            line.report(self._evaluate())
            for note in filter(None, (evaluator.note() for evaluator in self._evaluators)):
                line.say(note)
            self._evaluating += time.monotonic() - start
            last |= bool(self._stopped)
        if self._due(config.snapshot_every):
            self._finite(metrics)
            learned = self._learner.state_dict()
            self._check_state(learned)
            folder.save_snapshot(update, learned)
        if self._due(config.checkpoint_every) or last or stopping or update == self._until:
            self._finite(metrics)
            state: dict[str, Any] = {
                "learner": self._learner.state_dict(),
                "driver": driver_state(),
            }
            if self._callbacks:
                state["callbacks"] = self._callbacks.state_dict()
            if self._stopped:
                state["stopped"] = self._stopped
            self._check_state(state["learner"])
            # Seeds that learn together resume from the last checkpoint that they all have.
            folder.save_checkpoint(update, state, keep=1 if config.seeds == 1 or last else 2)
        if self._stopped:
            line.say(f"a callback ended the run after update {update:,}: {self._stopped}")
        if stopping and not last:
            raise stopped(update, folder.path, self._resume_option)
        if update % 10 == 0:
            line.advance(update)
        return last

    def _name_far_update(self, metrics: Mapping[str, Tensor]) -> None:
        """Reports an update that moved the policy far, which is how on-policy agents lose what they learned."""
        if "kl_update" in metrics and metrics["kl_update"] > FAR:
            end = ", so it was undone" if metrics["undone"] else ""
            self._line.say(
                f"update {self._update:,} moved the policy far (KL {metrics['kl_update']:.2f}){end}"
            )

    def _log(self, metrics: Mapping[str, float]) -> None:
        """Logs the metrics of the update and the speeds."""
        seconds = time.monotonic() - self._start
        rates, steps = self._rates(seconds - self._evaluating), self._steps_at(self._update)
        self._folder.log(self._update, metrics, rates, self._before + seconds, steps)
        self._loggers.add(
            self._update, in_group("train", metrics) | in_group("speed", rates), steps
        )
        if self._callbacks:
            progress = self._progress(metrics)
            self._note(self._callbacks.on_log(progress))
            self._end_if_asked(progress)

    def reads_learner(self, update: int, *, stopping: bool) -> bool:
        """Whether `after` will evaluate or save the learner after this update."""
        config = self._config
        every = (config.eval_every, config.snapshot_every, config.checkpoint_every)
        return stopping or update == config.updates or any(x > 0 and update % x == 0 for x in every)

    def _steps_at(self, update: int) -> int | None:
        return None if self._env_steps is None else self._env_steps.at(update)

    def _rates(self, seconds: float) -> dict[str, float]:
        """Updates, and environment steps if there are any, per second since the start."""
        rates = {"updates_per_second": (self._update - self._first) / seconds}
        if self._env_steps is not None:
            taken = self._env_steps.at(self._update) - self._env_steps.at(self._first)
            rates["env_steps_per_second"] = taken / seconds
        return rates

    def _due(self, every: int) -> bool:
        return every > 0 and self._update % every == 0

    def _finite(self, metrics: Mapping[str, Tensor]) -> dict[str, float]:
        """The metrics as numbers; a UserError if one is not finite."""
        values = {name: float(value) for name, value in metrics.items()}
        for name, value in values.items():
            if not math.isfinite(value):
                raise self.diverged(f"{name} became {value}")
        return values

    def _check_state(self, state: Mapping[str, Any]) -> None:
        """Refuses a state of the learner that is not finite."""
        for name, value in state.items():
            if not _is_finite(value):
                raise self.diverged(f"a number in the learner's {name} became nan or infinite")

    def diverged(self, what: str) -> Diverged:
        """The error for a learner with a value that is not finite; `what` describes the value."""
        saved = self._folder.checkpoints()
        kept = (
            f"its checkpoint of update {saved[-1]:,}"
            if saved
            else "no checkpoint yet, only its log"
        )
        return Diverged(
            f"{what} by update {self._update:,}, so the run was stopped; a smaller learning rate or "
            f"smaller {'inputs' if isinstance(self._learner, Model) else 'rewards'} may help; "
            f"{self._folder.path} holds {kept}"
        )

    def _evaluate(self) -> str:
        seed = derive(self._config.seed, "evaluation", self._update)
        columns: dict[str, Array] = {}
        for evaluator in self._evaluators:
            columns |= evaluator.columns(self._learner, seed)
        self._folder.add_evaluation(self._update, columns)
        values = means_of(columns, self._task)
        self._loggers.add(self._update, in_group("eval", values), self._steps_at(self._update))
        if self._callbacks:
            progress = self._progress(values, columns)
            self._note(self._callbacks.on_evaluation(progress, self._learner))
            self._end_if_asked(progress)
        seed_in_words = f"seed {self._config.seed}, " if self._config.seeds > 1 else ""
        text = describe(self._task, type(self._learner), columns)
        return f"{seed_in_words}update {self._update:,}: {text}"

    def _progress(
        self, values: Mapping[str, float], columns: Mapping[str, Array] | None = None
    ) -> Progress:
        """What callbacks are given; copies, so that they cannot change what is recorded."""
        config, copies = self._config, {k: x.copy() for k, x in (columns or {}).items()}
        return Progress(
            update=self._update, updates=config.updates, env_steps=self._steps_at(self._update),
            values=dict(values), columns=copies, seed=config.seed, task=self._task, folder=self._folder.path,
        )  # fmt: skip

    def _note(self, values: Mapping[str, float]) -> None:
        """Logs what callbacks returned."""
        if values:
            self._folder.log_callbacks(self._update, values)
            self._loggers.add(
                self._update, in_group("callback", values), self._steps_at(self._update)
            )

    def _end_if_asked(self, progress: Progress) -> None:
        """Ends the run if a callback asked for it; seeds that learn together end together."""
        if not progress.reason or self._stopped:
            return
        if self._config.seeds > 1:
            self._line.say(
                f"note: a callback asked to stop seed {self._config.seed} ({progress.reason}), but seeds that learn together "
                "end together, so it continues"
            )
            return
        self._stopped = progress.reason


def _is_finite(value: Any) -> bool:
    """Whether all numbers in nested dicts and lists of tensors and plain values are finite."""
    if isinstance(value, Mapping):
        return all(map(_is_finite, value.values()))
    if isinstance(value, list | tuple):
        return all(map(_is_finite, value))
    if isinstance(value, Tensor):
        return not value.is_floating_point() or bool(value.isfinite().all())
    return not isinstance(value, float) or math.isfinite(value)


def stopped(update: int, path: Path, option: str = "") -> Interrupted:
    """Explains how to resume runs that the user stopped.

    Args:
        update: The last update that is saved; 0 if none.
        path: Folder to resume.
        option: See `Run.resume_option`.
    """
    where = f"and saved at update {update:,}" if update else "before the first checkpoint"
    how = "resume with" if update else "start again with"
    return Interrupted(f"stopped {where}; {how} `rlbench run --resume {quote(str(path))}{option}`")


@contextmanager
def resumable(folders: Sequence[RunFolder], path: Path, option: str = "") -> Iterator[None]:
    """Adds to an error that ends the training of runs how to resume them from their last common checkpoint."""
    try:
        yield
    except (Diverged, Unsuited):  # Resuming would repeat it.
        raise
    except UserError as error:
        if not all((folder.path / "config.json").exists() for folder in folders):
            raise
        saved = max(set.intersection(*({0, *folder.checkpoints()} for folder in folders)))
        reason = error.reason if isinstance(error, CannotWrite) else str(error)
        command = f"rlbench run --resume {quote(str(path))}{option}"
        raise UserError(f"{reason}; afterwards `{command}` continues from update {saved:,}") from (
            error.__cause__ or error
        )


def describe(task: Task, learner: type[Learner], columns: Mapping[str, Array]) -> str:
    """Describes one evaluation with every measure, for the user."""
    measures = learner.measures
    if measures[0] == RETURN:
        return describe_returns(task, columns[RETURN.name], columns.get(HELD_OUT + RETURN.name))
    parts = {"": "", TRAIN: "training examples: "}
    parts |= {f"{other.name}/": f"{other.name}: " for other in task.unseen}
    return "; ".join(
        f"{part}{_means(measures, columns, prefix)} {learner.measured}"
        for prefix, part in parts.items()
        if prefix + measures[0].name in columns
    )


def _means(measures: Sequence[Measure], columns: Mapping[str, Array], prefix: str) -> str:
    """Describes the mean of each measure and the number of rows of the columns."""
    found = [(m, columns[prefix + m.name]) for m in measures if prefix + m.name in columns]
    parts = [
        f"{measure.name} {column.mean():.3f}" + (f" {measure.unit}" if measure.unit else "")
        for measure, column in found
    ]
    # A measure of all examples at once has one row; the other columns have one for each example.
    rows = max(
        len(column)
        for name, column in columns.items()
        if name.startswith(prefix) and "/" not in name.removeprefix(prefix)
    )
    return f"{', '.join(parts)} over {rows:,}"


def describe_returns(
    task: Task, returns: NDArray[np.float64], held_out: NDArray[np.float64] | None = None
) -> str:
    """Describes score, return, number of episodes and share of solved episodes, for the user."""
    digits = 1 if abs(returns).max() >= 10 else 3
    text = f"return {returns.mean():,.{digits}f} ± {returns.std():,.{digits}f}"
    text += f" over {len(returns)} episode{'s' if len(returns) > 1 else ''}"
    score = task.score(float(returns.mean()))
    if score is not None:
        text = f"score {score:.1f} ({text})"
    if task.solved_above is not None:
        text += f", solved {100 * (returns > task.solved_above).mean():.0f} %"
    if held_out is not None and task.held_out is not None:
        text += f"; held out: {describe_returns(task.held_out, held_out)}"
    return text
