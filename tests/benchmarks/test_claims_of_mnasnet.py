"""Claims of MnasNet, judged on made-up searches."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlbench.benchmarks.papers import mnasnet
from rlbench.benchmarks.papers.mnasnet import CONTROLLER, PAPER, RANDOM
from rlbench.benchmarks.tables.paper import Verdict
from rlbench.benchmarks.tables.results import Missing, Results
from rlbench.benchmarks.training.analysing import Analysed
from rlbench.envs.architectures.names import TABULATED
from rlbench.envs.architectures.space import find_space

Searches = list[tuple[str, str, Analysed]]


def search(
    reward: list[float], latency: list[float] | None = None, accuracy: list[float] | None = None,
    numbers: Mapping[str, float] | None = None,
) -> Analysed:  # fmt: skip
    """A search of different architectures."""
    columns: dict[str, Any] = {
        "reward": np.array(reward),
        "latency_ms": np.array(latency or reward),
        "accuracy": np.array(accuracy or reward),
        "number": np.arange(len(reward)),
    }
    known = {**(numbers or {}), "best reward": max(reward)}
    return Analysed("front", known, (), columns)


def judged(claim: str, found: Searches) -> Verdict:
    (one,) = [x for x in PAPER.claims if x.name == claim]
    return one.judge(Results([], found))


def sides(soft: list[float], hard: list[float]) -> Searches:
    others = {
        "standard deviation of log latency": 0.1,
        "architectures on the front": 3.0,
        "hypervolume": 0.5,
    }
    return [
        (CONTROLLER, task, search([0.5], numbers={"share above the target": x, **others}))
        for task, each in ((mnasnet.TINY, soft), (mnasnet.HARD, hard))
        for x in each
    ]


def test_the_soft_reward_must_be_slower_in_four_of_five_seeds() -> None:
    assert judged("C1", sides([0.9, 0.9, 0.9, 0.9, 0.1], [0.2] * 5)).holds
    assert not judged("C1", sides([0.9, 0.9, 0.9, 0.1, 0.1], [0.2] * 5)).holds


@pytest.mark.parametrize(
    ("latency", "accuracy", "holds"), [(2.0, 0.505, True), (0.9, 0.505, False), (2.0, 0.52, False)]
)
def test_accuracy_alone_must_be_slower_for_at_most_a_point(
    latency: float, accuracy: float, holds: bool
) -> None:
    # The ten best count, so that the last two do not.
    rows = (
        (mnasnet.TINY, 1.0, 0.5),
        (mnasnet.ACCURACY, latency, accuracy),
    )
    found = [
        (CONTROLLER, task, search([0.9] * 10 + [0.1] * 2, [x] * 10 + [100.0] * 2, [y] * 10 + [0.0] * 2))
        for task, x, y in rows
    ]  # fmt: skip
    assert judged("C2", found).holds == holds


def test_the_same_architecture_counts_once_among_the_best() -> None:
    found = search([0.9] * 12, list(range(1, 13)))
    found.columns["number"][:] = [0] * 11 + [1]
    assert mnasnet.top_architectures(found)[0] == (1 + 12) / 2


def test_correlations_with_latency(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space = find_space("mnas-nano")
    rows = [space.canonical((op, 0, 0, 2, 1, 1) * 3) for op in range(4)]
    content = {
        "space": "mnas-nano", "tokens": rows, "accuracy": [0.5] * 4, "seconds": [1.0] * 4, "latency_ms": [1.0, 2.0, 3.0, 4.0],
        "parameters": [1, 2, 3, 4], "multiply_adds": [1, 0, 0, 1],
    }  # fmt: skip
    file = tmp_path / "nano.json"
    file.write_text(json.dumps(content))
    known = TABULATED["nano"]
    monkeypatch.setitem(TABULATED, "nano", type(known)(known.space, file, ""))
    found = mnasnet.correlations()
    assert found == {"parameters": pytest.approx(1.0), "multiply-adds": pytest.approx(0.0)}
    with pytest.raises(Missing):
        judged("C4", [])


def test_a_rival_is_at_least_as_fast() -> None:
    found = search([0.0] * 3, [1.0, 2.0, 3.0], [0.5, 0.6, 0.9])
    assert mnasnet.best_within(found, 2.5) == 0.6
    assert np.isnan(mnasnet.best_within(found, 0.5))
    numbers = {f"width {x:g}: {y}": 2.0 for x in mnasnet.WIDTHS for y in ("latency in ms", "accuracy")}  # fmt: skip
    rows = [
        (CONTROLLER, mnasnet.TRAINED, search([0.5], numbers=numbers)),
        (CONTROLLER, mnasnet.TIGHT, found),
    ]
    assert "width 0.5: 200.0 against 60.0 at 2.00 ms" in judged("C5", rows).evidence


def compared(tiny: float = 0.9, nano: float = 0.9, trained: float = 0.9) -> Searches:
    """Five seeds, of which one is lost, against random searches of 0.5."""
    found: Searches = []
    for method, task, ours in (
        (mnasnet.SHORT, mnasnet.TINY, tiny),
        (CONTROLLER, mnasnet.NANO, nano),
        (CONTROLLER, mnasnet.TRAINED, trained),
    ):
        found += [(method, task, search([0.1, best])) for best in (ours, ours, ours, ours, 0.4)]
    for method, task in (
        (mnasnet.SHORT_RANDOM, mnasnet.TINY),
        *((x, mnasnet.NANO) for x in mnasnet.SEARCHERS if x != CONTROLLER),
        (RANDOM, mnasnet.TRAINED),
    ):
        found += [(method, task, search([0.1, 0.5]))] * 5
    return found


def test_the_controller_must_beat_random_search_everywhere() -> None:
    assert judged("C6", compared()).holds
    assert not judged("C6", compared(tiny=0.5)).holds, "equal is not better"
    assert not judged("C6", compared(nano=0.5)).holds
    assert not judged("C6", compared(trained=0.51)).holds, "the mean of the seeds decides"
    assert "controller 0.900/0.900/0.900/0.900/0.400 (last 50: 0.450)" in judged("C6", compared()).evidence  # fmt: skip
