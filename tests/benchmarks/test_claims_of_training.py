"""Claims of the papers on ways of training, judged on made-up results."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from rlbench.benchmarks.papers import (
    born_again,
    deconstructing_tickets as deconstructing,
    fedavg,
    load_paper,
    mixmatch,
    smooth_adversarial as smooth,
    ticket_transfer as transfer,
    wasserstein_dependency as wasserstein,
)
from rlbench.benchmarks.papers._step_sizes import name
from rlbench.benchmarks.tables.results import Missing, Result, Results
from rlbench.benchmarks.training.analysing import Analysed
from rlbench.benchmarks.training.learners import load_learner
from rlbench.benchmarks.training.run_folder import RunFolder
from tests.benchmarks.test_claims_of_papers import result, verdict

NAMES = (
    "born-again", "deconstructing-tickets", "fedavg", "mixmatch", "smooth-adversarial", "ticket-transfer", "wasserstein-dependency",
)  # fmt: skip


@pytest.mark.parametrize("paper", NAMES)
def test_every_grid_has_enough_seeds_and_settings_that_exist(paper: str) -> None:
    found = load_paper(paper)
    seeds = {"mixmatch": 5, "born-again": 10}.get(paper, 3)
    for grids in found.grids.values():
        assert all(grid.seeds == seeds for grid in grids)
        columns = [(x, m.name) for grid in grids for x in grid.tasks for m in grid.methods]
        assert len(set(columns)) == len(columns)
        assert found.method in {method for _, method in columns}
        for method in (method for grid in grids for method in grid.methods):
            load_learner(method.learner).Config(**method.settings)
            if method.pretrained is not None:
                assert method.pretrained[::-1] in columns
    for claim in found.claims:
        with pytest.raises(Missing):
            claim.judge(Results([]))


def searched(
    task: str,
    columns: Mapping[str, Mapping[str, Any]],
    sizes: tuple[float, ...],
    seeds: int = 2,
) -> list[Result]:
    """Runs of each network, whose last step size is the best; a list has a value for each seed."""
    return [
        result(
            name(network, size), task, seed,
            **{k: [(x[seed] if isinstance(x, list) else x) * (size == sizes[-1])] for k, x in values.items()},
        )
        for network, values in columns.items()
        for size in sizes
        for seed in range(seeds)
    ]  # fmt: skip


def curves(monkeypatch: pytest.MonkeyPatch, saved: Mapping[str, Mapping[str, list[float]]]) -> None:
    """Evaluations of each method, one example each, after every update."""

    def evaluations(folder: RunFolder) -> dict[str, Any]:
        columns = saved[folder.path.name.rpartition("-")[0]]
        count = len(next(iter(columns.values())))
        return {"update": np.arange(1, count + 1), **{k: np.array(x)[:, None] for k, x in columns.items()}}  # fmt: skip

    monkeypatch.setattr(RunFolder, "evaluations", evaluations)


@pytest.mark.parametrize(("sgd", "holds"), [(4, True), (3, False), (None, True)])
def test_fedavg_must_need_at_most_half_the_rounds(
    monkeypatch: pytest.MonkeyPatch, sgd: int | None, holds: bool
) -> None:
    def reached(at: int | None) -> dict[str, list[float]]:
        return {"accuracy": [0.94 if at and k >= at else 0.5 for k in range(1, 6)]}

    best = {fedavg.SGD: reached(sgd), fedavg.WHOLE: reached(3), fedavg.AVG: reached(2)}
    saved = {
        name(work, size): curve if size == 0.3 else reached(None)
        for work, curve in best.items()
        for size in fedavg.STEP_SIZES
    }
    curves(monkeypatch, saved)
    runs = [
        result(method, fedavg.IID, seed, accuracy=[0.0]) for method in saved for seed in range(2)
    ]
    assert verdict(fedavg.PAPER, "F1", Results(runs)).holds == holds


def test_fedavg_that_never_reaches_the_target_does_not_hold(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    methods = [name(work, size) for work in fedavg.WORK for size in fedavg.STEP_SIZES]
    curves(monkeypatch, {method: {"accuracy": [0.5]} for method in methods})
    runs = [result(method, fedavg.SHARDS, accuracy=[0.0]) for method in methods]
    assert verdict(fedavg.PAPER, "F2", Results(runs)).holds is False


@pytest.mark.parametrize(("ours", "holds"), [(0.87, True), (0.85, False)])
def test_mixmatch_must_have_at_most_seven_tenths_of_the_error(ours: float, holds: bool) -> None:
    networks = {mixmatch.MIXMATCH: {"accuracy": ours}, mixmatch.SUPERVISED: {"accuracy": 0.8}}
    results = Results(searched(mixmatch.TASK, networks, mixmatch.STEP_SIZES))
    assert verdict(mixmatch.PAPER, "X1", results).holds == holds


@pytest.mark.parametrize(("worst", "holds"), [(0.85, True), (0.9, False)])
def test_each_part_of_mixmatch_must_lower_the_error(worst: float, holds: bool) -> None:
    networks = {title: {"accuracy": 0.8} for title in mixmatch.WITHOUT}
    networks["K = 1"] = {"accuracy": worst}
    networks |= {mixmatch.MIXMATCH: {"accuracy": 0.9}}
    results = Results(searched(mixmatch.TASK, networks, mixmatch.STEP_SIZES))
    assert verdict(mixmatch.PAPER, "X2", results).holds == holds


def students(**means: list[float]) -> Results:
    usual = {title: [0.8 + 0.001 * seed for seed in range(6)] for title in born_again.OBJECTIVES}
    columns = {title: {born_again.STUDENT: x} for title, x in (usual | means).items()}
    return Results(searched(born_again.TASK, columns, born_again.STEP_SIZES, seeds=6))


def test_a_student_must_be_better_in_a_paired_test() -> None:
    better = [0.81 + 0.001 * seed for seed in range(6)]
    assert verdict(born_again.PAPER, "B1", students(BAN=better)).holds
    assert not verdict(born_again.PAPER, "B1", students()).holds
    # Better on average, by one seed alone.
    lucky = [0.9, *(0.799 + 0.001 * seed for seed in range(1, 6))]
    assert not verdict(born_again.PAPER, "B1", students(BAN=lucky)).holds


def test_permuted_predictions_must_lie_between_the_others() -> None:
    best, good = ([x + 0.001 * seed for seed in range(6)] for x in (0.83, 0.82))
    assert verdict(born_again.PAPER, "B2", students(BAN=best, DKPP=good)).holds
    assert not verdict(born_again.PAPER, "B2", students(BAN=good, DKPP=best)).holds


@pytest.mark.parametrize(
    ("other", "random", "holds"), [(0.91, 0.87, True), (0.89, 0.85, False), (0.91, 0.89, False)]
)
def test_a_ticket_must_beat_random_ones_and_equal_its_own(
    other: float, random: float, holds: bool
) -> None:
    means = {
        transfer.OWN: 0.92, transfer.OTHER: other, transfer.RANDOM: random, transfer.REDRAWN: 0.5, transfer.DENSE: 0.9,
    }  # fmt: skip
    runs = [
        result(f"{title}, trained", transfer.DIGITS, seed, accuracy=[x])
        for title, x in means.items()
        for seed in range(2)
    ]
    assert verdict(transfer.PAPER, "T1", Results(runs)).holds == holds


def variants(**means: float) -> Results:
    usual = dict.fromkeys(
        [*deconstructing.KEPT, *deconstructing.CRITERIA, *deconstructing.PRUNED], 0.9
    )
    usual |= {deconstructing.TICKET: 0.95, "signed constant": 0.94, "magnitude increase": 0.94}
    usual |= {"freeze init, zero mask": 0.945, deconstructing.SUPERMASK: 0.85}
    found = usual | {title.replace("_", " "): x for title, x in means.items()}
    return Results(
        result(title, deconstructing.TASK, seed, accuracy=[x])
        for title, x in found.items()
        for seed in range(2)
    )


@pytest.mark.parametrize(
    ("claim", "changed"),
    [("D1", "signed_constant"), ("D2", "magnitude_increase")],
)
def test_choices_that_the_paper_makes_must_cost_little(claim: str, changed: str) -> None:
    assert verdict(deconstructing.PAPER, claim, variants()).holds
    assert not verdict(deconstructing.PAPER, claim, variants(**{changed: 0.92})).holds


@pytest.mark.parametrize(("claim", "changed"), [("D1", "reinit"), ("D2", "random"), ("D2", "small_final")])  # fmt: skip
def test_other_choices_must_cost_more(claim: str, changed: str) -> None:
    assert not verdict(deconstructing.PAPER, claim, variants(**{changed: 0.94})).holds


def test_freezing_must_cost_at_most_a_point() -> None:
    assert verdict(deconstructing.PAPER, "D3", variants()).holds
    changed = {"freeze init, zero mask": 0.935}
    assert not verdict(deconstructing.PAPER, "D3", variants(**changed)).holds


@pytest.mark.parametrize(
    ("signs", "learned", "holds"), [(0.6, 0.85, True), (0.4, 0.85, False), (0.6, 0.79, False)]
)
def test_supermasks_must_be_far_above_chance(
    monkeypatch: pytest.MonkeyPatch, signs: float, learned: float, holds: bool
) -> None:
    # The first evaluation comes before any pruning, and does not count.
    saved = {deconstructing.SAME_SIGN: [0.9, signs, 0.3], "signed constant": [0.9, 0.5, 0.2]}
    curves(monkeypatch, {method: {"supermask": x} for method, x in saved.items()})
    runs = [result(method, deconstructing.TASK, accuracy=[0.9]) for method in saved]
    runs.append(result(deconstructing.SUPERMASK, deconstructing.TASK, accuracy=[learned]))
    assert verdict(deconstructing.PAPER, "D4", Results(runs)).holds == holds


def certified(
    ours: list[float], noise: list[float], plain: list[float], broken: float = 0
) -> Results:
    """Radii of test examples of each method."""
    radii = {smooth.SMOOTH: ours, smooth.GAUSSIAN: noise, smooth.STANDARD: plain}
    networks = {title: {"radius": float(np.mean(x))} for title, x in radii.items()}
    analyses = [
        (
            name(title, size), smooth.TASK,
            Analysed(smooth.ANALYSIS, {"broken certificates": broken}, (), {"radius": np.array(x)}),
        )
        for title, x in radii.items()
        for size in smooth.STEP_SIZES
    ]  # fmt: skip
    return Results(searched(smooth.TASK, networks, smooth.STEP_SIZES), analyses)


def test_smoothadv_must_certify_larger_radii() -> None:
    assert verdict(smooth.PAPER, "S1", certified([0.8, 0.5], [0.7, 0.5], [0.1, 0.1])).holds
    assert not verdict(smooth.PAPER, "S1", certified([0.8, 0.42], [0.7, 0.5], [0.1, 0.1])).holds
    assert not verdict(smooth.PAPER, "S1", certified([0.74, 0.7], [0.7, 0.5], [0.1, 0.1])).holds
    assert not verdict(smooth.PAPER, "S1", certified([0.8, 0.5], [0.7, 0.5], [0.7, 0.6])).holds


def test_no_certificate_may_break() -> None:
    radii = [0.8], [0.7], [0.1]
    assert verdict(smooth.PAPER, "S2", certified(*radii)).holds
    assert not verdict(smooth.PAPER, "S2", certified(*radii, broken=1)).holds


@pytest.mark.parametrize(
    ("cpc", "wpc", "one", "holds"),
    [(0.6, 0.66, 0.9, True), (0.6, 0.64, 0.9, False), (0.6, 0.66, 0.84, False)],
)
def test_the_wasserstein_form_must_find_more_of_many_digits(
    cpc: float, wpc: float, one: float, holds: bool
) -> None:
    found: list[Result] = []
    for task, ours, theirs in ((wasserstein.ONE, one, 0.9), (wasserstein.NINE, wpc, cpc)):
        networks = {wasserstein.WPC: {"probe": ours}, wasserstein.CPC: {"probe": theirs}}
        found += searched(task, networks, wasserstein.STEP_SIZES)
        found.append(result(wasserstein.UNTRAINED, task, probe=[0.1]))
    assert verdict(wasserstein.PAPER, "W1", Results(found)).holds == holds
