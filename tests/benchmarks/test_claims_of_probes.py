"""Claims of the paper on decodable features, judged on made-up results."""

import pytest

from rlbench.backbones.analyses import load_analysis
from rlbench.benchmarks.papers import feature_decodability as paper
from rlbench.benchmarks.tables.results import Missing, Results
from rlbench.benchmarks.training.analysing import Analysed
from rlbench.benchmarks.training.learners import load_learner
from rlbench.envs.examples import find_source
from tests.benchmarks.test_claims_of_papers import result, verdict

BEFORE = {"shape": 0.4, "colour": 0.96, "texture": 0.45}
Decoded = dict[str, float]


def decoded(
    shape: Decoded | None = None,
    texture: Decoded | None = None,
    same: Decoded | None = None,
    mostly: Decoded | None = None,
    before: Decoded | None = None,
) -> Results:
    """Decodability by network: trained on shape, on texture, and on shape when colours agree always or mostly."""
    usual = {"shape": 0.5, "colour": 0.7, "texture": 0.5}
    rows = {
        (paper.trained_on("shape"), paper.INDEPENDENT): {**usual, "shape": 0.8, **(shape or {})},
        (paper.trained_on("texture"), paper.INDEPENDENT): {
            **usual,
            "texture": 0.9,
            **(texture or {}),
        },
        (paper.trained_on("shape"), paper.SAME): {
            **usual,
            "shape": 0.35,
            "colour": 0.99,
            **(same or {}),
        },
        (paper.trained_on("shape"), paper.MOSTLY): {**usual, "colour": 0.9, **(mostly or {})},
    }
    untrained = {f"{name}, untrained": x for name, x in (BEFORE | (before or {})).items()}
    analyses = [
        (
            method, task,
            Analysed(paper.PROBE, {f"{name}, trained": x for name, x in found.items()} | untrained, (), {}),
        )
        for (method, task), found in rows.items()
        for _ in range(2)
    ]  # fmt: skip
    return Results([], analyses)


@pytest.mark.parametrize(
    ("claim", "different", "holds"),
    [
        ("D1", {}, True),
        ("D1", {"before": {"shape": 0.97}}, False),
        ("D2", {}, True),
        ("D2", {"shape": {"shape": 0.49}}, False),
        ("D2", {"texture": {"texture": 0.54}}, False),
        ("D2", {"texture": {"colour": 0.77}}, False),
        ("D3", {}, True),
        ("D3", {"same": {"colour": 0.89}}, False),
        ("D3", {"same": {"shape": 0.41}}, False),
        ("D3", {"same": {"shape": 0.39}, "shape": {"shape": 0.53}}, False),
        ("D4", {}, True),
        ("D4", {"mostly": {"shape": 0.91}}, False),
    ],
)
def test_each_claim_follows_from_its_criterion(
    claim: str, different: dict[str, Decoded], holds: bool
) -> None:
    assert verdict(paper.PAPER, claim, decoded(**different)).holds == holds


def test_what_a_policy_knows_is_reported() -> None:
    analyses, runs = [], []
    for level, facts in paper.LEVELS.items():
        numbers = {
            f"{fact}, {network}": x
            for fact in facts
            for network, x in (("trained", 0.9), ("untrained", 0.5))
        }
        analyses.append((paper.POLICY, level, Analysed(paper.PROBE, numbers, (), {})))
        runs.append(result(paper.POLICY, level, 0, **{"return": [0.5, 0.0, 0.7, 0.9]}))
    found = verdict(paper.PAPER, "D5", Results(runs, analyses))
    assert found.holds is None
    assert "door from 50.0 (50.0) to 90.0 (90.0)" in found.evidence
    assert found.evidence.endswith("solved episodes: 75.0 (75.0)")


def test_without_results_every_claim_is_missing() -> None:
    for claim in paper.PAPER.claims:
        with pytest.raises(Missing):
            claim.judge(Results([]))


def test_all_settings_exist() -> None:
    for grids in paper.PAPER.grids.values():
        for grid in grids:
            assert grid.seeds == 3
            for method in grid.methods:
                load_learner(method.learner).Config(**method.settings)
    for analyses in paper.PAPER.analyses.values():
        for each in analyses:
            load_analysis(each.analysis).Config(**each.settings)
            assert all(find_source(x) for x in each.tasks if x not in paper.LEVELS)
