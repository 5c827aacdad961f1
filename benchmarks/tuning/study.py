"""The trials of a study: which settings are tried next, which trials end early, and what is stored.

Optuna's tree-structured Parzen estimator (Watanabe, 2023, https://arxiv.org/abs/2304.11127) proposes settings from the results of
earlier trials. Its random generator is seeded for each trial, from the seed of the study and the number of the trial, so that
proposals depend on nothing but the earlier trials.

Trials are trained in rounds: in each round every running trial, with all of its seeds, is trained for one more stage, which ends with an
evaluation. Optuna's median pruner then ends a trial whose best mean up to now is worse than the median of the complete trials at
the same stage. It needs no more than a handful of complete trials; Hyperband would divide them among brackets whose trials it
does not compare, and pays off with hundreds of trials only.

All decisions of a round are stored by a single write before any of them takes effect. So a study that is killed and resumed
makes the same decisions and tries the same settings as one that was never killed, provided that equal runs have equal results.
"""

import logging
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

from rlbench.benchmarks.tuning.spaces import Choice, Searched
from rlbench.errors import UserError
from rlbench.seeding import derive

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

JOURNAL = "journal.log"
"""File in the folder of a study in which Optuna stores the trials."""
NAME = "rlbench"
"""Name of the study in that file."""
DAMAGED = (ValueError, KeyError, TypeError, AttributeError, IndexError, AssertionError)
"""What Optuna may raise when it reads a damaged file."""
STARTUP = 10
"""Trials with random settings, the defaults included, before the first proposal from results; Optuna's default."""
ATTEMPTS = 100
"""Proposals for one trial, of which the first is taken that no earlier trial has."""
UNPRUNED = 5
"""Complete trials before the first one is pruned; Optuna's default."""

State = Literal["complete", "pruned", "failed", "running"]
Outcome = float | str
"""Mean of the measure over the seeds of a trial at the end of a stage; or why one of its runs failed, in a sentence."""


@dataclass(frozen=True)
class Trial:
    """A trial of a study."""

    number: int
    settings: Mapping[str, Any]
    """The searched settings."""
    state: State
    curve: Mapping[int, float]
    """Mean of the measure over the seeds at the end of each stage, by the number of the stage."""
    why: str = ""
    """Why it failed, in a sentence."""

    @property
    def value(self) -> float | None:
        """The last mean of a trial that is complete or pruned."""
        ended = self.state in ("complete", "pruned") and self.curve
        return self.curve[max(self.curve)] if ended else None


Train = Callable[[Sequence[tuple[Trial, int]]], Sequence[Outcome]]
"""Trains trials up to the end of a stage each; a call that is repeated has the same outcomes."""


def load_optuna() -> ModuleType:
    """The package Optuna, which prints nothing but errors.

    Raises:
        UserError: It is not installed.
    """
    try:
        import optuna
    except ModuleNotFoundError:
        raise UserError(
            "studies need the package optuna; install it with pip install 'rlbench[tune]'"
        ) from None
    optuna.logging.set_verbosity(logging.ERROR)
    # In Optuna 4 some options of its sampler and PED-ANOVA are experimental.
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    return optuna


class Study:
    """The trials in the folder of a study."""

    def __init__(
        self, folder: Path, searched: Sequence[Searched], seed: int, *, maximise: bool
    ) -> None:
        """Opens or begins a study.

        Args:
            folder: Its folder.
            searched: The settings that it searches.
            seed: Seed of its proposals.
            maximise: Whether higher values are better.

        Raises:
            UserError: The file with its trials is damaged.
        """
        self._optuna = load_optuna()
        self._searched, self._seed = searched, seed
        self._direction = "maximize" if maximise else "minimize"
        journal = self._optuna.storages.journal.JournalFileBackend(str(folder / JOURNAL))
        try:
            storage = self._optuna.storages.JournalStorage(journal)
        except DAMAGED:
            raise UserError(
                f"{folder / JOURNAL} is damaged; restore it from a copy, or give another --out"
            ) from None
        pruner = self._optuna.pruners.MedianPruner(n_startup_trials=UNPRUNED)
        try:
            self.optuna = self._optuna.load_study(study_name=NAME, storage=storage, pruner=pruner)
        except KeyError:
            self.optuna = self._optuna.create_study(
                study_name=NAME, storage=storage, pruner=pruner, direction=self._direction
            )
        """The study as an `optuna.Study`."""

    @property
    def trials(self) -> list[Trial]:
        """All trials that have settings, in order."""
        return [
            self._trial(trial) for trial in self.optuna.get_trials(deepcopy=False) if trial.params
        ]

    @property
    def best(self) -> Trial | None:
        """The complete trial with the best value, the earliest if there are several; None before the first."""
        complete = [trial for trial in self.trials if trial.state == "complete"]
        if not complete:
            return None
        sign = 1 if self._direction == "maximize" else -1
        return max(complete, key=lambda trial: sign * float(trial.value or 0.0))

    def run(
        self,
        train: Train,
        count: int,
        *,
        at_once: int,
        stages: int,
        prune: bool,
        ended: Callable[[Trial], None],
    ) -> None:
        """Runs trials until there are `count`, failed and pruned ones included, or nothing is left to try.

        No other process may write to the folder meanwhile.

        Args:
            train: See `Train`.
            count: Number of trials.
            at_once: Trials in one round.
            stages: Stages of a trial.
            prune: Whether bad trials end early.
            ended: Called with each trial that has ended.
        """
        while True:
            self._apply_decisions(stages, ended)
            running = self._running(count, at_once)
            if not running:
                return
            reached = self._decisions()
            asked = [(trial, int(reached.get(str(trial.number), 0)) + 1) for trial in running]
            self._decide(asked, train(asked), stages, prune=prune)

    def _running(self, count: int, at_once: int) -> list[Trial]:
        """The running trials, after new ones have taken the places of those that have ended."""
        while True:
            found = self.optuna.get_trials(deepcopy=False)
            running = [trial for trial in found if not trial.state.is_finished()]
            for trial in running:
                # A kill may have interrupted the beginning of a trial; its settings are known.
                if len(trial.params) < len(self._searched):
                    self._begin(trial)
            if len(running) >= at_once or len(found) >= count or self._exhausted():
                return [trial for trial in self.trials if trial.state == "running"]
            # A single write, so that a kill leaves all settings of a trial or no trial.
            self.optuna.enqueue_trial(self._proposal(len(found)))

    def _begin(self, trial: "FrozenTrial") -> None:
        """Begins a trial with the settings that it was stored with."""
        waiting = trial.state == self._optuna.trial.TrialState.WAITING
        begun = self.optuna.ask() if waiting else self._opened(trial.number)
        for one in self._searched:
            one.suggest(begun)

    def _proposal(self, number: int) -> dict[str, Any]:
        """The settings of the next trial, as Optuna stores them: the defaults, then settings that no earlier trial has."""
        if number == 0 and all(one.default in one.space for one in self._searched):
            return {one.parameter: one.start for one in self._searched}
        sampler = self._optuna.samplers.TPESampler(
            n_startup_trials=STARTUP, multivariate=True, constant_liar=True,
            seed=derive(self._seed, "trial", number),
        )  # fmt: skip
        # A copy in memory, because Optuna writes each setting that it proposes at once.
        copy = self._optuna.create_study(direction=self._direction, sampler=sampler)
        copy.add_trials(self.optuna.get_trials(deepcopy=False))
        tried = [trial.settings for trial in self.trials]
        for _ in range(ATTEMPTS):
            trial = copy.ask()
            if {one.name: one.suggest(trial) for one in self._searched} not in tried:
                break
        proposed: dict[str, Any] = trial.params
        return proposed

    def _exhausted(self) -> bool:
        """Whether there are only choices, and every combination of them has been tried."""
        spaces = [one.space for one in self._searched]
        sizes = [len(space.values) for space in spaces if isinstance(space, Choice)]
        return len(sizes) == len(spaces) and len(self.trials) >= math.prod(sizes)

    def _opened(self, number: int) -> Any:
        """A running trial as Optuna's `Trial`, which it has no public function for."""
        return self._optuna.trial.Trial(
            self.optuna, self.optuna.get_trials(deepcopy=False)[number]._trial_id
        )

    def _decide(
        self,
        asked: Sequence[tuple[Trial, int]],
        outcomes: Sequence[Outcome],
        stages: int,
        *,
        prune: bool,
    ) -> None:
        """Stores the outcomes of a round, and then what follows for all of its trials."""
        decisions: dict[str, int | str] = {}
        opened = {trial.number: self._opened(trial.number) for trial, _ in asked}
        for (trial, stage), outcome in zip(asked, outcomes, strict=True):
            if isinstance(outcome, float) and stage not in trial.curve:
                opened[trial.number].report(outcome, stage)
        for (trial, stage), outcome in zip(asked, outcomes, strict=True):
            if isinstance(outcome, str):
                decisions[str(trial.number)] = outcome
            elif prune and stage < stages and opened[trial.number].should_prune():
                decisions[str(trial.number)] = "pruned"
            else:
                decisions[str(trial.number)] = stage
        self.optuna.set_user_attr("decisions", decisions)

    def _decisions(self) -> dict[str, int | str]:
        """What followed from the last round for each of its trials: the stage reached, `pruned`, or why it failed."""
        found: dict[str, int | str] = self.optuna.user_attrs.get("decisions", {})
        return found

    def _apply_decisions(self, stages: int, ended: Callable[[Trial], None]) -> None:
        """Ends the trials of the last round that are complete, pruned or failed; repeated calls do nothing."""
        states = self._optuna.trial.TrialState
        for number, decision in self._decisions().items():
            trial = self.optuna.get_trials(deepcopy=False)[int(number)]
            if trial.state != states.RUNNING or (isinstance(decision, int) and decision < stages):
                continue
            if decision == stages:
                self.optuna.tell(trial.number, trial.intermediate_values[stages])
            elif decision == "pruned":
                self.optuna.tell(trial.number, state=states.PRUNED)
            else:
                self._opened(trial.number).set_user_attr("why", decision)
                self.optuna.tell(trial.number, state=states.FAIL)
            ended(self._trial(self.optuna.get_trials(deepcopy=False)[trial.number]))

    def _trial(self, trial: "FrozenTrial") -> Trial:
        states = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}
        state: Any = states.get(trial.state.name, "running")
        fixed = self._optuna.trial.FixedTrial(trial.params)
        settings = {one.name: one.suggest(fixed) for one in self._searched if one.parameter in trial.params}  # fmt: skip
        why = str(trial.user_attrs.get("why", ""))
        return Trial(trial.number, settings, state, dict(trial.intermediate_values), why)


def repair(folder: Path) -> None:
    """Removes what a kill left in the folder of a study: Optuna's lock, and a line that was not written to its end."""
    (folder / f"{JOURNAL}.lock").unlink(missing_ok=True)
    file = folder / JOURNAL
    if file.exists():
        with file.open("r+b") as journal:
            journal.truncate(journal.read().rfind(b"\n") + 1)
