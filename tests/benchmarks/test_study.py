"""A study with a fake objective: its trials, and that a kill changes none of them."""

import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from optuna.storages.journal import JournalFileBackend

from rlbench.benchmarks.tuning import study as module
from rlbench.benchmarks.tuning.spaces import Choice, Interval, Searched
from rlbench.benchmarks.tuning.study import JOURNAL, Outcome, Study, Trial, repair
from rlbench.errors import UserError

SEARCHED = (
    Searched("rate", Interval(1e-5, 1e-1), 1e-3),
    Searched("discount", Interval(0.9, 0.999, from_one=True), 0.99),
    Searched("size", Choice((64, 128, 256)), 64),
)


def outcome(trial: Trial, stage: int) -> Outcome:
    """Best at a rate of 0.01 and a size of 256; trial 3 is bad, and trial 4 fails."""
    distance = abs(math.log10(trial.settings["rate"]) + 2) + (256 - trial.settings["size"]) / 256
    if trial.number == 4:
        return "run 0 diverged"
    return float(stage / 4 - distance - 10 * (trial.number == 3))


class Fake:
    """A `Train` that remembers what it was asked for."""

    def __init__(self, outcome: Callable[[Trial, int], Outcome] = outcome) -> None:
        self.asked: list[list[tuple[int, int]]] = []
        self._outcome = outcome

    def __call__(self, asked: Sequence[tuple[Trial, int]]) -> list[Outcome]:
        self.asked.append([(trial.number, stage) for trial, stage in asked])
        return [self._outcome(trial, stage) for trial, stage in asked]


def run(
    folder: Path,
    count: int = 8,
    *,
    seed: int = 0,
    train: Fake | None = None,
    searched: Sequence[Searched] = SEARCHED,
    maximise: bool = True,
    **options: Any,
) -> list[Trial]:
    folder.mkdir(exist_ok=True)
    repair(folder)
    study = Study(folder, searched, seed, maximise=maximise)
    given = {"at_once": 2, "stages": 4, "prune": True, "ended": lambda trial: None, **options}
    study.run(train or Fake(), count, **given)
    return study.trials


@pytest.fixture
def _early(monkeypatch: pytest.MonkeyPatch) -> None:
    """Proposals from results, and pruning, begin after few trials."""
    monkeypatch.setattr(module, "STARTUP", 3)
    monkeypatch.setattr(module, "UNPRUNED", 2)


def test_the_defaults_come_first_and_every_trial_is_another(tmp_path: Path) -> None:
    trials = run(tmp_path)
    assert trials[0].settings == {"rate": 1e-3, "discount": 0.99, "size": 64}
    assert [trial.number for trial in trials] == [*range(8)]
    assert len({str(trial.settings) for trial in trials}) == 8
    assert trials[4].state == "failed"
    assert trials[4].why == "run 0 diverged"
    assert trials[4].value is None
    complete = [trial for trial in trials if trial.state == "complete"]
    assert all(trial.value == outcome(trial, 4) and len(trial.curve) == 4 for trial in complete)


def test_defaults_outside_the_ranges_are_no_trial(tmp_path: Path) -> None:
    outside = (Searched("rate", Interval(0.1, 0.2), 1e-3),)
    trials = run(tmp_path, 1, searched=outside, train=Fake(lambda trial, stage: 0.0))
    assert 0.1 <= trials[0].settings["rate"] <= 0.2


@pytest.mark.usefixtures("_early")
def test_a_trial_below_the_median_ends_early(tmp_path: Path) -> None:
    train = Fake(lambda trial, stage: float(stage - 10 * trial.number))
    trials = run(tmp_path, 4, train=train, at_once=1)
    assert [trial.state for trial in trials] == ["complete", "complete", "pruned", "pruned"]
    assert trials[2].curve == {1: -19.0}
    assert trials[2].value == -19.0
    assert train.asked[-2:] == [[(2, 1)], [(3, 1)]]
    assert Study(tmp_path, SEARCHED, 0, maximise=True).best == trials[0]


@pytest.mark.usefixtures("_early")
def test_lower_is_better_if_the_measure_says_so(tmp_path: Path) -> None:
    train = Fake(lambda trial, stage: float(10 * trial.number - stage))
    trials = run(tmp_path, 4, train=train, at_once=1, maximise=False)
    assert [trial.state for trial in trials] == ["complete", "complete", "pruned", "pruned"]
    assert Study(tmp_path, SEARCHED, 0, maximise=False).best == trials[0]


@pytest.mark.usefixtures("_early")
def test_without_pruning_every_trial_is_complete(tmp_path: Path) -> None:
    train = Fake(lambda trial, stage: float(stage - 10 * trial.number))
    assert {x.state for x in run(tmp_path, 4, train=train, prune=False)} == {"complete"}


def test_a_round_trains_each_trial_for_one_stage(tmp_path: Path) -> None:
    train = Fake()
    run(tmp_path, 3, train=train)
    both = [[(0, stage), (1, stage)] for stage in (1, 2, 3, 4)]
    assert train.asked == [*both, *([(2, stage)] for stage in (1, 2, 3, 4))]


@pytest.mark.usefixtures("_early")
@pytest.mark.parametrize("every", [7, pytest.param(1, marks=pytest.mark.slow)])
def test_a_study_killed_before_any_write_ends_like_one_that_never_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: int
) -> None:
    class Killed(BaseException):
        pass

    write, left = JournalFileBackend.append_logs, [10**9]

    def killing(self: JournalFileBackend, logs: list[dict[str, Any]]) -> None:
        if not left[0]:
            raise Killed
        left[0] -= 1
        write(self, logs)

    monkeypatch.setattr(os, "fsync", lambda file: None)  # No power fails here, and it takes long.
    monkeypatch.setattr(JournalFileBackend, "append_logs", killing)
    expected = run(tmp_path / "whole", 6)
    assert {trial.state for trial in expected} == {"complete", "pruned", "failed"}
    writes = 10**9 - left[0]
    assert writes > 50
    for number in range(0, writes, every):
        folder = tmp_path / str(number)
        left[0] = number
        with pytest.raises(Killed):
            run(folder, 6)
        left[0] = 10**9
        with (folder / JOURNAL).open("a") as journal:
            journal.write('{"op_code":4,"wor' * (number % 2))
        (folder / f"{JOURNAL}.lock").symlink_to(JOURNAL)
        assert run(folder, 6) == expected, f"killed before write {number}"


def test_a_finished_study_can_be_extended(tmp_path: Path) -> None:
    train = Fake()
    first = run(tmp_path, 3)
    assert run(tmp_path, 3, train=train) == first
    assert not train.asked
    assert run(tmp_path, 5)[:3] == first


def test_the_seed_decides_the_proposals(tmp_path: Path) -> None:
    assert run(tmp_path / "a", 4) == run(tmp_path / "b", 4)
    assert run(tmp_path / "a", 4)[1:] != run(tmp_path / "c", 4, seed=1)[1:]


def test_a_study_ends_when_every_combination_has_been_tried(tmp_path: Path) -> None:
    choices = (Searched("rate", Choice((0.1, 0.01)), 0.1), Searched("size", Choice((64, 128)), 64))
    trials = run(tmp_path, 9, searched=choices, train=Fake(lambda trial, stage: 0.0))
    assert len({str(trial.settings) for trial in trials}) == len(trials) == 4


def test_a_missing_optuna_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UserError, match=r"pip install 'rlbench\[tune\]'"):
        module.load_optuna()
