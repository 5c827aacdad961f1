"""Claims about manipulated explanations, judged on made-up results."""

from typing import Any

import pytest

from rlbench.backbones.analyses.explain import ExplainConfig
from rlbench.backbones.layers.attributions import METHODS
from rlbench.benchmarks.papers import manipulated_explanations as paper
from rlbench.benchmarks.tables.results import Missing, Results
from rlbench.benchmarks.training.analysing import Analysed
from rlbench.benchmarks.training.learners import load_learner
from tests.benchmarks.test_claims_of_papers import verdict

FOUND = {
    "kept": 1.0, "change": 0.01, "target before": 0.2, "target after": 0.6, "original": 0.5, "noise": 0.75,
    "target before, softplus 1": 0.3, "target after, softplus 1": 0.45, "target before, softplus 3": 0.3, "target after, softplus 3": 0.45,
}  # fmt: skip


def results(task: str = paper.OBJECTS, only: str = "", **other: Any) -> Results:
    """Two seeds; the values in `other`, with _ for a space, belong to the method `only`, or to all."""
    changed = {name.replace("__", ", ").replace("_", " "): x for name, x in other.items()}
    numbers = {
        f"{method}: {name}": x
        for method in METHODS
        for name, x in (FOUND | (changed if only in ("", method) else {})).items()
    }
    accuracy = {"accuracy": 0.98, "accuracy with softplus 1": 0.3, "accuracy with softplus 3": 0.9}
    of = paper.SHAPES if task == paper.OBJECTS else paper.CLASSIFIER
    one = of, task, Analysed(paper.ANALYSIS, numbers | accuracy, (), {})
    return Results([], [one, one])


def test_grids_and_analyses_have_settings_that_exist() -> None:
    for scale, grids in paper.PAPER.grids.items():
        assert all(grid.seeds == 3 for grid in grids)
        for method in (method for grid in grids for method in grid.methods):
            load_learner(method.learner).Config(**method.settings)
        for analysis in paper.PAPER.analyses[scale]:
            assert ExplainConfig(**analysis.settings).softplus[:2] == paper.SMOOTH
            assert (analysis.methods[0], analysis.tasks) in [(x.methods[0].name, x.tasks) for x in grids]  # fmt: skip
    for claim in paper.PAPER.claims:
        with pytest.raises(Missing):
            claim.judge(Results([]))


@pytest.mark.parametrize(
    ("changed", "holds"),
    [
        ({}, True), ({"target_after": 0.49}, False), ({"kept": 0.94}, False), ({"change": 0.06}, False),
        ({"only": "guided-backpropagation", "kept": 0.5}, True),
    ],
)  # fmt: skip
def test_maps_must_move_and_answers_must_stay(changed: dict[str, Any], holds: bool) -> None:
    assert verdict(paper.PAPER, "M1", results(**changed)).holds == holds
    if "only" not in changed and changed:
        assert not verdict(paper.PAPER, "M1", results(only="gradient", **changed)).holds


def test_noise_must_move_maps_less() -> None:
    assert verdict(paper.PAPER, "M2", results()).holds
    assert not verdict(paper.PAPER, "M2", results(only="integrated-gradients", noise=0.69)).holds


def test_every_softplus_must_halve_the_rise() -> None:
    assert verdict(paper.PAPER, "M3", results()).holds
    assert not verdict(paper.PAPER, "M3", results(target_after__softplus_1=0.51)).holds
    assert not verdict(paper.PAPER, "M3", results(target_after__softplus_3=0.51)).holds
    assert "accuracy: 98, 30, 90 %" in verdict(paper.PAPER, "M3", results()).evidence


def test_the_weak_criterion_is_that_of_digits() -> None:
    assert verdict(paper.PAPER, "M4", results(paper.DIGITS)).holds
    assert not verdict(paper.PAPER, "M4", results(paper.DIGITS, target_after=0.34)).holds
    assert not verdict(paper.PAPER, "M4", results(paper.DIGITS, target_after__softplus_1=0.55)).holds  # fmt: skip


def test_the_order_of_the_methods_is_reported() -> None:
    found = verdict(paper.PAPER, "M5", results(only="lrp", target_after=0.9))
    assert found.holds is None
    assert "manipulation: 0.90 for lrp (a rise of 0.70), 0.60 for gradient" in found.evidence
