"""The evaluator that trains and measures: what it stores, what it does again, and locks."""

import dataclasses
import fcntl
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from rlbench.envs.architectures import store, trained
from rlbench.envs.architectures.children import Child
from rlbench.envs.architectures.evaluate import Evaluation, Tokens
from rlbench.envs.architectures.latency import Latency
from rlbench.envs.architectures.space import find_space
from rlbench.envs.architectures.trained import TrainedEvaluator
from tests.images import QUICK, TINY, evaluator, measure_quickly, source

FIRST, SECOND, THIRD = (0, 0, 2, 0, 0, 2), (1, 0, 2, 0, 0, 2), (0, 1, 2, 1, 0, 2)


class Calls:
    """Counts what is trained and measured, which takes no time."""

    def __init__(self) -> None:
        self.trained: list[Any] = []
        self.measured: list[Any] = []
        self.stop_after: int | None = None

    def train(self, network: Any, task: Any, settings: Any, seed: int) -> Child:
        if len(self.trained) == self.stop_after:
            raise KeyboardInterrupt
        self.trained.append(network)
        return Child(0.1 * len(self.trained), 0.5, 10, 20, 1.5, "ok")

    def measure(self, *_: Any) -> Latency:
        self.measured.append(None)
        return Latency(float(len(self.measured)), 1.0, 1.0, 1.0, False)


pytestmark = pytest.mark.usefixtures("own_lock")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    made = Calls()
    monkeypatch.setattr(trained, "train_child", made.train)
    monkeypatch.setattr(trained, "latency_of", made.measure)
    return made


def names(found: list[Evaluation]) -> list[tuple[float | None, float | None, bool]]:
    return [(x.accuracy, x.latency_ms, x.cached) for x in found]


def test_each_architecture_is_trained_and_measured_once(tmp_path: Path, calls: Calls) -> None:
    found = evaluator(tmp_path).evaluate([FIRST, SECOND, FIRST])
    assert names(found) == [(0.1, 1.0, False), (0.2, 2.0, False), (0.1, 1.0, True)]
    assert found[0] == Evaluation(0.1, 1.0, 10, 20, 1.5, "ok", False, 0.5)
    again = evaluator(tmp_path).evaluate([SECOND, FIRST])
    assert names(again) == [(0.2, 2.0, True), (0.1, 1.0, True)]
    assert len(calls.trained) == len(calls.measured) == 2


def test_a_search_that_is_stopped_trains_no_finished_child_again(
    tmp_path: Path, calls: Calls
) -> None:
    calls.stop_after = 2
    with pytest.raises(KeyboardInterrupt):
        evaluator(tmp_path).evaluate([FIRST, SECOND, THIRD])
    assert not calls.measured
    calls.stop_after = None
    found = evaluator(tmp_path).evaluate([FIRST, SECOND, THIRD])
    assert [x.cached for x in found] == [True, True, False]
    assert len(calls.trained) == 3


def test_accuracies_and_latencies_are_stored_apart(tmp_path: Path, calls: Calls) -> None:
    evaluator(tmp_path).evaluate([FIRST])
    # Another seed is another child with the same latency; another batch the same child with another latency.
    evaluator(tmp_path, seed=1).evaluate([FIRST])
    assert (len(calls.trained), len(calls.measured)) == (2, 1)
    TrainedEvaluator(
        TINY, source(), "mine", settings=QUICK, jobs=1, folder=tmp_path, batch=2
    ).evaluate([FIRST])
    assert (len(calls.trained), len(calls.measured)) == (2, 2)


@pytest.mark.parametrize("change", ["images", "settings"])
def test_other_images_and_settings_are_trained_again(
    tmp_path: Path, calls: Calls, change: str
) -> None:
    evaluator(tmp_path).evaluate([FIRST])
    settings = dataclasses.replace(QUICK, version=2) if change == "settings" else QUICK
    count = 61 if change == "images" else 60
    other = TrainedEvaluator(
        TINY, source(count), "mine", settings=settings, jobs=1, folder=tmp_path
    )
    assert not other.evaluate([FIRST])[0].cached


@pytest.mark.parametrize("kind", ["accuracy", "latency"])
@pytest.mark.parametrize("damage", [lambda text: text[:50], lambda text: text.replace("0", "1"), lambda text: "[]", lambda text: text.replace('"ok"', '"no"').replace("false", "true")])  # fmt: skip
def test_damaged_files_are_made_again(tmp_path: Path, calls: Calls, kind: str, damage: Any) -> None:
    evaluator(tmp_path).evaluate([FIRST])
    (file,) = (tmp_path / kind).glob("*.json")
    file.write_text(damage(file.read_text()))
    found = evaluator(tmp_path).evaluate([FIRST])
    assert found[0].cached == (kind == "latency")
    expected = (2, 1) if kind == "accuracy" else (1, 2)
    assert (len(calls.trained), len(calls.measured)) == expected


def test_a_file_of_another_version_is_made_again(tmp_path: Path, calls: Calls) -> None:
    mine = evaluator(tmp_path)
    mine.evaluate([FIRST])
    (file,) = (tmp_path / "accuracy").glob("*.json")
    store.write(tmp_path / "accuracy", json.loads(file.read_text())["key"], {"accuracy": 0.5})
    assert not mine.evaluate([FIRST])[0].cached


def test_spaces_share_results_of_the_same_network(tmp_path: Path, calls: Calls) -> None:
    def of(name: str) -> TrainedEvaluator:
        return TrainedEvaluator(
            find_space(name), source(), "mine", settings=QUICK, jobs=1, folder=tmp_path
        )

    plain: Tokens = (1, 1, 0, 2, 1, 1, 1, 1, 0, 2, 0, 1, 1, 1, 0, 2, 2, 1)
    tied: Tokens = (1, 1, 0, 2, 1, 1, 0, 1, 2, 1)
    assert not of("mnas-nano").evaluate([plain])[0].cached
    assert of("mnas-nano-cell").evaluate([tied])[0].cached


def test_children_train_under_a_shared_and_latencies_under_an_exclusive_lock(
    tmp_path: Path, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def locked(kind: int) -> bool:
        handle = os.open(tmp_path / "rlbench-architectures.lock", os.O_RDONLY)
        try:
            fcntl.flock(handle, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(handle)
        return False

    def look(call: Any) -> Any:
        def wrapped(*args: Any) -> Any:
            seen.append((locked(fcntl.LOCK_SH), locked(fcntl.LOCK_EX)))
            return call(*args)

        return wrapped

    monkeypatch.setattr(trained, "train_child", look(calls.train))
    monkeypatch.setattr(trained, "latency_of", look(calls.measure))
    evaluator(tmp_path).evaluate([FIRST])
    assert seen == [(False, True), (True, True)]
    assert not locked(fcntl.LOCK_EX)


def test_a_measurement_waits_for_training(tmp_path: Path) -> None:
    entered = threading.Event()

    def measuring() -> None:
        with store.machine(alone=True):
            entered.set()

    with store.machine(alone=False), store.machine(alone=False):
        waiting = threading.Thread(target=measuring)
        waiting.start()
        assert not entered.wait(0.05)
    waiting.join(5)
    assert entered.is_set()


def test_without_locks_nothing_is_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "fcntl", None)
    with store.machine(alone=True), store.machine(alone=True):
        assert not list(tmp_path.glob("*.lock"))


def test_processes_train_the_same_children_and_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure_quickly(monkeypatch)
    alone = evaluator(tmp_path / "alone").evaluate([FIRST, SECOND])
    with_others = evaluator(tmp_path / "two", jobs=2)
    try:
        found = with_others.evaluate([FIRST, SECOND])
        assert [(x.accuracy, x.test_accuracy) for x in found] == [
            (x.accuracy, x.test_accuracy) for x in alone
        ]
        submit = with_others._submit
        assert submit is not None
        with_others.evaluate([THIRD, (1, 1, 2, 1, 0, 2)])
        assert with_others._submit is submit
    finally:
        with_others.close()
    assert with_others._submit is None
    assert len(list((tmp_path / "two" / "accuracy").glob("*.json"))) == 4
